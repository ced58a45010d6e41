/* translator.c: makes operations of a parsed program, and unrolls its loops.
 *
 * A loop whose body does not set its variable becomes N copies of the body. In each
 * copy the variable is a number. Operators with two numbers are then calculated here,
 * and an if with a number as its condition becomes one of its branches.
 *
 * Where the body sets the variable, the number of turns is not known before the run. N
 * copies then follow each other, with a test of the variable after each of them. After
 * the last copy, the first follows again.
 */
#include "translator.h"

#include "memory.h"

#define MAX_FREQUENCY 1000000

struct translator {
    const struct syntax *syntax;
    struct code *code;
    bool unroll;
    bool count_steps;
    bool failed;        /* no memory */
    uint32_t frequency; /* turns of the loops around this place */
    bool known[UNROLL_MAX_VARIABLES];
    int64_t values[UNROLL_MAX_VARIABLES]; /* of known variables */
};

static void translate_statements(struct translator *translator, uint32_t first);

static size_t emit(struct translator *translator, struct operation operation)
{
    struct operations *list = &translator->code->operations;
    struct operation *items = reserve(list->items, list->count, &list->capacity,
                                      sizeof *items);

    if (!items) {
        translator->failed = true;
        return 0;
    }
    list->items = items;
    items[list->count] = operation;
    return list->count++;
}

static size_t emit_variable(struct translator *translator,
                            enum operation_code operation_code, uint16_t variable)
{
    translator->code->uses[variable] += translator->frequency;
    return emit(translator, (struct operation){.code = (uint8_t)operation_code,
                                               .variable = variable});
}

static void emit_number(struct translator *translator, int64_t value)
{
    emit(translator, (struct operation){.code = OPERATION_NUMBER, .value = value});
}

static size_t position(const struct translator *translator)
{
    return translator->code->operations.count;
}

/* The jump at this index goes to the next operation. */
static void land(struct translator *translator, size_t jump)
{
    if (!translator->failed)
        translator->code->operations.items[jump].value = (int64_t)position(translator);
}

/* Replaces numbers at the end, operands of this operator, by their result. */
static bool fold(struct translator *translator, struct operation operation)
{
    struct operations *list = &translator->code->operations;
    struct operation *right = list->items + list->count - 1;

    if (translator->failed || right->code != OPERATION_NUMBER)
        return false;
    if (operation.code == OPERATION_NEGATE) {
        right->value = negate(right->value);
        return true;
    }
    if (right[-1].code != OPERATION_NUMBER)
        return false;
    /* Division by zero is an error of the run. */
    if (operation.site && right->value == 0)
        return false;
    right[-1].value = calculate(operation.code, right[-1].value, right->value);
    list->count--;
    return true;
}

static void translate_expression(struct translator *translator,
                                 const struct statement *statement)
{
    const struct operation *item =
        translator->syntax->expressions.items + statement->expression;
    const struct operation *end = item + statement->expression_length;

    for (; item < end; item++) {
        if (item->code == OPERATION_NUMBER)
            emit(translator, *item);
        else if (item->code != OPERATION_LOAD) {
            if (!fold(translator, *item))
                emit(translator, *item);
        } else if (translator->known[item->variable])
            emit_number(translator, translator->values[item->variable]);
        else
            emit_variable(translator, OPERATION_LOAD, item->variable);
    }
}

static void translate_assignment(struct translator *translator,
                                 const struct statement *statement)
{
    translate_expression(translator, statement);
    emit_variable(translator, OPERATION_STORE, statement->variable);
}

static void translate_print(struct translator *translator,
                            const struct statement *statement)
{
    translate_expression(translator, statement);
    emit(translator,
         (struct operation){.code = OPERATION_PRINT, .site = statement->site});
}

/* If the operations from start on are one number, removes and returns it. */
static bool take_number(struct translator *translator, size_t start, int64_t *value)
{
    struct operations *list = &translator->code->operations;

    if (translator->failed || list->count != start + 1 ||
        list->items[start].code != OPERATION_NUMBER)
        return false;
    *value = list->items[start].value;
    list->count = start;
    return true;
}

