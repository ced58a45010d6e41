#include "answer.h"

#include <inttypes.h>
#include <string.h>

#include "json.h"

/* The number of runs of each form. Only the first are done if they take long. */
#define MIN_RUNS 3
#define MAX_RUNS 20
#define LONG 20000000 /* ns */

/* The results of both forms. */
struct outcome {
    struct unroll_result results[UNROLL_FORMS];
    int64_t nanoseconds[UNROLL_FORMS]; /* the fastest of all runs */
};

static void write_string(FILE *out, const char *text)
{
    json_encode(out, text, strlen(text));
}

static void write_numbers(FILE *out, const int64_t *numbers, size_t count)
{
    putc('[', out);
    for (size_t i = 0; i < count; i++)
        fprintf(out, "%s%" PRId64, i ? "," : "", numbers[i]);
    putc(']', out);
}

static void write_error(FILE *out, const struct unroll_error *error)
{
    static const char *const kinds[] = {
        [UNROLL_NO_ERROR] = "none", [UNROLL_SYNTAX] = "syntax",
        [UNROLL_LIMIT] = "limit", [UNROLL_DIVISION] = "division",
        [UNROLL_STEPS] = "steps", [UNROLL_OUTPUT] = "output",
        [UNROLL_MEMORY] = "memory",
    };

    fputs("\"error\":", out);
    write_string(out, error->message);
    fprintf(out, ",\"kind\":\"%s\"", kinds[error->kind]);
    if (error->line)
        fprintf(out, ",\"line\":%" PRIu32 ",\"column\":%" PRIu32, error->line,
                error->column);
}

static void write_variables(FILE *out, const struct unroll_info *info,
                            const int64_t *values)
{
    putc('{', out);
    for (size_t i = 0; i < info->variable_count; i++) {
        fputs(i ? "," : "", out);
        write_string(out, info->variables[i]);
        fprintf(out, ":%" PRId64, values[i]);
    }
    putc('}', out);
}

static void write_loops(FILE *out, const struct unroll_info *info)
{
    putc('[', out);
    for (size_t i = 0; i < info->loop_count; i++) {
        const struct unroll_loop *loop = &info->loops[i];
        fprintf(out, "%s{\"variable\":", i ? "," : "");
        write_string(out, loop->variable);
        fprintf(out, ",\"turns\":%" PRIu32 ",\"line\":%" PRIu32 ",\"column\":%" PRIu32,
                loop->turns, loop->line, loop->column);
        fprintf(out, ",\"sets_variable\":%s}", loop->sets_variable ? "true" : "false");
    }
    putc(']', out);
}

static void write_forms(FILE *out, const char *name, int64_t looped, int64_t unrolled)
{
    fprintf(out, ",\"%s\":{\"looped\":%" PRId64 ",\"unrolled\":%" PRId64 "}", name,
            looped, unrolled);
}

static void write_result(FILE *out, const struct unroll_info *info,
                         const struct outcome *outcome)
{
    const struct unroll_result *result = &outcome->results[UNROLL_UNROLLED];
    const int64_t *fastest = outcome->nanoseconds;

    fputs("\"printed\":", out);
    write_numbers(out, result->values, result->value_count);
    fputs(",\"variables\":", out);
    write_variables(out, info, result->variables);
    fputs(",\"loops\":", out);
    write_loops(out, info);
    fprintf(out, ",\"ran\":\"%s\"", info->interpreted ? "interpreter" : "machine code");
    if (info->interpreted) {
        fputs(",\"why\":", out);
        write_string(out, info->interpreted);
    } else {
        write_forms(out, "bytes", (int64_t)info->code_size[UNROLL_LOOPED],
                    (int64_t)info->code_size[UNROLL_UNROLLED]);
    }
    write_forms(out, "operations", (int64_t)info->operations[UNROLL_LOOPED],
                (int64_t)info->operations[UNROLL_UNROLLED]);
    write_forms(out, "nanoseconds", fastest[UNROLL_LOOPED], fastest[UNROLL_UNROLLED]);
}

/* Returns true if both forms did the same. */
static bool same_results(const struct unroll_result *one,
                         const struct unroll_result *other, size_t variables)
{
    const struct unroll_error *left = &one->error, *right = &other->error;

    if (left->kind != right->kind || left->line != right->line
        || left->column != right->column || one->value_count != other->value_count)
        return false;
    for (size_t i = 0; i < one->value_count; i++)
        if (one->values[i] != other->values[i])
            return false;
    if (left->kind)
        return true;
    for (size_t i = 0; i < variables; i++)
        if (one->variables[i] != other->variables[i])
            return false;
    return true;
}

/* Runs a form several times. The first error ends the measurement. */
static void measure(const struct library *library, const struct unroll_program *program,
                    enum unroll_form form, struct outcome *outcome)
{
    struct unroll_result *result = &outcome->results[form];
    int64_t *fastest = &outcome->nanoseconds[form], sum = 0;

    for (int runs = 0; runs < MIN_RUNS || (runs < MAX_RUNS && sum < LONG); runs++) {
        if (!library->run(program, form, result))
            return;
        if (runs == 0 || result->nanoseconds < *fastest)
            *fastest = result->nanoseconds;
        sum += result->nanoseconds;
    }
}

static void write_outcome(FILE *out, const struct unroll_info *info,
                          const struct outcome *outcome)
{
    const struct unroll_result *looped = &outcome->results[UNROLL_LOOPED];
    const struct unroll_result *unrolled = &outcome->results[UNROLL_UNROLLED];

    /* One form may have had memory, and the other not. */
    if (looped->error.kind == UNROLL_MEMORY) {
        write_error(out, &looped->error);
    } else if (unrolled->error.kind == UNROLL_MEMORY) {
        write_error(out, &unrolled->error);
    } else if (!same_results(looped, unrolled, info->variable_count)) {
        fputs("\"error\":\"internal error: the two forms differ\","
              "\"kind\":\"internal\"", out);
    } else if (unrolled->error.kind) {
        write_error(out, &unrolled->error);
        fputs(",\"printed\":", out);
        write_numbers(out, unrolled->values, unrolled->value_count);
    } else {
        write_result(out, info, outcome);
    }
}

void answer_program(const struct answerer *answerer, const char *text, size_t length)
{
    const struct library *library = answerer->library;
    struct unroll_error error = {0};
    struct outcome outcome = {0};
    struct unroll_program *program
        = library->compile(text, length, &answerer->options, &error);

    putc('{', answerer->out);
    if (program) {
        for (int form = 0; form < UNROLL_FORMS; form++)
            measure(library, program, (enum unroll_form)form, &outcome);
        write_outcome(answerer->out, library->inspect(program), &outcome);
    } else {
        write_error(answerer->out, &error);
    }
    fputs("}\n", answerer->out);
    for (int form = 0; form < UNROLL_FORMS; form++)
        library->clear(&outcome.results[form]);
    library->free(program);
}

void answer_refusal(const struct answerer *answerer, const char *message)
{
    fputs("{\"error\":", answerer->out);
    write_string(answerer->out, message);
    fputs(",\"kind\":\"message\"}\n", answerer->out);
}
