/* memory.c: arrays that grow, and values of type struct unroll_error. */
#include "memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void *reserve(void *items, size_t count, size_t *capacity, size_t size)
{
    size_t wanted = *capacity ? *capacity * 2 : 64;
    void *grown;

    if (count < *capacity)
        return items;
    if (wanted > SIZE_MAX / 2 / size)
        return NULL;
    grown = realloc(items, wanted * size);
    if (grown)
        *capacity = wanted;
    return grown;
}

bool fail(struct unroll_error *error, enum unroll_error_kind kind, uint32_t line,
          uint32_t column, const char *format, ...)
{
    va_list arguments;

    error->kind = kind;
    error->line = line;
    error->column = column;
    va_start(arguments, format);
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    return false;
}

bool fail_memory(struct unroll_error *error)
{
    return fail(error, UNROLL_MEMORY, 0, 0, "no memory left");
}
