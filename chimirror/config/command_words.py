r"""Splits a command line into words, as systemd splits one (systemd.service(5)).

Words are separated by spaces and tabs. Quotes, single or double, join words and may
stand anywhere in one. C escapes hold inside and outside of quotes: `\a \b \f \n \r \t`,
`\v \\ \" \' \s`, `\x20`, `\040`, `\u20ac` and `\U0001f600`. There is no shell.
Variables, specifiers and prefixes of systemd have no meaning: `$`, `%` and `@` stand
for themselves. Starts nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_SIMPLE = {
    "a": b"\a",
    "b": b"\b",
    "f": b"\f",
    "n": b"\n",
    "r": b"\r",
    "s": b" ",
    "t": b"\t",
    "v": b"\v",
    "\\": b"\\",
    '"': b'"',
    "'": b"'",
}
# first character of an escape: digits that follow it, their base, first digit included
_NUMERIC = {
    "x": (2, 16, False),
    "u": (4, 16, False),
    "U": (8, 16, False),
    **dict.fromkeys("01234567", (3, 8, True)),
}
_DIGITS = "0123456789abcdefABCDEF"


def split(text: str) -> tuple[str, ...]:
    """Split a command line. A byte that is not UTF-8 becomes a surrogate (os.fsdecode).

    Raises:
        ValueError: A quote is not closed, or an escape is not known. The text says what
            to write instead.
    """
    words: list[str] = []
    word: bytearray | None = None
    quote = ""
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        if char == "\\":
            escaped, at = _unescape(text, at)
            word = (word or bytearray()) + escaped
        elif quote and char == quote:
            quote = ""
        elif not quote and char in "\"'":
            quote, word = char, word if word is not None else bytearray()
        elif not quote and char in " \t\r\n":
            if word is not None:
                words.append(_decode(word))
            word = None
        else:
            word = (word or bytearray()) + char.encode(errors="surrogateescape")
    if quote:
        raise ValueError(f"a {quote} is not closed; close it, or write \\{quote}")
    if word is not None:
        words.append(_decode(word))
    return tuple(words)


def _decode(word: bytearray) -> str:
    return word.decode(errors="surrogateescape")


def _unescape(text: str, at: int) -> tuple[bytes, int]:
    """Return the bytes of the escape whose backslash is before `at`, and its end."""
    kind = text[at : at + 1]
    if kind in _SIMPLE:
        return _SIMPLE[kind], at + 1
    if kind not in _NUMERIC:
        _refuse(kind)
    count, base, has_first = _NUMERIC[kind]
    start = at if has_first else at + 1
    digits = text[start : start + count]
    known = _DIGITS[:8] if base == 8 else _DIGITS
    if len(digits) < count or digits.strip(known):
        _refuse(text[at : start + count])
    number = int(digits, base)
    if number == 0 or number > 0x10FFFF or 0xD800 <= number < 0xE000:
        _refuse(text[at : start + count])
    if kind in "uU":
        return chr(number).encode(), start + count
    if number > 0xFF:
        _refuse(text[at : start + count])
    return bytes((number,)), start + count


def _refuse(escape: str) -> NoReturn:
    raise ValueError(f'"\\{escape}" is not an escape; write \\\\ for a backslash')
