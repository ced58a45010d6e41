/* unroll.h: compiles programs of a small language with and without unrolled loops, and
 * runs both forms as x86-64 machine code or by an interpreter.
 *
 * README.md describes the language. The library reads no environment, prints nothing,
 * never exits and has no global state: different threads can use different programs.
 */
#ifndef UNROLL_H
#define UNROLL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A shared library compiled with -fvisibility=hidden exports only these functions. */
#define UNROLL_API __attribute__((visibility("default")))

#define UNROLL_MAX_SOURCE 65536
#define UNROLL_MAX_NAME 63
#define UNROLL_MAX_VARIABLES 256
#define UNROLL_MAX_NESTING 100
#define UNROLL_MAX_TURNS 222

/* Limits and choices of a program. */
struct unroll_options {
    uint32_t max_operations; /* size when unrolled */
    uint32_t max_steps;      /* steps of one run */
    uint32_t max_values;     /* printed values of one run */
    bool interpret;          /* make no machine code */
};

/* Used where options are NULL. */
#define UNROLL_DEFAULTS {1000000, 20000000, 10000, false}

enum unroll_error_kind {
    UNROLL_NO_ERROR,
    UNROLL_SYNTAX,
    UNROLL_LIMIT,
    UNROLL_DIVISION,
    UNROLL_STEPS,
    UNROLL_OUTPUT,
    UNROLL_MEMORY
};

struct unroll_error {
    enum unroll_error_kind kind;
    uint32_t line, column; /* from 1; 0 if the error has no position */
    char message[160];     /* one sentence in printable ASCII, without position */
};

/* The two forms of a program: its loops as written, and unrolled. */
enum unroll_form { UNROLL_LOOPED, UNROLL_UNROLLED, UNROLL_FORMS };

struct unroll_loop {
    const char *variable;
    uint32_t turns;        /* N: copies of the body in the unrolled form */
    uint32_t line, column; /* of "for" */
    /* The body sets the variable. The unrolled form then tests it after each copy,
     * and starts again with the first copy as long as it is less than N. */
    bool sets_variable;
};

/* Description of a compiled program. All pointers live as long as the program. */
struct unroll_info {
    size_t loop_count, variable_count;
    const struct unroll_loop *loops;  /* in the order of the text */
    const char *const *variables;     /* names, in the order of the text */
    size_t operations[UNROLL_FORMS];  /* instructions for the interpreter */
    size_t code_size[UNROLL_FORMS];   /* bytes of machine code; 0 without */
    const char *interpreted;          /* why there is no machine code, or NULL */
};

/* Result of one run. Start with all fields zero; unroll_run() reuses the memory. */
struct unroll_result {
    size_t value_count;
    int64_t *values;         /* printed, also before an error */
    int64_t *variables;      /* at the end, in the order of unroll_info */
    int64_t nanoseconds;     /* duration of the run alone */
    struct unroll_error error;
};

struct unroll_program;

/* Compiles both forms of a text in UTF-8, which may contain any bytes. Returns NULL and
 * sets *error if the text is not a valid program. options may be NULL. */
UNROLL_API struct unroll_program *unroll_compile(const char *source, size_t length,
                                                 const struct unroll_options *options,
                                                 struct unroll_error *error);

UNROLL_API const struct unroll_info *
unroll_inspect(const struct unroll_program *program);

/* Runs one form, as machine code if there is any. Returns false on an error, which is
 * in result->error. Variables are then undefined. */
UNROLL_API bool unroll_run(const struct unroll_program *program, enum unroll_form form,
                           struct unroll_result *result);

/* Both accept NULL. unroll_clear() frees the memory of a result and zeroes it. */
UNROLL_API void unroll_clear(struct unroll_result *result);
UNROLL_API void unroll_free(struct unroll_program *program);

#endif
