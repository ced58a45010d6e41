/* operators.c: generates machine code for operators, in which rax, rcx and rdx are free
 * to use. */
#include "generator.h"

static const struct operation *next_operation(const struct generator *generator)
{
    return generator->operations + generator->current + 1;
}

static bool is_variable(const struct operand *operand, uint16_t variable)
{
    return operand->kind == OPERAND_VARIABLE && operand->variable == variable;
}

/* Whether the result can be calculated in the register of a variable: an assignment to
 * it follows, and the right operand does not need the old value. */
static bool can_assign(const struct generator *generator, size_t operands)
{
    const struct operation *next = next_operation(generator);
    const struct operand *left = &generator->stack[generator->depth - operands];

    return next->code == OPERATION_STORE &&
           !generator->variables[next->variable].in_memory &&
           (operands == 1 || is_variable(left, next->variable) ||
            !is_variable(left + 1, next->variable));
}

/* Takes the operands off the stack. Returns the place for the result, a variable or the
 * top of the stack. */
static struct place take_operands(struct generator *generator, size_t operands)
{
    bool assign = can_assign(generator, operands);

    generator->depth -= operands;
    if (assign) {
        generator->current++;
        return generator->variables[generator->operations[generator->current].variable];
    }
    return stack_place(generator->depth);
}

/* Puts the result on the stack, if the last operation was not an assignment. */
static void push_result(struct generator *generator)
{
    if (generator->operations[generator->current].code != OPERATION_STORE)
        generator->stack[generator->depth++].kind = OPERAND_RESULT;
}

static enum machine_register work_register(struct place result)
{
    return result.in_memory ? RAX : result.reg;
}

static void store_result(struct generator *generator, enum machine_register reg,
                         struct place result)
{
    if (result.in_memory)
        instruct(generator->assembly, STORE, reg, result);
    else if (result.reg != reg)
        instruct(generator->assembly, MOVE, result.reg, in_register(reg));
    push_result(generator);
}

static void generate_negation(struct generator *generator)
{
    size_t index = generator->depth - 1;
    struct place result = take_operands(generator, 1);
    enum machine_register reg = work_register(result);

    load_operand(generator, index, reg);
    negate_place(generator->assembly, in_register(reg));
    store_result(generator, reg, result);
}

/* reg = reg operator number */
static void combine_number(struct generator *generator, enum operation_code code,
                           enum machine_register reg, int32_t number)
{
    struct place place = in_register(reg);

    if (code == OPERATION_MULTIPLY)
        multiply_number(generator->assembly, reg, place, number);
    else if (number != 0)
        instruct_number(generator->assembly,
                        code == OPERATION_ADD ? ADD_NUMBER : SUBTRACT_NUMBER, place,
                        number);
}

/* Addition, subtraction and multiplication. */
static void generate_arithmetic(struct generator *generator, enum operation_code code)
{
    size_t left = generator->depth - 2, right = left + 1;
    const struct operand *operand = &generator->stack[right];
    struct place result = take_operands(generator, 2);
    enum machine_register reg = work_register(result);
    enum instruction instruction = code == OPERATION_ADD        ? ADD
                                   : code == OPERATION_SUBTRACT ? SUBTRACT
                                                                : MULTIPLY;

    load_operand(generator, left, reg);
    if (operand->kind != OPERAND_NUMBER) {
        instruct(generator->assembly, instruction, reg,
                 operand_place(generator, right));
    } else if (is_short(operand->number)) {
        combine_number(generator, code, reg, (int32_t)operand->number);
    } else {
        move_number(generator->assembly, in_register(RCX), operand->number);
        instruct(generator->assembly, instruction, reg, in_register(RCX));
    }
    store_result(generator, reg, result);
}

/* rax divided by -1. idiv(1) would raise an exception for the lowest value. */
static void generate_minus_one(struct generator *generator, bool remainder)
{
    if (remainder)
        move_number(generator->assembly, in_register(RDX), 0);
    else
        negate_place(generator->assembly, in_register(RAX));
}

/* rax divided by a number, which is rarely -1 or 0. */
static void generate_division_by(struct generator *generator, int64_t number,
                                 bool remainder, uint32_t site)
{
    if (number == 0) {
        target_exit(generator, jump(generator->assembly), site);
    } else if (number == -1) {
        generate_minus_one(generator, remainder);
    } else {
        move_number(generator->assembly, in_register(RCX), number);
        divide(generator->assembly, in_register(RCX));
    }
}

