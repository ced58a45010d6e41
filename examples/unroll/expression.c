/* expression.c: parses expressions by precedence climbing, into postfix operations. */
#include "memory.h"
#include "parser.h"

struct operator {
    int level;
    enum operation_code code;
};

static const struct operator operators[] = {
    [TOKEN_EQUAL] = {1, OPERATION_EQUAL},
    [TOKEN_NOT_EQUAL] = {1, OPERATION_NOT_EQUAL},
    [TOKEN_LESS] = {2, OPERATION_LESS},
    [TOKEN_LESS_EQUAL] = {2, OPERATION_LESS_EQUAL},
    [TOKEN_GREATER] = {2, OPERATION_GREATER},
    [TOKEN_GREATER_EQUAL] = {2, OPERATION_GREATER_EQUAL},
    [TOKEN_PLUS] = {3, OPERATION_ADD},
    [TOKEN_MINUS] = {3, OPERATION_SUBTRACT},
    [TOKEN_TIMES] = {4, OPERATION_MULTIPLY},
    [TOKEN_DIVIDE] = {4, OPERATION_DIVIDE},
    [TOKEN_REMAINDER] = {4, OPERATION_REMAINDER},
};

static bool parse_binary(struct parser *parser, int level);

static bool push(struct parser *parser, struct operation operation)
{
    struct operations *list = &parser->syntax->expressions;
    struct operation *items = reserve(list->items, list->count, &list->capacity,
                                      sizeof *items);

    if (!items)
        return fail_memory(parser->error);
    list->items = items;
    items[list->count++] = operation;
    return true;
}

static bool parse_number(struct parser *parser)
{
    struct operation number = {.code = OPERATION_NUMBER, .value = parser->token.value};

    return push(parser, number) && advance(parser);
}

static bool parse_variable(struct parser *parser)
{
    const struct variables *variables = &parser->syntax->variables;
    const struct token *token = &parser->token;
    struct operation load = {.code = OPERATION_LOAD};
    size_t variable = find_variable(parser);

    if (variable == variables->count || !variables->assigned[variable])
        return fail(parser->error, UNROLL_SYNTAX, token->line, token->column,
                    "variable %.*s is not assigned before", (int)token->length,
                    token->text);
    load.variable = (uint16_t)variable;
    return push(parser, load) && advance(parser);
}

static bool parse_unary(struct parser *parser)
{
    switch (parser->token.kind) {
    case TOKEN_NUMBER:
        return parse_number(parser);
    case TOKEN_NAME:
        return parse_variable(parser);
    case TOKEN_MINUS:
        if (!open_level(parser) || !advance(parser) || !parse_unary(parser))
            return false;
        parser->nesting--;
        return push(parser, (struct operation){.code = OPERATION_NEGATE});
    case TOKEN_LEFT_PARENTHESIS:
        if (!open_level(parser) || !advance(parser) || !parse_binary(parser, 1))
            return false;
        parser->nesting--;
        return expect(parser, TOKEN_RIGHT_PARENTHESIS);
    default:
        return fail_expected(parser, "a number, a variable or '('");
    }
}

static struct operator next_operator(const struct parser *parser)
{
    size_t kind = parser->token.kind;

    if (kind < sizeof operators / sizeof *operators)
        return operators[kind];
    return (struct operator){0, OPERATION_END};
}

/* Parses operators from this level on. Their operands are of the next level. */
static bool parse_binary(struct parser *parser, int level)
{
    struct operator operator;

    if (!parse_unary(parser))
        return false;
    while ((operator = next_operator(parser)).level >= level) {
        struct operation operation = {.code = (uint8_t)operator.code};

        if (operator.code == OPERATION_DIVIDE || operator.code == OPERATION_REMAINDER) {
            operation.site = add_site(parser, UNROLL_DIVISION, &parser->token);
            if (operation.site == 0)
                return false;
        }
        if (!advance(parser) || !parse_binary(parser, operator.level + 1) ||
            !push(parser, operation))
            return false;
    }
    return true;
}

bool parse_expression(struct parser *parser, uint32_t *start, uint32_t *length)
{
    const struct operations *list = &parser->syntax->expressions;

    *start = (uint32_t)list->count;
    if (!parse_binary(parser, 1))
        return false;
    *length = (uint32_t)list->count - *start;
    return true;
}
