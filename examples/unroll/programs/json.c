#include "json.h"

#include <stdint.h>
#include <string.h>

/* The bytes that are left. */
struct input {
    const char *at, *end;
};

static bool hex4(struct input *in, uint32_t *unit)
{
    *unit = 0;
    if (in->end - in->at < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        char digit = *in->at++;
        if (digit >= '0' && digit <= '9')
            *unit = *unit * 16 + (uint32_t)(digit - '0');
        else if ((digit | 32) >= 'a' && (digit | 32) <= 'f')
            *unit = *unit * 16 + (uint32_t)((digit | 32) - 'a' + 10);
        else
            return false;
    }
    return true;
}

static char *put_utf8(char *to, uint32_t code)
{
    if (code < 0x80) {
        *to++ = (char)code;
    } else if (code < 0x800) {
        *to++ = (char)(0xc0 | code >> 6);
        *to++ = (char)(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        *to++ = (char)(0xe0 | code >> 12);
        *to++ = (char)(0x80 | (code >> 6 & 0x3f));
        *to++ = (char)(0x80 | (code & 0x3f));
    } else {
        *to++ = (char)(0xf0 | code >> 18);
        *to++ = (char)(0x80 | (code >> 12 & 0x3f));
        *to++ = (char)(0x80 | (code >> 6 & 0x3f));
        *to++ = (char)(0x80 | (code & 0x3f));
    }
    return to;
}

/* Reads what follows "\u". Two surrogates are one character. */
static bool unicode_escape(struct input *in, char **to)
{
    uint32_t code, low;

    if (!hex4(in, &code))
        return false;
    if (code >= 0xd800 && code < 0xdc00 && in->end - in->at >= 6
        && in->at[0] == '\\' && in->at[1] == 'u') {
        struct input ahead = {in->at + 2, in->end};
        if (!hex4(&ahead, &low))
            return false;
        if (low >= 0xdc00 && low < 0xe000) {
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
            *in = ahead;
        }
    }
    if (code >= 0xd800 && code < 0xe000)
        code = 0xfffd;
    *to = put_utf8(*to, code);
    return true;
}

/* Reads what follows a backslash. */
static bool escape(struct input *in, char **to)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";

    if (in->at == in->end)
        return false;
    char name = *in->at++;
    if (name == 'u')
        return unicode_escape(in, to);
    const char *found = memchr(names, name, sizeof names - 1);
    if (!found)
        return false;
    *(*to)++ = values[found - names];
    return true;
}

static bool is_space(char character)
{
    return character == ' ' || character == '\t' || character == '\r'
        || character == '\n';
}

bool json_decode(const char *text, size_t length, char *decoded, size_t *size)
{
    struct input in = {text, text + length};
    char *to = decoded;

    while (in.at < in.end && is_space(*in.at))
        in.at++;
    while (in.end > in.at && is_space(in.end[-1]))
        in.end--;
    if (in.at == in.end || *in.at++ != '"')
        return false;
    while (in.at < in.end && *in.at != '"') {
        char character = *in.at++;
        if ((unsigned char)character < 0x20)
            return false;
        if (character != '\\')
            *to++ = character;
        else if (!escape(&in, &to))
            return false;
    }
    *size = (size_t)(to - decoded);
    return in.end - in.at == 1;
}

/* Returns the length of the UTF-8 character at `text`, 0 if there is none: RFC 3629. */
static size_t utf8_length(const unsigned char *text, size_t length)
{
    size_t more = text[0] < 0x80 ? 0 : text[0] < 0xc2 ? 4 : text[0] < 0xe0 ? 1
        : text[0] < 0xf0 ? 2 : text[0] < 0xf5 ? 3 : 4;

    if (more == 4 || more >= length)
        return 0;
    for (size_t i = 1; i <= more; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    /* over-long forms, surrogates, and characters after U+10FFFF */
    if ((text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] > 0x9f)
        || (text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] > 0x8f))
        return 0;
    return more + 1;
}

void json_encode(FILE *out, const char *text, size_t length)
{
    const unsigned char *at = (const unsigned char *)text, *end = at + length;

    putc('"', out);
    while (at < end) {
        size_t size = utf8_length(at, (size_t)(end - at));
        if (size == 0)
            fputs("\\ufffd", out);
        else if (*at == '"' || *at == '\\')
            fprintf(out, "\\%c", *at);
        else if (*at < 0x20 || *at == 0x7f)
            fprintf(out, "\\u%04x", *at);
        else
            fwrite(at, 1, size, out);
        at += size ? size : 1;
    }
    putc('"', out);
}
