/* C: takes orders, one per line, with the services of orders_server.py.
 *
 *     make -C examples orders
 *     examples/services/orders_server.py build/examples/orders
 *
 * It knows neither prices nor stock. It asks for them over named pipes, one line of
 * JSON for each message, without a library: chimirror-services(3).
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#define ANSWER 32 /* an integer and a line break */
#define MOST 1000 /* of one item in an order */

struct service {
    const char *name;
    FILE *to, *from;
};

static struct service prices = {.name = "prices"};
static struct service stock = {.name = "stock"};
static struct service journal = {.name = "journal"}; /* without answers */

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "orders: %s: %s\n", what, why);
    exit(EX_UNAVAILABLE);
}

/* Open one direction of a service. The server has opened its end, so fopen(3) returns at
 * once. "e" keeps the descriptor from other programs. */
static FILE *open_pipe(const char *name, const char *direction, const char *mode)
{
    const char *directory = getenv("CHIMIRROR_SERVICES");
    char path[PATH_MAX];
    FILE *file;

    if (!directory)
        fail("CHIMIRROR_SERVICES is not set", "start this with orders_server.py");
    snprintf(path, sizeof path, "%s/%s.%s", directory, name, direction);
    file = fopen(path, mode);
    if (!file)
        fail(path, strerror(errno));
    return file;
}

static void flush(struct service *service)
{
    if (fflush(service->to))
        fail(service->name, strerror(errno));
}

/* Return the answer to the last message: an integer. */
static long answer(struct service *service)
{
    char line[ANSWER], *end;
    long value;

    flush(service);
    if (!fgets(line, sizeof line, service->from))
        fail(service->name, "the server has closed this service");
    errno = 0;
    value = strtol(line, &end, 10);
    if (errno || end == line || *end != '\n')
        fail(service->name, "the answer is not an integer");
    return value;
}

/* Lower-case letters need no escapes in JSON. */
static int is_item(const char *text)
{
    return *text && !text[strspn(text, "abcdefghijklmnopqrstuvwxyz")];
}

/* Order a number of one item. Return its cents, 0 if it is refused. */
static long order(long count, const char *item)
{
    long cents, left;

    fprintf(prices.to, "\"%s\"\n", item);
    cents = answer(&prices) * count;
    if (!cents) {
        printf("refused: no %s here\n", item);
        return 0;
    }
    fprintf(stock.to, "{\"item\":\"%s\",\"count\":%ld}\n", item, count);
    left = answer(&stock);
    if (left < 0) {
        printf("refused: only %ld %s left\n", left + count, item);
        return 0;
    }
    fprintf(journal.to, "{\"item\":\"%s\",\"count\":%ld,\"cents\":%ld}\n", item, count,
            cents);
    flush(&journal);
    printf("%ld %s %ld.%02ld\n", count, item, cents / 100, cents % 100);
    return cents;
}

int main(void)
{
    char *line = NULL, item[32], rest;
    size_t size = 0;
    long count, total = 0;

    signal(SIGPIPE, SIG_IGN); /* a server that has ended is an error with a text */
    setvbuf(stdout, NULL, _IOLBF, 0);
    prices.to = open_pipe("prices", "in", "we");
    prices.from = open_pipe("prices", "out", "re");
    stock.to = open_pipe("stock", "in", "we");
    stock.from = open_pipe("stock", "out", "re");
    journal.to = open_pipe("journal", "in", "we");
    while (getline(&line, &size, stdin) > 0)
        if (!strcmp(line, "total\n"))
            printf("total %ld.%02ld\n", total / 100, total % 100);
        else if (sscanf(line, "%ld %31s %c", &count, item, &rest) == 2 && count > 0 &&
                 count <= MOST && is_item(item))
            total += order(count, item);
        else
            puts("write a number from 1 to 1000 and an item, or total");
    free(line);
    return ferror(stdin) ? EXIT_FAILURE : EXIT_SUCCESS;
}
