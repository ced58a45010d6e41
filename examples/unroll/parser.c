/* parser.c: parses a program: what the parsers of statements, loops and expressions
 * share, and the limits of the whole text. */
#include "parser.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"

bool advance(struct parser *parser)
{
    return read_token(&parser->lexer, &parser->token, parser->error);
}

bool fail_expected(struct parser *parser, const char *expected)
{
    const struct token *token = &parser->token;

    if (token->kind == TOKEN_END)
        return fail(parser->error, UNROLL_SYNTAX, token->line, token->column,
                    "%s expected instead of the end", expected);
    return fail(parser->error, UNROLL_SYNTAX, token->line, token->column,
                "%s expected instead of '%.*s'", expected, (int)token->length,
                token->text);
}

bool expect(struct parser *parser, enum token_kind kind)
{
    char quoted[16];

    if (parser->token.kind == kind)
        return advance(parser);
    snprintf(quoted, sizeof quoted, "'%s'", token_name(kind));
    return fail_expected(parser, quoted);
}

bool open_level(struct parser *parser)
{
    if (parser->nesting++ < UNROLL_MAX_NESTING)
        return true;
    return fail(parser->error, UNROLL_LIMIT, parser->token.line, parser->token.column,
                "more than %d levels of nesting", UNROLL_MAX_NESTING);
}

bool open_block(struct parser *parser)
{
    if (parser->token.kind != TOKEN_LEFT_BRACE)
        return expect(parser, TOKEN_LEFT_BRACE);
    return open_level(parser) && advance(parser);
}

bool close_block(struct parser *parser)
{
    parser->nesting--;
    return expect(parser, TOKEN_RIGHT_BRACE);
}

size_t find_variable(const struct parser *parser)
{
    const struct variables *variables = &parser->syntax->variables;
    const struct token *token = &parser->token;
    size_t i;

    for (i = 0; i < variables->count; i++)
        if (strncmp(variables->names[i], token->text, token->length) == 0 &&
            variables->names[i][token->length] == '\0')
            break;
    return i;
}

uint32_t add_site(struct parser *parser, enum unroll_error_kind kind,
                  const struct token *token)
{
    struct syntax *syntax = parser->syntax;
    struct site *sites = reserve(syntax->sites, syntax->site_count,
                                 &syntax->site_capacity, sizeof *sites);

    if (!sites) {
        fail_memory(parser->error);
        return 0;
    }
    syntax->sites = sites;
    sites[syntax->site_count] = (struct site){kind, token->line, token->column};
    return (uint32_t)syntax->site_count++;
}

uint32_t add_statement(struct parser *parser, enum statement_kind kind)
{
    struct syntax *syntax = parser->syntax;
    struct statement *statements =
        reserve(syntax->statements, syntax->statement_count,
                &syntax->statement_capacity, sizeof *statements);

    if (!statements) {
        fail_memory(parser->error);
        return 0;
    }
    syntax->statements = statements;
    statements[syntax->statement_count] = (struct statement){.kind = kind};
    return (uint32_t)syntax->statement_count++;
}

struct statement *at(struct parser *parser, uint32_t statement)
{
    return &parser->syntax->statements[statement];
}

bool parse_target(struct parser *parser, uint16_t *variable)
{
    struct variables *variables = &parser->syntax->variables;
    const struct token *token = &parser->token;
    size_t found;

    if (token->kind != TOKEN_NAME)
        return fail_expected(parser, "a name");
    found = find_variable(parser);
    if (found == UNROLL_MAX_VARIABLES)
        return fail(parser->error, UNROLL_LIMIT, token->line, token->column,
                    "more than %d variables", UNROLL_MAX_VARIABLES);
    if (found == variables->count)
        memcpy(variables->names[variables->count++], token->text, token->length);
    *variable = (uint16_t)found;
    return advance(parser);
}

void mark_assigned(struct parser *parser, uint16_t variable)
{
    parser->syntax->variables.assigned[variable] = true;
    for (size_t i = 0; i < parser->open_loop_count; i++) {
        struct statement *loop = at(parser, parser->open_loops[i]);

        if (loop->variable == variable)
            loop->sets_variable = parser->syntax->sets_variable = true;
    }
}

/* Fails if the text is too long, at the first character that is beyond the limit. */
static bool check_length(const char *source, size_t length, struct unroll_error *error)
{
    uint32_t line = 1, column = 1;
    size_t end = UNROLL_MAX_SOURCE;

    if (length <= UNROLL_MAX_SOURCE)
        return true;
    while (end > 0 && (source[end] & 0xc0) == 0x80)
        end--;
    for (size_t i = 0; i < end; i++) {
        if (source[i] == '\n') {
            line++;
            column = 1;
        } else if ((source[i] & 0xc0) != 0x80) {
            column++;
        }
    }
    return fail(error, UNROLL_LIMIT, line, column, "more than %d bytes",
                UNROLL_MAX_SOURCE);
}

/* Adds the sizes of the outermost loops in these statements to the whole size. */
static bool check_size(struct parser *parser, uint32_t first, uint32_t max_operations)
{
    struct syntax *syntax = parser->syntax;

    for (uint32_t i = first; i; i = syntax->statements[i].next) {
        const struct statement *statement = &syntax->statements[i];

        if (statement->kind == STATEMENT_FOR) {
            const struct site *site = &syntax->sites[statement->site];

            syntax->size += statement->size;
            if (syntax->size > max_operations)
                return fail(parser->error, UNROLL_LIMIT, site->line, site->column,
                            "the unrolled program has more than %" PRIu32
                            " operations from this loop on",
                            max_operations);
        } else if (!check_size(parser, statement->body, max_operations) ||
                   !check_size(parser, statement->otherwise, max_operations)) {
            return false;
        }
    }
    return true;
}

bool parse(struct syntax *syntax, const char *source, size_t length,
           uint32_t max_operations, struct unroll_error *error)
{
    struct parser parser = {.syntax = syntax, .error = error};
    struct sequence program;

    if (!check_length(source, length, error))
        return false;
    /* Index 0 means none. */
    if (add_statement(&parser, STATEMENT_BLOCK) != 0 || error->kind ||
        add_site(&parser, UNROLL_NO_ERROR, &parser.token) != 0 || error->kind)
        return false;
    start_lexer(&parser.lexer, source, length);
    if (!advance(&parser) || !parse_statements(&parser, TOKEN_END, &program))
        return false;
    syntax->first = program.first;
    return check_size(&parser, program.first, max_operations);
}

void free_syntax(struct syntax *syntax)
{
    free(syntax->expressions.items);
    free(syntax->statements);
    free(syntax->sites);
    free(syntax->loops);
}
