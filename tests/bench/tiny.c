/* The smallest application: without a library, so that its start costs almost nothing.
 *
 * A C library reads the processor's identity at every start. In a virtual machine that
 * takes longer than the rest (0.3 of 0.4 ms here), and no server can influence it. The
 * program writes one word at once, and then echoes.
 */
#if defined __x86_64__
static long call(long number, long a, const void *b, long c) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c)
                     : "rcx", "r11", "memory");
    return result;
}
enum { READ = 0, WRITE = 1, EXIT = 60 };
#elif defined __aarch64__
static long call(long number, long a, const void *b, long c) {
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x2 __asm__("x2") = c;
    register const void *x1 __asm__("x1") = b;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    return x0;
}
enum { READ = 63, WRITE = 64, EXIT = 93 };
#else
#error no system calls are known for this processor
#endif

static void put(const char *data, long size) {
    long sent, done;
    for (done = 0; done < size; done += sent)
        if ((sent = call(WRITE, 1, data + done, size - done)) <= 0)
            call(EXIT, 1, 0, 0);
}

void _start(void) {
    char buffer[1024];
    long size;
    put("here\n", 5);
    while ((size = call(READ, 0, buffer, sizeof buffer)) > 0)
        put(buffer, size);
    call(EXIT, 0, 0, 0);
}
