/* lexer.c: divides a text into symbols, with line and column. Does not know which
 * symbols may follow each other. UTF-8 is checked as in RFC 3629. */
#include "lexer.h"

#include <string.h>

#include "memory.h"

static const struct {
    const char *text;
    enum token_kind kind;
} symbols[] = {
    /* Before symbols with which they start. */
    {"++", TOKEN_INCREMENT},    {"==", TOKEN_EQUAL},
    {"!=", TOKEN_NOT_EQUAL},    {"<=", TOKEN_LESS_EQUAL},
    {">=", TOKEN_GREATER_EQUAL},
    {"(", TOKEN_LEFT_PARENTHESIS}, {")", TOKEN_RIGHT_PARENTHESIS},
    {"{", TOKEN_LEFT_BRACE},    {"}", TOKEN_RIGHT_BRACE},
    {";", TOKEN_SEMICOLON},     {"=", TOKEN_ASSIGN},
    {"+", TOKEN_PLUS},          {"-", TOKEN_MINUS},
    {"*", TOKEN_TIMES},         {"/", TOKEN_DIVIDE},
    {"%", TOKEN_REMAINDER},     {"<", TOKEN_LESS},
    {">", TOKEN_GREATER},
}, keywords[] = {
    {"for", TOKEN_FOR},         {"if", TOKEN_IF},
    {"else", TOKEN_ELSE},       {"print", TOKEN_PRINT},
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

void start_lexer(struct lexer *lexer, const char *source, size_t length)
{
    lexer->next = source;
    lexer->end = source + length;
    lexer->line = lexer->column = 1;
}

static bool is_digit(char byte)
{
    return byte >= '0' && byte <= '9';
}

static bool is_letter(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || byte == '_';
}

static size_t remaining(const struct lexer *lexer)
{
    return (size_t)(lexer->end - lexer->next);
}

/* Length in bytes of the character at next, with its number; 0 if it is not UTF-8. */
static size_t decode(const struct lexer *lexer, uint32_t *number)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *bytes = (const unsigned char *)lexer->next;
    size_t length = *bytes < 0x80 ? 1 : *bytes < 0xc0 ? 0 : *bytes < 0xe0 ? 2
                    : *bytes < 0xf0 ? 3 : *bytes < 0xf8 ? 4 : 0;

    if (length == 0 || length > remaining(lexer))
        return 0;
    *number = length == 1 ? *bytes : *bytes & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((bytes[i] & 0xc0) != 0x80)
            return 0;
        *number = *number << 6 | (bytes[i] & 0x3f);
    }
    if (*number < least[length] || *number > 0x10ffff || (*number & ~0x7ffu) == 0xd800)
        return 0;
    return length;
}

static bool fail_encoding(const struct lexer *lexer, struct unroll_error *error)
{
    return fail(error, UNROLL_SYNTAX, lexer->line, lexer->column,
                "byte 0x%02x is not valid UTF-8", (unsigned char)*lexer->next);
}

/* Skips one character. */
static bool skip_character(struct lexer *lexer, struct unroll_error *error)
{
    uint32_t number;
    size_t length = decode(lexer, &number);

    if (length == 0)
        return fail_encoding(lexer, error);
    lexer->next += length;
    lexer->column++;
    if (number == '\n') {
        lexer->line++;
        lexer->column = 1;
    }
    return true;
}

static bool at_comment(const struct lexer *lexer)
{
    return remaining(lexer) >= 2 && memcmp(lexer->next, "//", 2) == 0;
}

static bool skip_spaces(struct lexer *lexer, struct unroll_error *error)
{
    while (lexer->next < lexer->end) {
        if (at_comment(lexer)) {
            while (lexer->next < lexer->end && *lexer->next != '\n')
                if (!skip_character(lexer, error))
                    return false;
        } else if (*lexer->next == '\0' || !strchr(" \t\r\n", *lexer->next)) {
            break;
        } else if (!skip_character(lexer, error)) {
            return false;
        }
    }
    return true;
}

static void take(struct lexer *lexer, struct token *token, size_t length)
{
    token->length = length;
    lexer->next += length;
    lexer->column += (uint32_t)length;
}

static bool read_name(struct lexer *lexer, struct token *token,
                      struct unroll_error *error)
{
    size_t length = 1;

    while (length < remaining(lexer) &&
           (is_letter(lexer->next[length]) || is_digit(lexer->next[length])))
        length++;
    if (length > UNROLL_MAX_NAME)
        return fail(error, UNROLL_LIMIT, token->line, token->column,
                    "a name has at most %d characters, not %zu", UNROLL_MAX_NAME,
                    length);
    token->kind = TOKEN_NAME;
    for (size_t i = 0; i < COUNT(keywords); i++)
        if (strlen(keywords[i].text) == length &&
            memcmp(keywords[i].text, lexer->next, length) == 0)
            token->kind = keywords[i].kind;
    take(lexer, token, length);
    return true;
}

static bool read_number(struct lexer *lexer, struct token *token,
                        struct unroll_error *error)
{
    size_t length = 0;

    token->kind = TOKEN_NUMBER;
    token->value = 0;
    for (; length < remaining(lexer) && is_digit(lexer->next[length]); length++) {
        int digit = lexer->next[length] - '0';

        if (length == 1 && *lexer->next == '0')
            return fail(error, UNROLL_SYNTAX, token->line, token->column,
                        "a number has no leading zeros");
        if (token->value > (INT64_MAX - digit) / 10)
            return fail(error, UNROLL_SYNTAX, token->line, token->column,
                        "a number is at most %lld", (long long)INT64_MAX);
        token->value = token->value * 10 + digit;
    }
    take(lexer, token, length);
    return true;
}

static bool read_symbol(struct lexer *lexer, struct token *token,
                        struct unroll_error *error)
{
    uint32_t number;

    for (size_t i = 0; i < COUNT(symbols); i++) {
        size_t length = strlen(symbols[i].text);

        if (length <= remaining(lexer) &&
            memcmp(lexer->next, symbols[i].text, length) == 0) {
            token->kind = symbols[i].kind;
            take(lexer, token, length);
            return true;
        }
    }
    if (decode(lexer, &number) == 0)
        return fail_encoding(lexer, error);
    if (number > ' ' && number < 0x7f)
        return fail(error, UNROLL_SYNTAX, lexer->line, lexer->column,
                    "unknown character '%c'", (char)number);
    return fail(error, UNROLL_SYNTAX, lexer->line, lexer->column,
                "unknown character U+%04X", (unsigned)number);
}

bool read_token(struct lexer *lexer, struct token *token, struct unroll_error *error)
{
    if (!skip_spaces(lexer, error))
        return false;
    token->line = lexer->line;
    token->column = lexer->column;
    token->text = lexer->next;
    token->length = 0;
    token->kind = TOKEN_END;
    if (lexer->next == lexer->end)
        return true;
    if (is_letter(*lexer->next))
        return read_name(lexer, token, error);
    if (is_digit(*lexer->next))
        return read_number(lexer, token, error);
    return read_symbol(lexer, token, error);
}

const char *token_name(enum token_kind kind)
{
    for (size_t i = 0; i < COUNT(symbols); i++)
        if (symbols[i].kind == kind)
            return symbols[i].text;
    for (size_t i = 0; i < COUNT(keywords); i++)
        if (keywords[i].kind == kind)
            return keywords[i].text;
    return "";
}
