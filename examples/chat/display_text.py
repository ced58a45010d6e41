"""Text for a terminal: escaping of text from others, and the width of characters.

Pure. Widths follow Unicode Standard Annex 11 (East Asian Width). Terminals disagree
about some characters, so that a width is only used to cut a line, never to place the
cursor.
"""

from __future__ import annotations

import unicodedata

# Zero width joiner and non-joiner: emoji and Persian need them, and they are harmless.
JOINERS = "\u200c\u200d"


def escaped(text: str) -> str:
    r"""Replace control, format and undefined characters by escapes such as `\x1b`.

    The result has one line, and leaves the state of a terminal and the direction of
    its text unchanged.
    """
    return "".join(map(escaped_character, text))


def escaped_character(character: str) -> str:
    if character.isprintable() or character in JOINERS:
        return character
    return character.encode("unicode_escape").decode()


def width(text: str) -> int:
    """Return the number of columns of a printable text."""
    return sum(map(character_width, text))


def character_width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def cut(text: str, columns: int) -> str:
    """Return the longest beginning that fits into these columns."""
    used = 0
    for at, character in enumerate(text):
        used += character_width(character)
        if used > columns:
            return text[:at]
    return text


def cut_start(text: str, columns: int) -> str:
    """Return the longest end that fits into these columns."""
    start = 0
    while width(text[start:]) > columns:
        start += 1
    return text[start:]


def wrapped_end(text: str, columns: int) -> tuple[int, int]:
    """Return the row and the column after a text that is wrapped to this width.

    A wide character is never divided between two rows.
    """
    row = column = 0
    for character in text:
        size = character_width(character)
        if column + size > columns:
            row, column = row + 1, 0
        column += size
    return (row, column) if column < columns else (row + 1, 0)
