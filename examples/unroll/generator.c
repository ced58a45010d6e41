/* generator.c: generates x86-64 machine code for the operations of a program.
 *
 * The code is one function that calls nothing. rbx points to struct run, r12 holds the
 * steps that are left. The most used variables are in registers, the others in struct
 * run. Values on the stack of the operations are in registers too, or in the frame.
 */
#include "generator.h"

#include <stdlib.h>
#include <string.h>

static const enum machine_register variable_registers[] = {R13, R14, R15,
                                                           RBP, R10, R11};
static const enum machine_register stack_registers[] = {RSI, RDI, R8, R9};
/* Registers that belong to the caller. */
static const enum machine_register saved_registers[] = {RBX, RBP, R12, R13, R14, R15};

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define STEPS R12
#define FRAME ((int32_t)((MAX_STACK - COUNT(stack_registers)) * 8))

static struct place run_field(size_t offset)
{
    return in_memory(RBX, offset);
}

struct place stack_place(size_t index)
{
    if (index < COUNT(stack_registers))
        return in_register(stack_registers[index]);
    return in_memory(RSP, (index - COUNT(stack_registers)) * 8);
}

struct place operand_place(const struct generator *generator, size_t index)
{
    const struct operand *operand = &generator->stack[index];

    if (operand->kind == OPERAND_VARIABLE)
        return generator->variables[operand->variable];
    return stack_place(index);
}

void load_operand(struct generator *generator, size_t index, enum machine_register reg)
{
    const struct operand *operand = &generator->stack[index];
    struct place place;

    if (operand->kind == OPERAND_NUMBER) {
        move_number(generator->assembly, in_register(reg), operand->number);
        return;
    }
    place = operand_place(generator, index);
    if (place.in_memory || place.reg != reg)
        instruct(generator->assembly, MOVE, reg, place);
}

/* Adds a jump to those with the same unknown target. */
static void chain(struct assembly *assembly, uint32_t *last, size_t position)
{
    if (assembly->failed)
        return;
    memcpy(assembly->bytes + position, last, sizeof *last);
    *last = (uint32_t)position;
}

/* Sets the target of all jumps in a chain to the end of the code. */
static void land(struct assembly *assembly, uint32_t last)
{
    while (last && !assembly->failed) {
        uint32_t before;

        memcpy(&before, assembly->bytes + last, sizeof before);
        set_target(assembly, last, assembly->count);
        last = before;
    }
}

void target_operation(struct generator *generator, size_t position, int64_t operation)
{
    uint32_t *target = &generator->positions[operation];

    if ((size_t)operation > generator->current)
        chain(generator->assembly, target, position);
    else
        set_target(generator->assembly, position, *target);
}

void target_exit(struct generator *generator, size_t position, uint32_t site)
{
    chain(generator->assembly, &generator->exits[site], position);
}

/* Gives registers to the most used variables. */
static void place_variables(struct generator *generator, const struct code *code,
                            size_t variable_count)
{
    for (size_t i = 0; i < variable_count; i++)
        generator->variables[i] =
            run_field(offsetof(struct run, variables) + i * sizeof(int64_t));
    for (size_t i = 0; i < COUNT(variable_registers) && i < variable_count; i++) {
        size_t most = variable_count;

        for (size_t j = 0; j < variable_count; j++)
            if (generator->variables[j].in_memory &&
                (most == variable_count || code->uses[j] > code->uses[most]))
                most = j;
        generator->variables[most] = in_register(variable_registers[i]);
    }
}

/* Moves the variables that have registers from or to struct run. */
static void move_variables(struct generator *generator, size_t variable_count,
                           enum instruction instruction)
{
    for (size_t i = 0; i < variable_count; i++)
        if (!generator->variables[i].in_memory)
            instruct(generator->assembly, instruction, generator->variables[i].reg,
                     run_field(offsetof(struct run, variables) + i * sizeof(int64_t)));
}

static void generate_entry(struct generator *generator, size_t variable_count)
{
    struct assembly *assembly = generator->assembly;

    append(assembly, "\xf3\x0f\x1e\xfa", 4); /* endbr64: for indirect branch tracking */
    for (size_t i = 0; i < COUNT(saved_registers); i++)
        push_register(assembly, saved_registers[i]);
    instruct_number(assembly, SUBTRACT_NUMBER, in_register(RSP), FRAME);
    instruct(assembly, MOVE, RBX, in_register(RDI));
    instruct(assembly, MOVE, STEPS, run_field(offsetof(struct run, steps)));
    move_variables(generator, variable_count, MOVE);
}

/* The end, and the exits for all sites with errors. The site is in eax. */
static void generate_exits(struct generator *generator, size_t variable_count,
                           size_t site_count)
{
    struct assembly *assembly = generator->assembly;
    size_t end = assembly->count;

    move_variables(generator, variable_count, STORE);
    instruct_number(assembly, ADD_NUMBER, in_register(RSP), FRAME);
    for (size_t i = COUNT(saved_registers); i > 0; i--)
        pop_register(assembly, saved_registers[i - 1]);
    append(assembly, "\xc3", 1); /* ret */
    for (size_t site = 1; site < site_count; site++) {
        if (generator->exits[site] == 0)
            continue;
        land(assembly, generator->exits[site]);
        move_number(assembly, in_register(RAX), (int64_t)site);
        set_target(assembly, jump(assembly), end);
    }
}

