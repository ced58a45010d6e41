/* operation.h: operations of a stack machine. Expressions of a parsed program and both
 * compiled forms consist of them; interpreter and machine code give them their meaning.
 */
#ifndef OPERATION_H
#define OPERATION_H

#include "unroll.h"

enum operation_code {
    OPERATION_NUMBER, /* push value */
    OPERATION_LOAD,   /* push variable */
    OPERATION_STORE,  /* pop into variable */
    OPERATION_NEGATE,
    OPERATION_ADD, /* from here: pop right, pop left, push result */
    OPERATION_SUBTRACT,
    OPERATION_MULTIPLY,
    OPERATION_DIVIDE,
    OPERATION_REMAINDER,
    OPERATION_EQUAL,
    OPERATION_NOT_EQUAL,
    OPERATION_LESS,
    OPERATION_LESS_EQUAL,
    OPERATION_GREATER,
    OPERATION_GREATER_EQUAL,
    OPERATION_PRINT,       /* pop */
    OPERATION_JUMP,        /* to operation number value */
    OPERATION_JUMP_UNLESS, /* pop; jump if 0 */
    OPERATION_TURN,        /* take value steps */
    OPERATION_NEXT,        /* add 1 to variable; jump if it is less than turns */
    OPERATION_LAST,        /* add 1 to variable; jump unless it is less than turns */
    OPERATION_END
};

struct operation {
    uint8_t code;
    uint8_t turns;
    uint16_t variable;
    uint32_t site; /* of an operation that can fail */
    int64_t value;
};

struct operations {
    struct operation *items;
    size_t count, capacity;
};

/* Place in the text where a run can fail, and how. */
struct site {
    enum unroll_error_kind kind;
    uint32_t line, column;
};

/* Values on the stack at any time: one left operand for each of the 4 levels of binary
 * operators in each open parenthesis and outside, and the last right operand. */
#define MAX_STACK (4 * (UNROLL_MAX_NESTING + 1) + 1)

/* Results of operators as the language defines them: overflow wraps around, and is
 * computed without a sign. The right operand of / and % is not 0. */
static inline int64_t negate(int64_t value)
{
    return (int64_t)(0 - (uint64_t)value);
}

static inline int64_t calculate(enum operation_code code, int64_t left, int64_t right)
{
    switch (code) {
    case OPERATION_ADD:
        return (int64_t)((uint64_t)left + (uint64_t)right);
    case OPERATION_SUBTRACT:
        return (int64_t)((uint64_t)left - (uint64_t)right);
    case OPERATION_MULTIPLY:
        return (int64_t)((uint64_t)left * (uint64_t)right);
    case OPERATION_DIVIDE:
        return right == -1 ? negate(left) : left / right;
    case OPERATION_REMAINDER:
        return right == -1 ? 0 : left % right;
    case OPERATION_EQUAL:
        return left == right;
    case OPERATION_NOT_EQUAL:
        return left != right;
    case OPERATION_LESS:
        return left < right;
    case OPERATION_LESS_EQUAL:
        return left <= right;
    case OPERATION_GREATER:
        return left > right;
    case OPERATION_GREATER_EQUAL:
        return left >= right;
    default:
        return 0;
    }
}

#endif
