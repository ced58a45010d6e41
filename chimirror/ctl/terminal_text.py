"""Measures, cuts and folds printable text by the columns that it takes on a terminal.

Wide characters (UAX #11) take two columns, combining marks none. Pure: knows neither
tables nor the size of the terminal.
"""

from __future__ import annotations

from unicodedata import category, east_asian_width

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Keep = Literal["start", "end", "both"]

ELLIPSIS = "…"
# Vowels and finals of Hangul, which a terminal draws into the syllable before them.
_FIRST_JAMO, _LAST_JAMO = "\u1160", "\u11ff"


def display_width(text: str) -> int:
    """Return the columns that printable text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(map(_width, text))


def _width(char: str) -> int:
    if char.isascii():
        return 1
    if category(char) in ("Mn", "Me") or _FIRST_JAMO <= char <= _LAST_JAMO:
        return 0
    return 1 + (east_asian_width(char) in "WF")


def cut(text: str, space: int, keep: Keep, ellipsis: str = ELLIPSIS) -> str:
    """Cut a text to at most `space` columns.

    Args:
        text: Printable text.
        space: Columns.
        keep: The part that stays: the start, the end, or half of each.
        ellipsis: The mark of the cut. It stands in place of the part that is left out.
    """
    if display_width(text) <= space:
        return text
    left = space - len(ellipsis)
    if left < 0:
        return ellipsis[:space]
    head = {"start": left, "end": 0, "both": left // 2}[keep]
    return _start(text, head) + ellipsis + _end(text, left - head)


def _start(text: str, space: int) -> str:
    """Return as much of the start as fits, with the marks of its last character."""
    for index, char in enumerate(text):
        space -= _width(char)
        if space < 0:
            return text[:index]
    return text


def _end(text: str, space: int) -> str:
    """Return as much of the end as fits, from a character on that is no mark."""
    start = len(text)
    for index in range(len(text) - 1, -1, -1):
        width = _width(text[index])
        space -= width
        if space < 0:
            break
        if width:
            start = index
    return text[start:]


def fold(text: str, space: int) -> list[str]:
    """Break a text into lines of at most `space` columns, at spaces if possible."""
    lines = []
    while display_width(text) > space:
        line = _start(text, space) or text[:1]
        head, blank, _ = line.rpartition(" ")
        if text[len(line)] == " ":
            head = line
        elif not (blank and head.strip()):
            lines.append(line)
            text = text[len(line) :]
            continue
        lines.append(head)
        text = text[len(head) + 1 :]
    return [*lines, text]
