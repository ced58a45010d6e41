/* clone3(2), whose child runs a function on a stack of its own, perhaps in a cgroup.
 *
 * glibc offers no function for it. A child that shares the memory of its parent cannot
 * return on the parent's stack, so these few instructions call the function at once.
 * x86-64 and aarch64: elsewhere ENOSYS is returned. Linux 5.7.
 */
#ifndef CHIMIRROR_CLONE3_H
#define CHIMIRROR_CLONE3_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif
#ifndef CLONE_CLEAR_SIGHAND
#define CLONE_CLEAR_SIGHAND 0x100000000ULL
#endif
#define CLONE3_NUMBER 435 /* on all architectures */

/* struct clone_args of the kernel. The headers of older systems end before cgroup. */
struct clone3_arguments {
    uint64_t flags;
    uint64_t pidfd;
    uint64_t child_tid;
    uint64_t parent_tid; /* pointer: gets the pid with CLONE_PARENT_SETTID */
    uint64_t exit_signal;
    uint64_t stack; /* lowest address */
    uint64_t stack_size;
    uint64_t tls;
    uint64_t set_tid;
    uint64_t set_tid_size;
    uint64_t cgroup; /* descriptor of its directory */
};

/* Runs a function, which never returns, in a child. Returns its pid or a negative errno.
 * The kernel keeps the other registers, so the child finds function and argument. */
__attribute__((noinline)) static long
clone3_call(struct clone3_arguments *arguments, int (*function)(void *), void *argument)
{
#if defined(__x86_64__) && !defined(__ILP32__)
    register long result __asm__("rax") = CLONE3_NUMBER;
    register void *first __asm__("rdi") = arguments;
    register size_t second __asm__("rsi") = sizeof *arguments;
    register int (*target)(void *) __asm__("r8") = function;
    register void *value __asm__("r9") = argument;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t" /* the end of the frames */
                     "mov %%r9, %%rdi\n\t"
                     "call *%%r8\n\t"
                     "ud2\n"
                     "1:"
                     : "+r"(result)
                     : "r"(first), "r"(second), "r"(target), "r"(value)
                     : "rcx", "r11", "cc", "memory");
    return result;
#elif defined(__aarch64__) && !defined(__ILP32__)
    register long number __asm__("x8") = CLONE3_NUMBER;
    register long result __asm__("x0") = (long)arguments;
    register size_t second __asm__("x1") = sizeof *arguments;
    register int (*target)(void *) __asm__("x2") = function;
    register void *value __asm__("x3") = argument;
    __asm__ volatile("svc #0\n\t"
                     "cbnz x0, 1f\n\t"
                     "mov x29, #0\n\t" /* the end of the frames */
                     "mov x30, #0\n\t"
                     "mov x0, x3\n\t"
                     "blr x2\n\t"
                     "brk #0\n"
                     "1:"
                     : "+r"(result)
                     : "r"(number), "r"(second), "r"(target), "r"(value)
                     : "cc", "memory");
    return result;
#else
    (void)arguments, (void)function, (void)argument;
    return -ENOSYS;
#endif
}

#endif
