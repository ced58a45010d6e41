/* The part that the three programs share: messages in, answers out. */
#ifndef SERVE_H
#define SERVE_H

#include "unroll.h"

/* The functions of the library, however a program is linked with it. */
struct library {
    struct unroll_program *(*compile)(const char *, size_t,
                                      const struct unroll_options *,
                                      struct unroll_error *);
    const struct unroll_info *(*inspect)(const struct unroll_program *);
    bool (*run)(const struct unroll_program *, enum unroll_form,
                struct unroll_result *);
    void (*clear)(struct unroll_result *);
    void (*free)(struct unroll_program *);
};

/* Reads the command line, then answers each line of stdin with one line of JSON.
 * Returns the exit status. */
int serve(const struct library *library, int argc, char **argv);

#endif
