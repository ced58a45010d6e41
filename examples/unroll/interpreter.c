/* interpreter.c: runs the operations of a program one by one. */
#include "engine.h"

/* Pops for one operator with two operands. Returns false on division by zero. */
static bool apply(const struct operation *operation, int64_t **top)
{
    int64_t right = *(*top)--;

    if (operation->site && right == 0)
        return false;
    **top = calculate(operation->code, **top, right);
    return true;
}

/* Adds 1 to the variable of a loop. Returns whether the loop has another turn. */
static bool count_turn(const struct operation *operation, int64_t *variables)
{
    int64_t *variable = &variables[operation->variable];

    *variable = calculate(OPERATION_ADD, *variable, 1);
    return *variable < operation->turns;
}

uint32_t interpret(const struct operation *operations, struct run *run)
{
    const struct operation *operation = operations;
    int64_t stack[MAX_STACK + 1]; /* one unused value below */
    int64_t *top = stack;

    for (;; operation++) {
        switch ((enum operation_code)operation->code) {
        case OPERATION_NUMBER:
            *++top = operation->value;
            break;
        case OPERATION_LOAD:
            *++top = run->variables[operation->variable];
            break;
        case OPERATION_STORE:
            run->variables[operation->variable] = *top--;
            break;
        case OPERATION_NEGATE:
            *top = negate(*top);
            break;
        case OPERATION_PRINT:
            if (run->values == run->values_end)
                return operation->site;
            *run->values++ = *top--;
            break;
        case OPERATION_JUMP_UNLESS:
            if (*top-- != 0)
                break;
            operation = operations + operation->value - 1;
            break;
        case OPERATION_JUMP:
            operation = operations + operation->value - 1;
            break;
        case OPERATION_TURN:
            run->steps -= operation->value;
            if (run->steps < 0)
                return operation->site;
            break;
        case OPERATION_NEXT:
            if (count_turn(operation, run->variables))
                operation = operations + operation->value - 1;
            break;
        case OPERATION_LAST:
            if (!count_turn(operation, run->variables))
                operation = operations + operation->value - 1;
            break;
        case OPERATION_END:
            return 0;
        default:
            if (!apply(operation, &top))
                return operation->site;
        }
    }
}
