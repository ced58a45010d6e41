/* engine.h: the two ways to run a program, which do the same: an interpreter, and
 * x86-64 machine code. */
#ifndef ENGINE_H
#define ENGINE_H

#include "translator.h"

/* State of one run. */
struct run {
    int64_t steps;   /* left */
    int64_t *values; /* place of the next printed value */
    int64_t *values_end;
    int64_t variables[UNROLL_MAX_VARIABLES];
};

/* Runs operations. Returns the site of the error, or 0. */
uint32_t interpret(const struct operation *operations, struct run *run);

/* Bytes of machine code. */
struct assembly {
    uint8_t *bytes;
    size_t count, capacity;
    bool failed; /* no memory */
};

/* Makes a function of type machine_code of operations. Returns false if there is no
 * memory. */
typedef uint32_t machine_code(struct run *run);
bool generate(const struct code *code, size_t variable_count, size_t site_count,
              struct assembly *assembly);

/* Copies machine code into memory of its own, which is then executable and can no
 * longer be written. Returns NULL if the system refuses, and why. */
void *map_code(const struct assembly *assembly, char *reason, size_t reason_size);
void unmap_code(void *mapping, size_t size);

#endif
