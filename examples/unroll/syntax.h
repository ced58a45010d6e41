/* syntax.h: a parsed program. */
#ifndef SYNTAX_H
#define SYNTAX_H

#include "operation.h"

enum statement_kind {
    STATEMENT_ASSIGN,
    STATEMENT_PRINT,
    STATEMENT_IF,
    STATEMENT_FOR,
    STATEMENT_BLOCK
};

/* Statements refer to each other by index; index 0 is no statement. */
struct statement {
    enum statement_kind kind;
    bool sets_variable; /* the body of a loop sets its variable */
    uint8_t turns;
    uint16_t variable;
    uint32_t site;                          /* of for and print */
    uint32_t expression, expression_length; /* in syntax.expressions */
    uint32_t body, otherwise;               /* first statements */
    uint32_t next;
    uint32_t body_weight; /* of a loop; README.md, Limits */
    uint32_t weight;
    uint64_t size;
};

struct variables {
    size_t count;
    char names[UNROLL_MAX_VARIABLES][UNROLL_MAX_NAME + 1];
    bool assigned[UNROLL_MAX_VARIABLES]; /* up to here in the text */
};

struct syntax {
    struct operations expressions; /* postfix */
    struct statement *statements;
    size_t statement_count, statement_capacity;
    uint32_t first;
    struct variables variables;
    struct site *sites; /* site 0 is unused */
    size_t site_count, site_capacity;
    struct unroll_loop *loops;
    size_t loop_count, loop_capacity;
    uint64_t size;      /* of all loops */
    bool sets_variable; /* any loop does */
};

/* Parses a program into *syntax, whose fields are all zero. Returns false and sets
 * *error for a program with an error. free_syntax() is necessary in both cases. The
 * names of variables in loops point into *syntax. */
bool parse(struct syntax *syntax, const char *source, size_t length,
           uint32_t max_operations, struct unroll_error *error);

void free_syntax(struct syntax *syntax);

#endif
