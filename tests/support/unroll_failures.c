/* unroll_failures.c: compiles and runs a program with examples/unroll, while one call
 * after another fails: each allocation, then mmap() and mprotect(). Prints what failed
 * how often. Link it with -Wl,--wrap for the five functions below. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "unroll.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *items, size_t size);
void *__real_mmap(void *place, size_t size, int access, int flags, int fd, off_t start);
int __real_mprotect(void *place, size_t size, int access);

static const char source[] =
    "s = 0; for (i = 0; i < 222; ++i) { for (j = 0; j < 9; ++j) { s = s + i * j; } }"
    "for (k = 0; k < 9; ++k) { k = k + 1; if (s % 3 == 0) { print s / k; } }";

static long allocations; /* so far */
static long failing = -1; /* number of the allocation that fails */
static bool failing_later; /* those after it fail too */
static long failing_mappings, failing_protections; /* from this call on; 0: none */
static bool writable_and_executable;

static bool fails(void)
{
    long number = allocations++;

    return failing >= 0 && (number == failing || (failing_later && number > failing));
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *items, size_t size)
{
    return fails() ? NULL : __real_realloc(items, size);
}

static void check_access(int access)
{
    if ((access & PROT_WRITE) && (access & PROT_EXEC))
        writable_and_executable = true;
}

void *__wrap_mmap(void *place, size_t size, int access, int flags, int fd, off_t start)
{
    check_access(access);
    if (failing_mappings && --failing_mappings == 0) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return __real_mmap(place, size, access, flags, fd, start);
}

int __wrap_mprotect(void *place, size_t size, int access)
{
    check_access(access);
    if (failing_protections && --failing_protections == 0) {
        errno = EACCES;
        return -1;
    }
    return __real_mprotect(place, size, access);
}

/* Compiles and runs both forms. Returns the kind of the error. */
static enum unroll_error_kind try_once(void)
{
    struct unroll_result result = {0};
    struct unroll_error error;
    struct unroll_program *program =
        unroll_compile(source, sizeof source - 1, NULL, &error);

    for (int form = 0; program && form < UNROLL_FORMS && !error.kind; form++)
        if (!unroll_run(program, form, &result))
            error = result.error;
    unroll_clear(&result);
    unroll_free(program);
    return error.kind;
}

/* Returns how many allocations there are, each of which failed once. */
static long fail_allocations(bool later)
{
    enum unroll_error_kind kind;
    long number = 0;

    failing_later = later;
    do {
        allocations = 0;
        failing = number++;
        kind = try_once();
        if (kind != UNROLL_MEMORY && allocations > failing)
            exit(EXIT_FAILURE);
    } while (allocations > failing);
    failing = -1;
    return kind == UNROLL_NO_ERROR ? number - 1 : -1;
}

static void describe_refusal(const char *name)
{
    struct unroll_error error;
    struct unroll_program *program =
        unroll_compile(source, sizeof source - 1, NULL, &error);
    const struct unroll_info *info = unroll_inspect(program);

    printf("%s: %s, %zu and %zu bytes\n", name,
           info->interpreted ? info->interpreted : "machine code",
           info->code_size[UNROLL_LOOPED], info->code_size[UNROLL_UNROLLED]);
    unroll_free(program);
}

int main(void)
{
    printf("allocations: %s\n", fail_allocations(false) > 20 ? "checked" : "wrong");
    printf("later too: %s\n", fail_allocations(true) > 20 ? "checked" : "wrong");
    for (long call = 1; call <= UNROLL_FORMS; call++) {
        failing_mappings = call;
        describe_refusal("mmap");
        failing_protections = call;
        describe_refusal("mprotect");
    }
    printf("writable and executable: %s\n", writable_and_executable ? "yes" : "never");
    return EXIT_SUCCESS;
}
