/* The parts of JSON (RFC 8259) that the programs need: strings, both ways.
 *
 * Knows nothing of programs and answers.
 */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Decodes a JSON string, with its quotes, into UTF-8.
 *
 * `decoded` has room for `length` bytes, which always suffices. Returns false if the
 * text is no JSON string. A surrogate without its partner becomes U+FFFD. */
bool json_decode(const char *text, size_t length, char *decoded, size_t *size);

/* Writes a JSON string. A byte that is not part of UTF-8 becomes U+FFFD. */
void json_encode(FILE *out, const char *text, size_t length);

#endif
