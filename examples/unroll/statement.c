/* statement.c: parses statements by recursive descent, and measures them for the limits
 * of README.md. */
#include "parser.h"

/* Parses a block into its statements. */
static bool parse_block(struct parser *parser, struct sequence *block)
{
    if (!open_block(parser) || !parse_statements(parser, TOKEN_RIGHT_BRACE, block))
        return false;
    return close_block(parser);
}

static uint32_t parse_statement(struct parser *parser);

static bool parse_assignment(struct parser *parser, uint32_t index)
{
    uint32_t start, length;
    uint16_t variable;

    if (!parse_target(parser, &variable) || !expect(parser, TOKEN_ASSIGN) ||
        !parse_expression(parser, &start, &length) || !expect(parser, TOKEN_SEMICOLON))
        return false;
    mark_assigned(parser, variable);
    at(parser, index)->variable = variable;
    at(parser, index)->expression = start;
    at(parser, index)->expression_length = length;
    at(parser, index)->weight = 1 + length;
    return true;
}

static bool parse_print(struct parser *parser, uint32_t index)
{
    uint32_t start, length, site = add_site(parser, UNROLL_OUTPUT, &parser->token);

    if (site == 0 || !advance(parser) || !parse_expression(parser, &start, &length) ||
        !expect(parser, TOKEN_SEMICOLON))
        return false;
    at(parser, index)->site = site;
    at(parser, index)->expression = start;
    at(parser, index)->expression_length = length;
    at(parser, index)->weight = 1 + length;
    return true;
}

/* Parses what follows "else": a block, or an if that counts as a level of nesting. */
static bool parse_else(struct parser *parser, struct sequence *otherwise)
{
    if (parser->token.kind != TOKEN_IF)
        return parse_block(parser, otherwise);
    if (!open_level(parser))
        return false;
    otherwise->first = parse_statement(parser);
    if (otherwise->first == 0)
        return false;
    otherwise->weight = at(parser, otherwise->first)->weight;
    otherwise->size = at(parser, otherwise->first)->size;
    parser->nesting--;
    return true;
}

static bool parse_if(struct parser *parser, uint32_t index)
{
    struct sequence body, otherwise = {0, 0, 0};
    uint32_t start, length;

    if (!advance(parser) || !expect(parser, TOKEN_LEFT_PARENTHESIS) ||
        !parse_expression(parser, &start, &length) ||
        !expect(parser, TOKEN_RIGHT_PARENTHESIS) || !parse_block(parser, &body))
        return false;
    if (parser->token.kind == TOKEN_ELSE &&
        (!advance(parser) || !parse_else(parser, &otherwise)))
        return false;
    at(parser, index)->expression = start;
    at(parser, index)->expression_length = length;
    at(parser, index)->body = body.first;
    at(parser, index)->otherwise = otherwise.first;
    at(parser, index)->weight = 1 + length + body.weight + otherwise.weight;
    at(parser, index)->size = limit_size(body.size + otherwise.size);
    return true;
}

static bool parse_inner_block(struct parser *parser, uint32_t index)
{
    struct sequence body;

    if (!parse_block(parser, &body))
        return false;
    at(parser, index)->body = body.first;
    at(parser, index)->weight = body.weight;
    at(parser, index)->size = body.size;
    return true;
}

/* Returns the index of the statement, or 0. */
static uint32_t parse_statement(struct parser *parser)
{
    static const struct {
        enum statement_kind kind;
        bool (*parse)(struct parser *parser, uint32_t index);
    } kinds[] = {
        [TOKEN_NAME] = {STATEMENT_ASSIGN, parse_assignment},
        [TOKEN_PRINT] = {STATEMENT_PRINT, parse_print},
        [TOKEN_IF] = {STATEMENT_IF, parse_if},
        [TOKEN_FOR] = {STATEMENT_FOR, parse_for},
        [TOKEN_LEFT_BRACE] = {STATEMENT_BLOCK, parse_inner_block},
    };
    size_t kind = parser->token.kind;
    uint32_t index;

    if (kind >= sizeof kinds / sizeof *kinds || !kinds[kind].parse) {
        fail_expected(parser, parser->nesting ? "a statement or '}'" : "a statement");
        return 0;
    }
    index = add_statement(parser, kinds[kind].kind);
    return index && kinds[kind].parse(parser, index) ? index : 0;
}

bool parse_statements(struct parser *parser, enum token_kind end,
                      struct sequence *sequence)
{
    uint32_t last = 0;

    *sequence = (struct sequence){0, 0, 0};
    while (parser->token.kind != end) {
        uint32_t index = parse_statement(parser);

        if (index == 0)
            return false;
        /* Without weight, nothing bounds the copies of empty blocks. */
        if (at(parser, index)->kind == STATEMENT_BLOCK && at(parser, index)->body == 0)
            continue;
        if (last)
            at(parser, last)->next = index;
        else
            sequence->first = index;
        last = index;
        sequence->weight += at(parser, index)->weight;
        sequence->size = limit_size(sequence->size + at(parser, index)->size);
    }
    return true;
}