static void translate_if(struct translator *translator,
                         const struct statement *statement)
{
    size_t start = position(translator), unless, jump;
    int64_t value;

    translate_expression(translator, statement);
    if (take_number(translator, start, &value)) {
        translate_statements(translator,
                             value ? statement->body : statement->otherwise);
        return;
    }
    unless = emit(translator, (struct operation){.code = OPERATION_JUMP_UNLESS});
    translate_statements(translator, statement->body);
    if (statement->otherwise) {
        jump = emit(translator, (struct operation){.code = OPERATION_JUMP});
        land(translator, unless);
        translate_statements(translator, statement->otherwise);
        land(translator, jump);
    } else {
        land(translator, unless);
    }
}

static void set_variable(struct translator *translator, uint16_t variable,
                         int64_t value)
{
    emit_number(translator, value);
    emit_variable(translator, OPERATION_STORE, variable);
}

/* The start of one turn, and the body. */
static void translate_turn(struct translator *translator,
                           const struct statement *loop)
{
    if (translator->count_steps)
        emit(translator,
             (struct operation){
                 .code = OPERATION_TURN,
                 .site = loop->site,
                 .value = 1 + (int64_t)loop->body_weight,
             });
    translate_statements(translator, loop->body);
}

/* Returns the index of the jump at the end of a turn. */
static size_t emit_next(struct translator *translator, const struct statement *loop,
                        enum operation_code operation_code, size_t target)
{
    size_t jump = emit_variable(translator, operation_code, loop->variable);

    if (!translator->failed) {
        struct operation *operation = translator->code->operations.items + jump;

        operation->turns = loop->turns;
        operation->value = (int64_t)target;
    }
    return jump;
}

static void translate_looped(struct translator *translator,
                             const struct statement *loop)
{
    uint32_t frequency = translator->frequency;
    size_t start;

    set_variable(translator, loop->variable, 0);
    start = position(translator);
    if (frequency < MAX_FREQUENCY)
        translator->frequency *= loop->turns;
    translate_turn(translator, loop);
    emit_next(translator, loop, OPERATION_NEXT, start);
    translator->frequency = frequency;
}

static void unroll(struct translator *translator, const struct statement *loop)
{
    translator->known[loop->variable] = true;
    for (int64_t turn = 0; turn < loop->turns && !translator->failed; turn++) {
        translator->values[loop->variable] = turn;
        translate_turn(translator, loop);
    }
    translator->known[loop->variable] = false;
    set_variable(translator, loop->variable, loop->turns);
}

static void unroll_with_tests(struct translator *translator,
                              const struct statement *loop)
{
    size_t start, last = 0;

    set_variable(translator, loop->variable, 0);
    start = position(translator);
    for (unsigned turn = 1; turn < loop->turns && !translator->failed; turn++) {
        translate_turn(translator, loop);
        /* Until the end is known, each test refers to the test before. */
        last = emit_next(translator, loop, OPERATION_LAST, last);
    }
    translate_turn(translator, loop);
    emit_next(translator, loop, OPERATION_NEXT, start);
    while (last && !translator->failed) {
        size_t before = (size_t)translator->code->operations.items[last].value;

        land(translator, last);
        last = before;
    }
}

static void translate_loop(struct translator *translator, const struct statement *loop)
{
    if (loop->turns == 0)
        set_variable(translator, loop->variable, 0);
    else if (!translator->unroll)
        translate_looped(translator, loop);
    else if (loop->sets_variable)
        unroll_with_tests(translator, loop);
    else
        unroll(translator, loop);
}

static void translate_statements(struct translator *translator, uint32_t first)
{
    uint32_t index = first;

    while (index && !translator->failed) {
        const struct statement *statement = translator->syntax->statements + index;

        switch (statement->kind) {
        case STATEMENT_ASSIGN:
            translate_assignment(translator, statement);
            break;
        case STATEMENT_PRINT:
            translate_print(translator, statement);
            break;
        case STATEMENT_IF:
            translate_if(translator, statement);
            break;
        case STATEMENT_FOR:
            translate_loop(translator, statement);
            break;
        case STATEMENT_BLOCK:
            translate_statements(translator, statement->body);
            break;
        }
        index = statement->next;
    }
}

bool translate(const struct syntax *syntax, enum unroll_form form, uint32_t max_steps,
               struct code *code)
{
    struct translator translator = {
        .syntax = syntax,
        .code = code,
        .unroll = form == UNROLL_UNROLLED,
        .count_steps = syntax->sets_variable || syntax->size > max_steps,
        .frequency = 1,
    };

    translate_statements(&translator, syntax->first);
    emit(&translator, (struct operation){.code = OPERATION_END});
    return !translator.failed;
}