/* rax divided by rcx. */
static void generate_any_division(struct generator *generator, bool remainder,
                                  uint32_t site)
{
    struct assembly *assembly = generator->assembly;
    size_t other, end;

    instruct(assembly, TEST, RCX, in_register(RCX));
    target_exit(generator, jump_if(assembly, IF_EQUAL), site);
    instruct_number(assembly, COMPARE_NUMBER, in_register(RCX), -1);
    other = jump_if(assembly, IF_NOT_EQUAL);
    generate_minus_one(generator, remainder);
    end = jump(assembly);
    set_target(assembly, other, assembly->count);
    divide(assembly, in_register(RCX));
    set_target(assembly, end, assembly->count);
}

static void generate_division(struct generator *generator,
                              const struct operation *operation)
{
    bool remainder = operation->code == OPERATION_REMAINDER;
    size_t left = generator->depth - 2, right = left + 1;
    const struct operand *operand = &generator->stack[right];
    struct place result = take_operands(generator, 2);

    load_operand(generator, left, RAX);
    if (operand->kind == OPERAND_NUMBER) {
        generate_division_by(generator, operand->number, remainder, operation->site);
    } else {
        load_operand(generator, right, RCX);
        generate_any_division(generator, remainder, operation->site);
    }
    store_result(generator, remainder ? RDX : RAX, result);
}

/* Compares two operands. */
static void compare(struct generator *generator, size_t left, size_t right)
{
    const struct operand *operands = generator->stack;
    struct place place = in_register(RAX);

    if (operands[left].kind != OPERAND_NUMBER)
        place = operand_place(generator, left);
    else
        load_operand(generator, left, RAX);
    if (operands[right].kind == OPERAND_NUMBER && is_short(operands[right].number)) {
        instruct_number(generator->assembly, COMPARE_NUMBER, place,
                        (int32_t)operands[right].number);
        return;
    }
    if (place.in_memory) {
        load_operand(generator, left, RAX);
        place = in_register(RAX);
    }
    if (operands[right].kind == OPERAND_NUMBER) {
        load_operand(generator, right, RCX);
        instruct(generator->assembly, COMPARE, place.reg, in_register(RCX));
    } else {
        instruct(generator->assembly, COMPARE, place.reg,
                 operand_place(generator, right));
    }
}

static enum condition condition_of(enum operation_code code)
{
    switch (code) {
    case OPERATION_EQUAL:
        return IF_EQUAL;
    case OPERATION_NOT_EQUAL:
        return IF_NOT_EQUAL;
    case OPERATION_LESS:
        return IF_LESS;
    case OPERATION_LESS_EQUAL:
        return IF_LESS_EQUAL;
    case OPERATION_GREATER:
        return IF_GREATER;
    default:
        return IF_GREATER_EQUAL;
    }
}

static void generate_comparison(struct generator *generator, enum operation_code code)
{
    const struct operation *next = next_operation(generator);
    enum condition condition = condition_of(code);
    struct place result;

    compare(generator, generator->depth - 2, generator->depth - 1);
    if (next->code == OPERATION_JUMP_UNLESS) {
        generator->depth -= 2;
        generator->current++;
        /* Conditions with bit 0 are the opposites of those without. */
        target_operation(generator, jump_if(generator->assembly, condition ^ 1),
                         next->value);
        return;
    }
    result = take_operands(generator, 2);
    set_if(generator->assembly, condition, work_register(result));
    store_result(generator, work_register(result), result);
}

void generate_operator(struct generator *generator)
{
    const struct operation *operation = generator->operations + generator->current;

    switch ((enum operation_code)operation->code) {
    case OPERATION_NEGATE:
        generate_negation(generator);
        break;
    case OPERATION_ADD:
    case OPERATION_SUBTRACT:
    case OPERATION_MULTIPLY:
        generate_arithmetic(generator, operation->code);
        break;
    case OPERATION_DIVIDE:
    case OPERATION_REMAINDER:
        generate_division(generator, operation);
        break;
    default:
        generate_comparison(generator, operation->code);
    }
}
