/* The smallest application that answers: it writes what it reads, and no library.
 *
 * Law: what fifty thousand copies of it cost is what a server and a kernel make of a
 * process; see tiny.c, which says why there is no C library in it.
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

void _start(void) {
    char buffer[1024];
    long size, done, sent;
    while ((size = call(READ, 0, buffer, sizeof buffer)) > 0)
        for (done = 0; done < size; done += sent)
            if ((sent = call(WRITE, 1, buffer + done, size - done)) <= 0)
                call(EXIT, 1, 0, 0);
    call(EXIT, 0, 0, 0);
}
