/* C: reads one number per line and prints its prime factors, as a JSON array.
 *
 *     make -C examples factor
 *     chimirror-server -- build/examples/factor
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void factor(uint64_t number)
{
    const char *comma = "";

    putchar('[');
    for (uint64_t prime = 2; prime <= number / prime; prime += 1 + (prime > 2))
        for (; number % prime == 0; number /= prime, comma = ",")
            printf("%s%" PRIu64, comma, prime);
    if (number > 1)
        printf("%s%" PRIu64, comma, number);
    puts("]");
}

int main(void)
{
    char line[64], *end;

    /* Into a pipe, stdio(3) would buffer up to 4 KiB of output. */
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (fgets(line, sizeof line, stdin)) {
        errno = 0;
        uint64_t number = strtoull(line, &end, 10);
        if (errno || end == line || *end != '\n' || *line == '-' || number == 0)
            puts("{\"error\":\"a whole number from 1 to 18446744073709551615, please\"}");
        else
            factor(number);
    }
    return ferror(stdin) ? EXIT_FAILURE : EXIT_SUCCESS;
}
