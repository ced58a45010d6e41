/* parser.h: state that the parsers of statements and of expressions share. */
#ifndef PARSER_H
#define PARSER_H

#include "lexer.h"
#include "syntax.h"

/* Larger sizes count as this, so that no sum overflows. */
#define HUGE_SIZE (UINT64_C(1) << 40)

static inline uint64_t limit_size(uint64_t size)
{
    return size < HUGE_SIZE ? size : HUGE_SIZE;
}

/* Statements in a row, with the sums of their measures. */
struct sequence {
    uint32_t first;
    uint32_t weight;
    uint64_t size;
};

struct parser {
    struct lexer lexer;
    struct token token; /* the next symbol */
    struct syntax *syntax;
    struct unroll_error *error;
    unsigned nesting;
    /* Loops around this place. Each of them has an open block. */
    uint32_t open_loops[UNROLL_MAX_NESTING];
    size_t open_loop_count;
};

bool advance(struct parser *parser);

/* Error at the next symbol: it is not what the grammar expects. */
bool fail_expected(struct parser *parser, const char *expected);

bool expect(struct parser *parser, enum token_kind kind);

/* Opens a level of nesting at the next symbol. */
bool open_level(struct parser *parser);

/* Reads "{" or "}" of a block. */
bool open_block(struct parser *parser);
bool close_block(struct parser *parser);

/* Index of the variable that the next symbol names; one more than the last if the name
 * is new. */
size_t find_variable(const struct parser *parser);

/* Returns the index of a new place, at a symbol; 0 if there is no memory. */
uint32_t add_site(struct parser *parser, enum unroll_error_kind kind,
                  const struct token *token);

/* Returns the index of a new statement; 0 if there is no memory. */
uint32_t add_statement(struct parser *parser, enum statement_kind kind);

/* A pointer that is valid until the next statement is added. */
struct statement *at(struct parser *parser, uint32_t statement);

/* Reads the name of a variable to assign, which can be new. The caller then calls
 * mark_assigned() at the end of the assignment. */
bool parse_target(struct parser *parser, uint16_t *variable);
void mark_assigned(struct parser *parser, uint16_t variable);

/* Parses statements up to this symbol. */
bool parse_statements(struct parser *parser, enum token_kind end,
                      struct sequence *sequence);

/* Parses a loop into a statement. */
bool parse_for(struct parser *parser, uint32_t index);

/* Parses an expression in front of the next symbol and stores where it is. */
bool parse_expression(struct parser *parser, uint32_t *start, uint32_t *length);

#endif
