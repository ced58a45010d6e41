/* assembler.c: encodes x86-64 instructions on 64-bit operands. Intel SDM, volume 2.
 * Does not know what the instructions are for. */
#include "assembler.h"

#include <string.h>

#include "memory.h"

struct place in_register(enum machine_register reg)
{
    return (struct place){false, reg, 0};
}

struct place in_memory(enum machine_register base, size_t displacement)
{
    return (struct place){true, base, (int32_t)displacement};
}

bool is_short(int64_t number)
{
    return number >= INT32_MIN && number <= INT32_MAX;
}

static void append_byte(struct assembly *assembly, unsigned byte)
{
    uint8_t *bytes = assembly->bytes;

    if (assembly->failed)
        return;
    if (assembly->count == assembly->capacity) {
        bytes = reserve(bytes, assembly->count, &assembly->capacity, 1);
        /* Displacements have 32 bits. */
        if (!bytes || assembly->count > INT32_MAX / 2) {
            assembly->failed = true;
            return;
        }
        assembly->bytes = bytes;
    }
    bytes[assembly->count++] = (uint8_t)byte;
}

void append(struct assembly *assembly, const void *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        append_byte(assembly, ((const uint8_t *)bytes)[i]);
}

void append_number(struct assembly *assembly, uint64_t number, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        append_byte(assembly, number >> (8 * i) & 0xff);
}

/* REX prefix: 64-bit operands, and the high bits of both registers. */
static void append_rex(struct assembly *assembly, unsigned reg, struct place place)
{
    append_byte(assembly, 0x48u | (reg & 8) >> 1 | ((unsigned)place.reg & 8) >> 3);
}

/* ModRM byte, and the SIB byte and displacement of memory. */
static void append_operands(struct assembly *assembly, unsigned reg, struct place place)
{
    unsigned base = (unsigned)place.reg & 7, middle = (reg & 7) << 3;
    bool near = place.displacement >= INT8_MIN && place.displacement <= INT8_MAX;

    if (!place.in_memory) {
        append_byte(assembly, 0xc0 | middle | base);
        return;
    }
    append_byte(assembly, (near ? 0x40 : 0x80) | middle | base);
    if (base == RSP)
        append_byte(assembly, 0x24);
    append_number(assembly, (uint64_t)place.displacement, near ? 1 : 4);
}

void instruct(struct assembly *assembly, enum instruction instruction,
              enum machine_register reg, struct place place)
{
    append_rex(assembly, reg, place);
    if (instruction > 0xff)
        append_byte(assembly, 0x0f);
    append_byte(assembly, instruction & 0xff);
    append_operands(assembly, reg, place);
}

void instruct_number(struct assembly *assembly, enum immediate_instruction instruction,
                     struct place place, int32_t number)
{
    bool near = number >= INT8_MIN && number <= INT8_MAX;

    append_rex(assembly, 0, place);
    append_byte(assembly, near ? 0x83 : 0x81);
    append_operands(assembly, instruction, place);
    append_number(assembly, (uint64_t)number, near ? 1 : 4);
}

void multiply_number(struct assembly *assembly, enum machine_register reg,
                     struct place place, int32_t number)
{
    append_rex(assembly, reg, place);
    append_byte(assembly, 0x69);
    append_operands(assembly, reg, place);
    append_number(assembly, (uint64_t)number, 4);
}

void negate_place(struct assembly *assembly, struct place place)
{
    append_rex(assembly, 0, place);
    append_byte(assembly, 0xf7);
    append_operands(assembly, 3, place);
}

void divide(struct assembly *assembly, struct place divisor)
{
    append(assembly, "\x48\x99", 2); /* cqo */
    append_rex(assembly, 0, divisor);
    append_byte(assembly, 0xf7);
    append_operands(assembly, 7, divisor);
}

void move_number(struct assembly *assembly, struct place place, int64_t number)
{
    unsigned low = (unsigned)place.reg & 7;

    if (!place.in_memory && number >= 0 && number <= UINT32_MAX) {
        if (place.reg >= R8)
            append_byte(assembly, 0x41);
        append_byte(assembly, 0xb8 | low);
        append_number(assembly, (uint64_t)number, 4);
    } else if (is_short(number)) {
        append_rex(assembly, 0, place);
        append_byte(assembly, 0xc7);
        append_operands(assembly, 0, place);
        append_number(assembly, (uint64_t)number, 4);
    } else if (place.in_memory) {
        move_number(assembly, in_register(RAX), number);
        instruct(assembly, STORE, RAX, place);
    } else {
        append_rex(assembly, 0, place);
        append_byte(assembly, 0xb8 | low);
        append_number(assembly, (uint64_t)number, 8);
    }
}

void set_if(struct assembly *assembly, enum condition condition,
            enum machine_register reg)
{
    append_byte(assembly, 0x0f);
    append_byte(assembly, 0x90 | condition);
    append_byte(assembly, 0xc0); /* al */
    append_rex(assembly, reg, in_register(RAX));
    append(assembly, "\x0f\xb6", 2); /* movzx */
    append_operands(assembly, reg, in_register(RAX));
}

void push_register(struct assembly *assembly, enum machine_register reg)
{
    if (reg >= R8)
        append_byte(assembly, 0x41);
    append_byte(assembly, 0x50 | (reg & 7));
}

void pop_register(struct assembly *assembly, enum machine_register reg)
{
    if (reg >= R8)
        append_byte(assembly, 0x41);
    append_byte(assembly, 0x58 | (reg & 7));
}

size_t jump(struct assembly *assembly)
{
    append_byte(assembly, 0xe9);
    append_number(assembly, 0, 4);
    return assembly->count - 4;
}

size_t jump_if(struct assembly *assembly, enum condition condition)
{
    append_byte(assembly, 0x0f);
    append_byte(assembly, 0x80 | condition);
    append_number(assembly, 0, 4);
    return assembly->count - 4;
}

void set_target(struct assembly *assembly, size_t position, size_t target)
{
    /* The displacement counts from the end of the instruction. */
    uint32_t displacement = (uint32_t)(target - position - 4);

    for (size_t i = 0; i < 4 && !assembly->failed; i++)
        assembly->bytes[position + i] = (uint8_t)(displacement >> (8 * i));
}
