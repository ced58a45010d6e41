/* executable.c: memory for machine code. It is written first and then made executable:
 * it is never both, as mmap(2) with PROT_WRITE and PROT_EXEC would allow. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "engine.h"

/* SELinux, MemoryDenyWriteExecute= of systemd.exec(5) and prctl(PR_SET_MDWE) refuse
 * executable memory. */
static void explain(const char *call, char *reason, size_t reason_size)
{
    char text[64];
    int error = errno;

    if (strerror_r(error, text, sizeof text) != 0)
        snprintf(text, sizeof text, "error %d", error);
    snprintf(reason, reason_size, "the system refuses executable memory (%s: %s)", call,
             text);
}

void *map_code(const struct assembly *assembly, char *reason, size_t reason_size)
{
    void *mapping = mmap(NULL, assembly->count, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (mapping == MAP_FAILED) {
        explain("mmap", reason, reason_size);
        return NULL;
    }
    memcpy(mapping, assembly->bytes, assembly->count);
    if (mprotect(mapping, assembly->count, PROT_READ | PROT_EXEC) != 0) {
        explain("mprotect", reason, reason_size);
        munmap(mapping, assembly->count);
        return NULL;
    }
    return mapping;
}

void unmap_code(void *mapping, size_t size)
{
    if (mapping)
        munmap(mapping, size);
}
