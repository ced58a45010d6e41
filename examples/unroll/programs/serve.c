#include "serve.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "answer.h"
#include "json.h"

/* A character of a program has at most six bytes in JSON: \u0009. */
#define MAX_MESSAGE (6 * UNROLL_MAX_SOURCE + 4096)

struct message {
    char text[MAX_MESSAGE];
    size_t length;
    bool too_long;
};

/* Reads a line without its end. Returns false at the end of the input. */
static bool read_message(FILE *in, struct message *message)
{
    int character;

    message->length = 0;
    message->too_long = false;
    while ((character = getc_unlocked(in)) != EOF && character != '\n') {
        if (message->length < sizeof message->text)
            message->text[message->length++] = (char)character;
        else
            message->too_long = true;
    }
    return character != EOF || message->length > 0;
}

static bool is_string(const struct message *message)
{
    const char *at = message->text, *end = at + message->length;

    while (at < end && (*at == ' ' || *at == '\t'))
        at++;
    return at < end && *at == '"';
}

/* A JSON string holds a program. Another line is itself one: no program begins with a
 * quote. */
static void answer_message(const struct answerer *answerer, struct message *message)
{
    if (message->too_long)
        answer_refusal(answerer, "the message is too long for any program");
    else if (!is_string(message))
        answer_program(answerer, message->text, message->length);
    else if (json_decode(message->text, message->length, message->text,
                         &message->length))
        answer_program(answerer, message->text, message->length);
    else
        answer_refusal(answerer, "the message begins as a JSON string, but is none");
}

static bool read_number(const char *word, uint32_t *number)
{
    char *end;
    unsigned long value = strtoul(word, &end, 10);

    *number = (uint32_t)value;
    return *word >= '0' && *word <= '9' && !*end && value <= UINT32_MAX;
}

static bool read_options(int argc, char **argv, struct unroll_options *options)
{
    static const struct option known[] = {
        {"interpret", no_argument, NULL, 'i'},
        {"max-operations", required_argument, NULL, 'o'},
        {"max-steps", required_argument, NULL, 's'},
        {"max-values", required_argument, NULL, 'v'},
        {NULL, 0, NULL, 0},
    };
    bool good = true;
    int option;

    while (good && (option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (option == 'i')
            options->interpret = true;
        else if (option == 'o')
            good = read_number(optarg, &options->max_operations);
        else if (option == 's')
            good = read_number(optarg, &options->max_steps);
        else if (option == 'v')
            good = read_number(optarg, &options->max_values);
        else
            good = false;
    }
    return good && optind == argc;
}

int serve(const struct library *library, int argc, char **argv)
{
    static struct message message;
    struct answerer answerer = {library, UNROLL_DEFAULTS, stdout};

    if (!read_options(argc, argv, &answerer.options)) {
        fprintf(stderr, "usage: %s [--interpret] [--max-operations N] [--max-steps N]"
                " [--max-values N]\n", argv[0]);
        return EX_USAGE;
    }
    while (read_message(stdin, &message)) {
        answer_message(&answerer, &message);
        if (fflush(stdout))
            return EX_IOERR;
    }
    return ferror(stdin) ? EX_IOERR : EX_OK;
}
