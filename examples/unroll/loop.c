/* loop.c: parses loops, which have one form. */
#include <stdio.h>

#include "memory.h"
#include "parser.h"

/* Reads the name of the loop's variable, once more. */
static bool expect_variable(struct parser *parser, uint16_t variable)
{
    const char *name = parser->syntax->variables.names[variable];
    char quoted[UNROLL_MAX_NAME + 3];

    if (parser->token.kind == TOKEN_NAME && find_variable(parser) == variable)
        return advance(parser);
    snprintf(quoted, sizeof quoted, "'%s'", name);
    return fail_expected(parser, quoted);
}

static bool expect_zero(struct parser *parser)
{
    if (parser->token.kind == TOKEN_NUMBER && parser->token.value == 0)
        return advance(parser);
    return fail_expected(parser, "'0'");
}

static bool parse_turns(struct parser *parser, uint8_t *turns)
{
    const struct token *token = &parser->token;

    if (token->kind != TOKEN_NUMBER)
        return fail_expected(parser, "a number");
    if (token->value > UNROLL_MAX_TURNS)
        return fail(parser->error, UNROLL_SYNTAX, token->line, token->column,
                    "a loop has at most %d turns, not %lld", UNROLL_MAX_TURNS,
                    (long long)token->value);
    *turns = (uint8_t)token->value;
    return advance(parser);
}

/* Parses "(v = 0; v < N; ++v)". */
static bool parse_head(struct parser *parser, uint16_t *variable, uint8_t *turns)
{
    if (!expect(parser, TOKEN_LEFT_PARENTHESIS) || !parse_target(parser, variable) ||
        !expect(parser, TOKEN_ASSIGN) || !expect_zero(parser))
        return false;
    mark_assigned(parser, *variable);
    return expect(parser, TOKEN_SEMICOLON) && expect_variable(parser, *variable) &&
           expect(parser, TOKEN_LESS) && parse_turns(parser, turns) &&
           expect(parser, TOKEN_SEMICOLON) && expect(parser, TOKEN_INCREMENT) &&
           expect_variable(parser, *variable) &&
           expect(parser, TOKEN_RIGHT_PARENTHESIS);
}

static bool add_loop(struct parser *parser, size_t *loop)
{
    struct syntax *syntax = parser->syntax;
    struct unroll_loop *loops = reserve(syntax->loops, syntax->loop_count,
                                        &syntax->loop_capacity, sizeof *loops);

    if (!loops)
        return fail_memory(parser->error);
    syntax->loops = loops;
    *loop = syntax->loop_count++;
    loops[*loop].line = parser->token.line;
    loops[*loop].column = parser->token.column;
    return true;
}

bool parse_for(struct parser *parser, uint32_t index)
{
    uint32_t site = add_site(parser, UNROLL_STEPS, &parser->token);
    struct sequence body;
    uint16_t variable = 0;
    uint8_t turns = 0;
    size_t loop = 0;

    if (site == 0 || !add_loop(parser, &loop) || !advance(parser) ||
        !parse_head(parser, &variable, &turns))
        return false;
    at(parser, index)->site = site;
    at(parser, index)->variable = variable;
    at(parser, index)->turns = turns;
    at(parser, index)->weight = 1;
    if (!open_block(parser))
        return false;
    parser->open_loops[parser->open_loop_count++] = index;
    if (!parse_statements(parser, TOKEN_RIGHT_BRACE, &body) || !close_block(parser))
        return false;
    parser->open_loop_count--;
    at(parser, index)->body = body.first;
    at(parser, index)->body_weight = body.weight;
    at(parser, index)->size = limit_size(turns * (1 + body.weight + body.size));
    parser->syntax->loops[loop].variable = parser->syntax->variables.names[variable];
    parser->syntax->loops[loop].turns = turns;
    parser->syntax->loops[loop].sets_variable = at(parser, index)->sets_variable;
    return true;
}
