/* Compiles and runs the program of one message, and writes the answer. */
#ifndef ANSWER_H
#define ANSWER_H

#include <stdio.h>

#include "serve.h"

struct answerer {
    const struct library *library;
    struct unroll_options options;
    FILE *out;
};

/* Writes one line of JSON for a program. */
void answer_program(const struct answerer *answerer, const char *text, size_t length);

/* Writes one line of JSON for a message that holds no program. */
void answer_refusal(const struct answerer *answerer, const char *message);

#endif
