/* unroll.c: the interface of the library. */
#include "unroll.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine.h"
#include "memory.h"

/* -DUNROLL_INTERPRET makes a library that behaves as on other processors. */
#if defined(__x86_64__) && defined(__LP64__) && !defined(UNROLL_INTERPRET)
#define CAN_GENERATE true
#else
#define CAN_GENERATE false
#endif

struct unroll_program {
    struct unroll_options options;
    struct unroll_info info;
    struct syntax syntax;
    struct code codes[UNROLL_FORMS];
    void *mappings[UNROLL_FORMS]; /* machine code, or NULL */
    const char *names[UNROLL_MAX_VARIABLES];
    char reason[160];
};

static void unmap_forms(struct unroll_program *program)
{
    for (int form = 0; form < UNROLL_FORMS; form++) {
        unmap_code(program->mappings[form], program->info.code_size[form]);
        program->mappings[form] = NULL;
        program->info.code_size[form] = 0;
    }
}

/* Makes machine code of one form. Returns false if there is no memory. If the system
 * refuses executable memory, the reason tells it. */
static bool generate_form(struct unroll_program *program, enum unroll_form form)
{
    const struct syntax *syntax = &program->syntax;
    struct assembly assembly = {0};
    bool generated = generate(&program->codes[form], syntax->variables.count,
                              syntax->site_count, &assembly);

    if (generated) {
        program->mappings[form] =
            map_code(&assembly, program->reason, sizeof program->reason);
        if (program->mappings[form])
            program->info.code_size[form] = assembly.count;
    }
    free(assembly.bytes);
    return generated;
}

/* Makes machine code of both forms, or of none. */
static bool generate_forms(struct unroll_program *program)
{
    if (!CAN_GENERATE) {
        program->info.interpreted = "there is machine code only for x86-64";
    } else if (program->options.interpret) {
        program->info.interpreted = "the interpreter was requested";
    } else {
        for (int form = 0; form < UNROLL_FORMS; form++) {
            if (!generate_form(program, form))
                return false;
            if (!program->mappings[form]) {
                unmap_forms(program);
                program->info.interpreted = program->reason;
                break;
            }
        }
    }
    return true;
}

static bool compile(struct unroll_program *program, const char *source, size_t length,
                    struct unroll_error *error)
{
    struct syntax *syntax = &program->syntax;

    if (!parse(syntax, source, length, program->options.max_operations, error))
        return false;
    for (int form = 0; form < UNROLL_FORMS; form++) {
        struct code *code = &program->codes[form];

        if (!translate(syntax, form, program->options.max_steps, code))
            return fail_memory(error);
        program->info.operations[form] = code->operations.count;
    }
    return generate_forms(program) || fail_memory(error);
}

static void describe(struct unroll_program *program)
{
    const struct syntax *syntax = &program->syntax;

    for (size_t i = 0; i < syntax->variables.count; i++)
        program->names[i] = syntax->variables.names[i];
    program->info.variables = program->names;
    program->info.variable_count = syntax->variables.count;
    program->info.loops = syntax->loops;
    program->info.loop_count = syntax->loop_count;
}

struct unroll_program *unroll_compile(const char *source, size_t length,
                                      const struct unroll_options *options,
                                      struct unroll_error *error)
{
    static const struct unroll_options defaults = UNROLL_DEFAULTS;
    struct unroll_program *program = calloc(1, sizeof *program);

    memset(error, 0, sizeof *error);
    if (!program) {
        fail_memory(error);
        return NULL;
    }
    program->options = options ? *options : defaults;
    if (!compile(program, source, length, error)) {
        unroll_free(program);
        return NULL;
    }
    describe(program);
    return program;
}

const struct unroll_info *unroll_inspect(const struct unroll_program *program)
{
    return &program->info;
}

/* Makes room for what the run can print. */
static bool prepare(const struct unroll_program *program, struct unroll_result *result)
{
    size_t count = (size_t)program->options.max_values + 1;
    int64_t *values = realloc(result->values, count * sizeof *values);
    int64_t *variables = result->variables;

    if (values)
        result->values = values;
    if (!variables)
        variables = malloc(UNROLL_MAX_VARIABLES * sizeof *variables);
    result->variables = variables;
    result->value_count = 0;
    result->nanoseconds = 0;
    memset(&result->error, 0, sizeof result->error);
    return (values && variables) || fail_memory(&result->error);
}

static int64_t read_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static uint32_t execute(const struct unroll_program *program, enum unroll_form form,
                        struct run *run)
{
    machine_code *function;

    if (!program->mappings[form])
        return interpret(program->codes[form].operations.items, run);
    /* ISO C has no conversion from data to functions, POSIX has. */
    memcpy(&function, &program->mappings[form], sizeof function);
    return function(run);
}

static bool explain(const struct unroll_program *program, uint32_t site,
                    struct unroll_error *error)
{
    const struct site *place = &program->syntax.sites[site];

    switch (place->kind) {
    case UNROLL_DIVISION:
        return fail(error, place->kind, place->line, place->column, "division by zero");
    case UNROLL_STEPS:
        return fail(error, place->kind, place->line, place->column,
                    "more than %u steps: the program is endless or too long",
                    (unsigned)program->options.max_steps);
    default:
        return fail(error, place->kind, place->line, place->column,
                    "more than %u printed values",
                    (unsigned)program->options.max_values);
    }
}

bool unroll_run(const struct unroll_program *program, enum unroll_form form,
                struct unroll_result *result)
{
    struct run run = {.steps = program->options.max_steps};
    int64_t start;
    uint32_t site;

    if (!prepare(program, result))
        return false;
    run.values = result->values;
    run.values_end = result->values + program->options.max_values;
    start = read_clock();
    site = execute(program, form, &run);
    result->nanoseconds = read_clock() - start;
    result->value_count = (size_t)(run.values - result->values);
    memcpy(result->variables, run.variables, sizeof run.variables);
    return site == 0 || explain(program, site, &result->error);
}

void unroll_clear(struct unroll_result *result)
{
    if (!result)
        return;
    free(result->values);
    free(result->variables);
    memset(result, 0, sizeof *result);
}

void unroll_free(struct unroll_program *program)
{
    if (!program)
        return;
    unmap_forms(program);
    for (int form = 0; form < UNROLL_FORMS; form++)
        free(program->codes[form].operations.items);
    free_syntax(&program->syntax);
    free(program);
}