static void push_operand(struct generator *generator, struct operand operand)
{
    generator->stack[generator->depth++] = operand;
}

static void generate_store(struct generator *generator, uint16_t variable)
{
    size_t index = --generator->depth;
    const struct operand *operand = &generator->stack[index];
    struct place target = generator->variables[variable];
    struct place place = in_register(RAX);

    if (operand->kind == OPERAND_NUMBER) {
        move_number(generator->assembly, target, operand->number);
    } else if (!target.in_memory) {
        load_operand(generator, index, target.reg);
    } else {
        if (operand_place(generator, index).in_memory)
            load_operand(generator, index, RAX);
        else
            place = operand_place(generator, index);
        instruct(generator->assembly, STORE, place.reg, target);
    }
}

static void generate_print(struct generator *generator, uint32_t site)
{
    struct assembly *assembly = generator->assembly;
    struct place next = run_field(offsetof(struct run, values));

    load_operand(generator, --generator->depth, RAX);
    instruct(assembly, MOVE, RCX, next);
    instruct(assembly, COMPARE, RCX, run_field(offsetof(struct run, values_end)));
    target_exit(generator, jump_if(assembly, IF_EQUAL), site);
    instruct(assembly, STORE, RAX, in_memory(RCX, 0));
    instruct_number(assembly, ADD_NUMBER, next, sizeof(int64_t));
}

static void generate_jump_unless(struct generator *generator, int64_t target)
{
    load_operand(generator, --generator->depth, RAX);
    instruct(generator->assembly, TEST, RAX, in_register(RAX));
    target_operation(generator, jump_if(generator->assembly, IF_EQUAL), target);
}

static void generate_turn(struct generator *generator,
                          const struct operation *operation)
{
    instruct_number(generator->assembly, SUBTRACT_NUMBER, in_register(STEPS),
                    (int32_t)operation->value);
    target_exit(generator, jump_if(generator->assembly, IF_NEGATIVE), operation->site);
}

static void generate_next(struct generator *generator,
                          const struct operation *operation, enum condition condition)
{
    struct place variable = generator->variables[operation->variable];

    instruct_number(generator->assembly, ADD_NUMBER, variable, 1);
    instruct_number(generator->assembly, COMPARE_NUMBER, variable, operation->turns);
    target_operation(generator, jump_if(generator->assembly, condition),
                     operation->value);
}

static void generate_operation(struct generator *generator)
{
    const struct operation *operation = generator->operations + generator->current;
    struct operand operand = {OPERAND_NUMBER, operation->variable, operation->value};

    switch ((enum operation_code)operation->code) {
    case OPERATION_NUMBER:
        push_operand(generator, operand);
        break;
    case OPERATION_LOAD:
        operand.kind = OPERAND_VARIABLE;
        push_operand(generator, operand);
        break;
    case OPERATION_STORE:
        generate_store(generator, operation->variable);
        break;
    case OPERATION_PRINT:
        generate_print(generator, operation->site);
        break;
    case OPERATION_JUMP:
        target_operation(generator, jump(generator->assembly), operation->value);
        break;
    case OPERATION_JUMP_UNLESS:
        generate_jump_unless(generator, operation->value);
        break;
    case OPERATION_TURN:
        generate_turn(generator, operation);
        break;
    case OPERATION_NEXT:
        generate_next(generator, operation, IF_LESS);
        break;
    case OPERATION_LAST:
        generate_next(generator, operation, IF_GREATER_EQUAL);
        break;
    case OPERATION_END:
        move_number(generator->assembly, in_register(RAX), 0);
        break;
    default:
        generate_operator(generator);
    }
}

static void generate_operations(struct generator *generator, size_t count)
{
    struct assembly *assembly = generator->assembly;

    for (; generator->current < count && !assembly->failed; generator->current++) {
        uint32_t *position = &generator->positions[generator->current];

        land(assembly, *position);
        *position = (uint32_t)assembly->count;
        generate_operation(generator);
    }
}

static void generate_function(struct generator *generator, const struct code *code,
                              size_t variable_count, size_t site_count)
{
    place_variables(generator, code, variable_count);
    generate_entry(generator, variable_count);
    generate_operations(generator, code->operations.count);
    generate_exits(generator, variable_count, site_count);
}

bool generate(const struct code *code, size_t variable_count, size_t site_count,
              struct assembly *assembly)
{
    struct generator *generator = calloc(1, sizeof *generator);

    if (!generator)
        return false;
    generator->operations = code->operations.items;
    generator->assembly = assembly;
    generator->positions =
        calloc(code->operations.count, sizeof *generator->positions);
    generator->exits = calloc(site_count, sizeof *generator->exits);
    assembly->failed = !generator->positions || !generator->exits;
    if (!assembly->failed)
        generate_function(generator, code, variable_count, site_count);
    free(generator->positions);
    free(generator->exits);
    free(generator);
    return !assembly->failed;
}
