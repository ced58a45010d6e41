/* lexer.h: divides a text into symbols, with line and column. */
#ifndef LEXER_H
#define LEXER_H

#include "unroll.h"

enum token_kind {
    TOKEN_END,
    TOKEN_NAME,
    TOKEN_NUMBER,
    TOKEN_FOR,
    TOKEN_IF,
    TOKEN_ELSE,
    TOKEN_PRINT,
    TOKEN_LEFT_PARENTHESIS,
    TOKEN_RIGHT_PARENTHESIS,
    TOKEN_LEFT_BRACE,
    TOKEN_RIGHT_BRACE,
    TOKEN_SEMICOLON,
    TOKEN_ASSIGN,
    TOKEN_INCREMENT,
    TOKEN_PLUS,
    TOKEN_MINUS,
    TOKEN_TIMES,
    TOKEN_DIVIDE,
    TOKEN_REMAINDER,
    TOKEN_EQUAL,
    TOKEN_NOT_EQUAL,
    TOKEN_LESS,
    TOKEN_LESS_EQUAL,
    TOKEN_GREATER,
    TOKEN_GREATER_EQUAL
};

struct token {
    enum token_kind kind;
    uint32_t line, column;
    const char *text;
    size_t length;
    int64_t value; /* of a number */
};

struct lexer {
    const char *next, *end;
    uint32_t line, column; /* of next */
};

void start_lexer(struct lexer *lexer, const char *source, size_t length);

/* Reads one symbol. Returns false and sets *error if there is none. */
bool read_token(struct lexer *lexer, struct token *token, struct unroll_error *error);

/* Text of a symbol, or "" for kinds with different texts. */
const char *token_name(enum token_kind kind);

#endif
