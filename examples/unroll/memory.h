/* memory.h: arrays that grow, and values of type struct unroll_error. */
#ifndef MEMORY_H
#define MEMORY_H

#include "unroll.h"

/* Makes room for one more element. Returns the array, which can have moved, or NULL if
 * there is no memory; items is then unchanged. */
void *reserve(void *items, size_t count, size_t *capacity, size_t size);

/* Sets *error. Returns false, for the caller to return. */
bool fail(struct unroll_error *error, enum unroll_error_kind kind, uint32_t line,
          uint32_t column, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

bool fail_memory(struct unroll_error *error);

#endif
