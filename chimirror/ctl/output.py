"""Prints rows: an aligned table on a terminal, tab-separated values in a pipe.

On a terminal, numbers are rounded and have units, and no line exceeds the width of the
terminal. In a pipe, each value is printed in full, columns keep their order, and an
empty value is `-`. Text from a peer is escaped, so it cannot move a cursor. Knows
nothing of sessions.
"""

from __future__ import annotations

import json
import os
from typing import NamedTuple
from unicodedata import east_asian_width

from chimirror.text import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Row = Mapping[str, object]

GAP = "  "
MIN_TEXT_WIDTH = 8  # columns to which a text is cut at most
MAX_TEXT_LENGTH = 4096  # bytes of a text
_SIZES = "KMGTPE"


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        name: The key of its values in a row, and its heading in a pipe.
        heading: Its heading on a terminal.
        formatter: Formats a number for a terminal. None for a text, which may be cut.
        optional: Whether a narrow terminal omits it.
    """

    name: str
    heading: str
    formatter: Callable[[float], str] | None = None
    optional: bool = False


class OutputWriter:
    """Standard output, a terminal or not.

    Attributes:
        width: Columns of the terminal, 0 if there is none.
        height: Lines of the terminal.
    """

    def __init__(self, fd: int = 1) -> None:
        self._fd = fd
        self.width, self.height = 0, 0
        self.measure()

    def measure(self) -> None:
        """Read the size of the terminal, which may have changed."""
        if os.isatty(self._fd):
            size = os.get_terminal_size(self._fd)
            self.width, self.height = size.columns or 80, size.lines or 24

    def write(self, text: str) -> None:
        """Write all of a text."""
        data = text.encode("utf-8", "backslashreplace")
        while data:
            data = data[os.write(self._fd, data) :]

    def table(self, columns: Sequence[Column], rows: Sequence[Row]) -> None:
        """Print rows below their headings."""
        if self.width:
            self.write(aligned(columns, rows, self.width))
        else:
            self.write(tabbed(columns, rows))

    def pairs(self, columns: Sequence[Column], row: Row) -> None:
        """Print one row, one line for each value."""
        if not self.width:
            lines = [f"{c.name}\t{_pipe_text(row.get(c.name))}" for c in columns]
        else:
            heading_width = max(len(column.heading) for column in columns)
            space = max(self.width - heading_width - 2, MIN_TEXT_WIDTH)
            lines = [
                f"{c.heading.rjust(heading_width)}: "
                f"{cut(_terminal_text(c, row), space)}"
                for c in columns
            ]
        self.write("".join(f"{line}\n" for line in lines))

    def json(self, value: object) -> None:
        """Print a JSON text on one line. It is ASCII, so it cannot move a cursor."""
        text = json.dumps(value, separators=(",", ":"))
        self.write(text.replace("\x7f", "\\u007f") + "\n")


def tabbed(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """Return rows as tab-separated values for a pipe."""
    lines = ["\t".join(column.name for column in columns)]
    lines += ["\t".join(_pipe_text(row.get(c.name)) for c in columns) for row in rows]
    return "".join(f"{line}\n" for line in lines)


def aligned(columns: Sequence[Column], rows: Sequence[Row], width: int) -> str:
    """Return rows as an aligned table for a terminal of this width."""
    cells, widths = _layout(columns, rows)
    if _excess(widths, width) > 0:
        columns = [column for column in columns if not column.optional]
        cells, widths = _layout(columns, rows)
    _shrink(columns, widths, _excess(widths, width))
    lines = []
    for row in cells:
        aligned_cells = [
            _align(cell, space, right=column.formatter is not None)
            for cell, space, column in zip(row, widths, columns, strict=True)
        ]
        lines.append(cut(GAP.join(aligned_cells).rstrip(), width))
    return "".join(f"{line}\n" for line in lines)


def _layout(
    columns: Sequence[Column], rows: Sequence[Row]
) -> tuple[list[list[str]], list[int]]:
    """Return the cells, headings first, and the width of each column."""
    cells = [[column.heading for column in columns]]
    cells += [[_terminal_text(column, row) for column in columns] for row in rows]
    return cells, [
        max(map(display_width, column_cells))
        for column_cells in zip(*cells, strict=True)
    ]


def _excess(widths: Sequence[int], width: int) -> int:
    """Return the number of columns by which a line is too long."""
    return sum(widths) + len(GAP) * (len(widths) - 1) - width


def _shrink(columns: Sequence[Column], widths: list[int], excess: int) -> None:
    """Narrow the widest text column until the line fits, or all have the minimum."""
    texts = [index for index, column in enumerate(columns) if column.formatter is None]
    while excess > 0 and texts:
        widest = max(texts, key=widths.__getitem__)
        if widths[widest] <= MIN_TEXT_WIDTH:
            return
        widths[widest] -= 1
        excess -= 1


def _align(text: str, space: int, *, right: bool) -> str:
    text = cut(text, space)
    padding = " " * (space - display_width(text))
    return padding + text if right else text + padding


def cut(text: str, space: int) -> str:
    """Cut a text to at most `space` columns. An ellipsis replaces the rest."""
    if display_width(text) <= space:
        return text
    while text and display_width(text) > space - 1:
        text = text[:-1]
    return text + "…"


def display_width(text: str) -> int:
    """Return the columns that printable text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(1 + (east_asian_width(char) in "WF") for char in text)


def _pipe_text(value: object) -> str:
    if value is None or value == "":
        return "-"
    return escape(_text(value), MAX_TEXT_LENGTH)


def _text(value: object) -> str:
    """Format a value. Numbers have no exponent and no trailing zeros."""
    if isinstance(value, float):
        return f"{value:.6f}".rstrip("0").rstrip(".")
    return str(value)


def _terminal_text(column: Column, row: Row) -> str:
    value = row.get(column.name)
    if value is None or value == "":
        return "-"
    if column.formatter is not None and isinstance(value, int | float):
        return column.formatter(value)
    return escape(_text(value), MAX_TEXT_LENGTH)


# Formatters for terminals


def size(count: float) -> str:
    """Format a number of bytes: `512`, `1.5K`, `64M`."""
    number, unit = float(count), ""
    for larger in _SIZES:
        if number < 1000 or (number < 1024 and not unit):
            break
        number, unit = number / 1024, larger
    return (
        f"{number:.0f}{unit}" if number >= 9.95 or not unit else f"{number:.1f}{unit}"
    )


def number(count: float) -> str:
    """Format a count."""
    return f"{count:.0f}"


def duration(seconds: float) -> str:
    """Format a time in its two largest units: `3s`, `2min 5s`, `4h 1min`, `12d 3h`."""
    left = int(seconds)
    for unit, smaller, name, next_name in (
        (86400, 3600, "d", "h"),
        (3600, 60, "h", "min"),
        (60, 1, "min", "s"),
    ):
        if left >= unit:
            return f"{left // unit}{name} {left % unit // smaller}{next_name}"
    return f"{left}s"


def cpu(seconds: float) -> str:
    """Format CPU time: `0.12s`, and from one minute on as a duration."""
    return f"{seconds:.2f}s" if seconds < 60 else duration(seconds)
