/* translator.h: makes operations of a parsed program. */
#ifndef TRANSLATOR_H
#define TRANSLATOR_H

#include "syntax.h"

/* One form of a program, ready to run. */
struct code {
    struct operations operations;
    /* How often each variable is used, by an estimate. */
    uint64_t uses[UNROLL_MAX_VARIABLES];
};

/* Translates a program with its loops, or unrolls them. Steps are counted only if a run
 * can take more than max_steps. Returns false if there is no memory. */
bool translate(const struct syntax *syntax, enum unroll_form form, uint32_t max_steps,
               struct code *code);

#endif
