r"""Rows for people and for scripts: an aligned table on a terminal, tabs in a pipe.

On a terminal numbers are rounded and have units, and no line is longer than the
terminal is wide. In a pipe each value is whole and plain, columns never move, and an
empty one is `-`. What a peer supplied moves no cursor either way. Knows no session.
"""

from __future__ import annotations

import json
import os
from typing import NamedTuple
from unicodedata import east_asian_width

from chimirror.system.escape import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Row = Mapping[str, object]

GAP = "  "
NARROWEST = 8  # columns that a text keeps
WIDEST = 4096  # bytes of a text that a pipe gets
_SIZES = "KMGTPE"


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        name: of the value in a row, and in JSON.
        head: above it on a terminal; in a pipe it is the name.
        show: for people; None for a text, which may be cut.
        spare: left out first where a terminal is narrow.
    """

    name: str
    head: str
    show: Callable[[float], str] | None = None
    spare: bool = False


class Output:
    """Standard output, and who reads it.

    Attributes:
        width: columns of the terminal; 0 where there is none.
        height: its lines.
    """

    def __init__(self, fd: int = 1) -> None:
        self._fd = fd
        self.width, self.height = 0, 0
        self.measure()

    def measure(self) -> None:
        """A terminal may have another size than before."""
        if os.isatty(self._fd):
            size = os.get_terminal_size(self._fd)
            self.width, self.height = size.columns or 80, size.lines or 24

    def write(self, text: str) -> None:
        """All of it, at once."""
        data = text.encode("utf-8", "backslashreplace")
        while data:
            data = data[os.write(self._fd, data) :]

    def table(self, columns: Sequence[Column], rows: Sequence[Row]) -> None:
        """Rows under their heads."""
        if self.width:
            self.write(aligned(columns, rows, self.width))
        else:
            self.write(tabbed(columns, rows))

    def pairs(self, columns: Sequence[Column], row: Row) -> None:
        """One row, a line for each value."""
        if not self.width:
            lines = [f"{c.name}\t{_plain(row.get(c.name))}" for c in columns]
        else:
            heads = max(len(column.head) for column in columns)
            room = max(self.width - heads - 2, NARROWEST)
            lines = [
                f"{c.head.rjust(heads)}: {cut(_shown(c, row), room)}" for c in columns
            ]
        self.write("".join(f"{line}\n" for line in lines))

    def json(self, value: object) -> None:
        """A JSON text on one line, all ASCII, so that it moves no cursor either."""
        text = json.dumps(value, separators=(",", ":"))
        self.write(text.replace("\x7f", "\\u007f") + "\n")


def tabbed(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """For scripts."""
    lines = ["\t".join(column.name for column in columns)]
    lines += ["\t".join(_plain(row.get(c.name)) for c in columns) for row in rows]
    return "".join(f"{line}\n" for line in lines)


def aligned(columns: Sequence[Column], rows: Sequence[Row], width: int) -> str:
    """For people."""
    cells, widths = _lanes(columns, rows)
    if _over(widths, width) > 0:
        columns = [column for column in columns if not column.spare]
        cells, widths = _lanes(columns, rows)
    _shrink(columns, widths, _over(widths, width))
    lines = []
    for row in cells:
        placed = [
            _place(cell, room, right=column.show is not None)
            for cell, room, column in zip(row, widths, columns, strict=True)
        ]
        lines.append(cut(GAP.join(placed).rstrip(), width))
    return "".join(f"{line}\n" for line in lines)


def _lanes(
    columns: Sequence[Column], rows: Sequence[Row]
) -> tuple[list[list[str]], list[int]]:
    """What is in each place, heads first, and how wide each column is."""
    cells = [[column.head for column in columns]]
    cells += [[_shown(column, row) for column in columns] for row in rows]
    return cells, [max(map(wide, lane)) for lane in zip(*cells, strict=True)]


def _over(widths: Sequence[int], width: int) -> int:
    """By how much a line is too long."""
    return sum(widths) + len(GAP) * (len(widths) - 1) - width


def _shrink(columns: Sequence[Column], widths: list[int], over: int) -> None:
    """Take from the widest text until the line fits, or until all are narrow."""
    texts = [index for index, column in enumerate(columns) if column.show is None]
    while over > 0 and texts:
        widest = max(texts, key=widths.__getitem__)
        if widths[widest] <= NARROWEST:
            return
        widths[widest] -= 1
        over -= 1


def _place(text: str, room: int, *, right: bool) -> str:
    text = cut(text, room)
    padding = " " * (room - wide(text))
    return padding + text if right else text + padding


def cut(text: str, room: int) -> str:
    """The text in at most `room` columns; an ellipsis stands for the rest."""
    if wide(text) <= room:
        return text
    while text and wide(text) > room - 1:
        text = text[:-1]
    return text + "…"


def wide(text: str) -> int:
    """Columns that printable text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(1 + (east_asian_width(char) in "WF") for char in text)


def _plain(value: object) -> str:
    if value is None or value == "":
        return "-"
    return escape(_text(value), WIDEST)


def _text(value: object) -> str:
    """Numbers in full, without an exponent and without idle zeros."""
    if isinstance(value, float):
        return f"{value:.6f}".rstrip("0").rstrip(".")
    return str(value)


def _shown(column: Column, row: Row) -> str:
    value = row.get(column.name)
    if value is None or value == "":
        return "-"
    if column.show is not None and isinstance(value, int | float):
        return column.show(value)
    return escape(_text(value), WIDEST)


# For people


def size(count: float) -> str:
    """Bytes: `512`, `1.5K`, `64M`."""
    number, unit = float(count), ""
    for larger in _SIZES:
        if number < 1000 or (number < 1024 and not unit):
            break
        number, unit = number / 1024, larger
    return (
        f"{number:.0f}{unit}" if number >= 9.95 or not unit else f"{number:.1f}{unit}"
    )


def number(count: float) -> str:
    """A count as it is."""
    return f"{count:.0f}"


def duration(seconds: float) -> str:
    """A time in its two largest units: `3s`, `2min 5s`, `4h 1min`, `12d 3h`."""
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
    """CPU time: `0.12s`, and longer ones as a duration."""
    return f"{seconds:.2f}s" if seconds < 60 else duration(seconds)
