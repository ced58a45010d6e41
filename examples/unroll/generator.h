/* generator.h: state that the parts of the code generator share. */
#ifndef GENERATOR_H
#define GENERATOR_H

#include "assembler.h"

enum operand_kind { OPERAND_NUMBER, OPERAND_VARIABLE, OPERAND_RESULT };

/* A value on the stack of the operations. Numbers and variables get no instruction
 * until an operator needs them. Only results have a place of their own. */
struct operand {
    enum operand_kind kind;
    uint16_t variable;
    int64_t number;
};

struct generator {
    const struct operation *operations;
    size_t current; /* operation */
    struct assembly *assembly;
    struct place variables[UNROLL_MAX_VARIABLES];
    struct operand stack[MAX_STACK];
    size_t depth;
    /* Position of the code of each operation. In front of it: the last jump there,
     * whose displacement is the jump before, down to 0. */
    uint32_t *positions;
    uint32_t *exits; /* the last jump to the exit for each site, likewise */
};

/* Place of a result with this index on the stack. */
struct place stack_place(size_t index);

/* Place of a value on the stack that is not a number. */
struct place operand_place(const struct generator *generator, size_t index);

/* Moves a value on the stack into a register. */
void load_operand(struct generator *generator, size_t index,
                  enum machine_register reg);

/* Jump to an operation, or to the exit for a site, at this position in the code. */
void target_operation(struct generator *generator, size_t position, int64_t operation);
void target_exit(struct generator *generator, size_t position, uint32_t site);

/* Generates the current operation, an operator. Includes the next operation if it is a
 * jump or an assignment that needs no other instructions. */
void generate_operator(struct generator *generator);

#endif
