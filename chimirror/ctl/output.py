"""Prints rows: an aligned table on a terminal, tab-separated values in a pipe.

On a terminal, numbers are rounded and have units, and no line exceeds the width of the
terminal: columns are omitted first, and texts are cut then. A last line counts the
rows. In a pipe, each value is printed in full, columns keep their order, an empty value
is `-`, and nothing else is printed. Text from a peer is escaped, so it cannot move a
cursor. Knows nothing of sessions.
"""

from __future__ import annotations

import json
import locale
import os
from typing import NamedTuple

from chimirror.ctl.terminal_text import ELLIPSIS, cut, display_width, fold
from chimirror.text import counted, escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chimirror.ctl.terminal_text import Keep

    Row = Mapping[str, object]

GAP = "  "
MIN_TEXT_WIDTH = 8  # columns to which a text is cut at most
MAX_TEXT_LENGTH = 1 << 20  # bytes of a text, such as all processes of a session
# What a terminal without Unicode shows instead.
_REPLACED = {ELLIPSIS: "...", "→": "->"}


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        name: The key of its values in a row, and its heading in a pipe.
        heading: Its heading on a terminal.
        formatter: Formats a number for a terminal. None: the column is one of texts.
        rank: When a narrow terminal omits the column: the highest rank goes first.
            0 is never omitted.
        keep: The part of a text that tells rows apart, and stays when it is cut.
        least: Columns that a text keeps as long as a column can be omitted instead.
            0 is all of the text.
        short: A formatter for narrow terminals, used before any column is omitted.
    """

    name: str
    heading: str
    formatter: Callable[[float], str] | None = None
    rank: int = 0
    keep: Keep = "both"
    least: int = 0
    short: Callable[[float], str] | None = None


class OutputWriter:
    """Standard output, a terminal or not.

    Attributes:
        width: Columns of the terminal, 0 if there is none.
        height: Lines of the terminal.
        encoding: That of the terminal. A pipe gets UTF-8.
    """

    def __init__(self, fd: int = 1) -> None:
        self._fd = fd
        self.width, self.height, self.encoding = 0, 0, "utf-8"
        self.measure()

    def measure(self) -> None:
        """Read the size of the terminal, which may have changed."""
        if os.isatty(self._fd):
            size = os.get_terminal_size(self._fd)
            self.width, self.height = size.columns or 80, size.lines or 24
            self.encoding = locale.getencoding()

    def write(self, text: str) -> None:
        """Write all of a text."""
        encodable = self._encodable(text)
        self.write_bytes(encodable.encode(self.encoding, "backslashreplace"))

    def write_bytes(self, data: bytes) -> None:
        """Write bytes as they are."""
        while data:
            data = data[os.write(self._fd, data) :]

    def _encodable(self, text: str) -> str:
        """Replace the characters that the terminal cannot show."""
        if text.isascii() or self.encoding.lower() in ("utf-8", "utf8"):
            return text
        for char, instead in _REPLACED.items():
            if _encoded(char, self.encoding) != char:
                text = text.replace(char, instead)
        return _encoded(text, self.encoding)

    def table(
        self,
        columns: Sequence[Column],
        rows: Sequence[Row],
        noun: str = "",
        *,
        full: bool = False,
        screenful: bool = False,
        spares: int = 0,
    ) -> None:
        """Print rows below their headings.

        Args:
            columns: The columns, in their order.
            rows: The rows.
            noun: What a row is. On a terminal, a last line counts the rows.
            full: On a terminal, omit no column and cut no text.
            screenful: On a terminal, print no more rows than fit.
            spares: Number of rows that are counted apart.
        """
        if not self.width:
            self.write(tabbed(columns, rows))
            return
        lines = self._aligned(columns, rows, full=full)
        total = [counted(len(rows) - spares, noun, "no")] if noun else []
        if spares:
            total[-1] += f" and {counted(spares, 'spare')}"
        if rows and total:
            shown = self._count_fitting(lines, 3) if screenful else len(lines)
            if shown < len(lines):
                total = [f"{total[0]}, the first {shown - 1} shown"]
            lines = [*lines[:shown], ""]
        elif total:
            lines = []
        self.write("".join(f"{line}\n" for line in (*lines, *total)))

    def _count_fitting(self, lines: Sequence[str], reserved: int) -> int:
        """Count the lines that fit on the screen. Long ones take several of its lines.

        Args:
            lines: The lines, the headings first. These and one row are always counted.
            reserved: Lines of the screen for other text and the cursor.
        """
        room = self.height - reserved
        for index, line in enumerate(lines):
            room -= max(-(-display_width(line) // self.width), 1)
            if room < 0 and index > 1:
                return index
        return len(lines)

    def pairs(self, columns: Sequence[Column], row: Row) -> None:
        """Print one row, one line for each value. Nothing is cut.

        On a terminal, long values continue on further lines, and each item of a list
        has its own.
        """
        if not self.width:
            lines = [f"{c.name}\t{_pipe_text(row.get(c.name))}" for c in columns]
        else:
            heading_width = max(len(column.heading) for column in columns)
            space = max(self.width - heading_width - 2, MIN_TEXT_WIDTH)
            lines = []
            for column in columns:
                value = row.get(column.name)
                items = value if isinstance(value, list) and value else [value]
                texts = [self._text(column, {column.name: item}) for item in items]
                first, *rest = [line for text in texts for line in fold(text, space)]
                lines.append(f"{column.heading.rjust(heading_width)}: {first}")
                lines += [" " * (heading_width + 2) + line for line in rest]
        self.write("".join(f"{line}\n" for line in lines))

    def json(self, value: object) -> None:
        """Print a JSON text on one line. It is ASCII, so it cannot move a cursor."""
        text = json.dumps(value, separators=(",", ":"))
        self.write(text.replace("\x7f", "\\u007f") + "\n")

    def _aligned(
        self, columns: Sequence[Column], rows: Sequence[Row], *, full: bool
    ) -> list[str]:
        """Return headings and rows as lines for the terminal."""
        cells, widths = self._layout(columns, rows)
        if not full:
            if _line_width(_least(widths)) > self.width:
                columns = [
                    c._replace(formatter=c.short or c.formatter) for c in columns
                ]
                cells, widths = self._layout(columns, rows)
            _narrow(widths, self.width)
        ellipsis = self._encodable(ELLIPSIS)
        lines = []
        for index in range(len(rows) + 1):
            line = GAP.join(
                _align(cells[column][index], space, column, ellipsis)
                for column, space in widths.items()
            ).rstrip()
            lines.append(line if full else cut(line, self.width, "start", ellipsis))
        return lines

    def _layout(
        self, columns: Sequence[Column], rows: Sequence[Row]
    ) -> tuple[dict[Column, list[str]], dict[Column, int]]:
        """Return the cells of each column, its heading first, and its width."""
        cells = {
            column: [column.heading, *(self._text(column, row) for row in rows)]
            for column in columns
        }
        widths = {
            column: max(map(display_width, texts)) for column, texts in cells.items()
        }
        return cells, widths

    def _text(self, column: Column, row: Row) -> str:
        """Format a value of a row for the terminal."""
        value = row.get(column.name)
        if value is None or value == "":
            return "-"
        if column.formatter is not None and isinstance(value, int | float):
            return column.formatter(value)
        return self._encodable(escape(_text(value), MAX_TEXT_LENGTH))


def _encoded(text: str, encoding: str) -> str:
    return text.encode(encoding, "backslashreplace").decode(encoding)


def tabbed(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """Return rows as tab-separated values for a pipe."""
    lines = ["\t".join(column.name for column in columns)]
    lines += ["\t".join(_pipe_text(row.get(c.name)) for c in columns) for row in rows]
    return "".join(f"{line}\n" for line in lines)


def _narrow(widths: dict[Column, int], width: int) -> None:
    """Fit columns into a width: omit the least useful, then cut the longest texts.

    Args:
        widths: The width of each column. Columns are removed from it.
        width: Columns of the terminal.
    """
    least = _least(widths)
    while _line_width(least) > width and (rank := max(c.rank for c in least)):
        for column in [column for column in least if column.rank == rank]:
            del least[column], widths[column]
    floor = {column: min(space, MIN_TEXT_WIDTH) for column, space in widths.items()}
    for bound in (least, floor):
        texts = [column for column in widths if column.formatter is None]
        excess = _line_width(widths) - width
        while excess > 0 and texts:
            widest = max(texts, key=widths.__getitem__)
            if widths[widest] > bound[widest]:
                widths[widest] -= 1
                excess -= 1
            else:
                texts.remove(widest)


def _least(widths: Mapping[Column, int]) -> dict[Column, int]:
    """Return the width to which each column may be cut before others are omitted."""
    return {
        column: min(space, column.least or space) for column, space in widths.items()
    }


def _line_width(widths: Mapping[Column, int]) -> int:
    return sum(widths.values()) + len(GAP) * (len(widths) - 1)


def _align(text: str, space: int, column: Column, ellipsis: str) -> str:
    text = cut(text, space, column.keep, ellipsis)
    padding = " " * (space - display_width(text))
    return text + padding if column.formatter is None else padding + text


def _pipe_text(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, list):
        value = "; ".join(map(str, value))
    return escape(_text(value), MAX_TEXT_LENGTH)


def _text(value: object) -> str:
    """Format a value. Numbers have no exponent and no trailing zeros."""
    if isinstance(value, float):
        return f"{value:.6f}".rstrip("0").rstrip(".")
    return str(value)
