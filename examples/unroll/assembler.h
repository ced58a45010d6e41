/* assembler.h: encodes x86-64 instructions on 64-bit operands. Intel SDM, volume 2. */
#ifndef ASSEMBLER_H
#define ASSEMBLER_H

#include "engine.h"

enum machine_register {
    RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15
};

/* A register, or 8 bytes of memory at a displacement from rbx or rsp. */
struct place {
    bool in_memory;
    enum machine_register reg; /* the register, or the base */
    int32_t displacement;
};

/* Instructions with a register and a place; in mov to memory, the place is changed. */
enum instruction {
    ADD = 0x03,
    SUBTRACT = 0x2b,
    COMPARE = 0x3b,
    TEST = 0x85,
    STORE = 0x89,
    MOVE = 0x8b,
    MULTIPLY = 0xfaf /* two bytes */
};

/* The same with a place and a number: bits 3 to 5 of the byte after the opcode. */
enum immediate_instruction { ADD_NUMBER = 0, SUBTRACT_NUMBER = 5, COMPARE_NUMBER = 7 };

enum condition {
    IF_EQUAL = 0x4,
    IF_NOT_EQUAL = 0x5,
    IF_NEGATIVE = 0x8,
    IF_LESS = 0xc,
    IF_GREATER_EQUAL = 0xd,
    IF_LESS_EQUAL = 0xe,
    IF_GREATER = 0xf
};

struct place in_register(enum machine_register reg);
struct place in_memory(enum machine_register base, size_t displacement);

bool is_short(int64_t number); /* fits in 32 bits */

void append(struct assembly *assembly, const void *bytes, size_t count);
void append_number(struct assembly *assembly, uint64_t number, size_t bytes);

void instruct(struct assembly *assembly, enum instruction instruction,
              enum machine_register reg, struct place place);
void instruct_number(struct assembly *assembly, enum immediate_instruction instruction,
                     struct place place, int32_t number);
void multiply_number(struct assembly *assembly, enum machine_register reg,
                     struct place place, int32_t number);
void negate_place(struct assembly *assembly, struct place place);
void divide(struct assembly *assembly, struct place divisor); /* rdx:rax */
void move_number(struct assembly *assembly, struct place place, int64_t number);

/* Sets a register to 1 or 0. Changes rax. */
void set_if(struct assembly *assembly, enum condition condition,
            enum machine_register reg);

void push_register(struct assembly *assembly, enum machine_register reg);
void pop_register(struct assembly *assembly, enum machine_register reg);

/* Both return the position of their displacement of 4 bytes, for set_target(). */
size_t jump(struct assembly *assembly);
size_t jump_if(struct assembly *assembly, enum condition condition);
void set_target(struct assembly *assembly, size_t position, size_t target);

#endif
