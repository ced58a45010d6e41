"""The figures of bench_services.py as tables of mdoc(7), for chimirror-services(3).

A cell shows only a value from the results. Knows nothing of the measurements.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from summary_table import cell

OURS, LINES = "chimirror.services", "chimirror.services, lines"


class Column(NamedTuple):
    """One column: its head, and the figure and the competitor that it shows.

    Attributes:
        figure: With {} in the place of the size.
    """

    head: str
    figure: str
    name: str


def columns_of(figure: str) -> list[Column]:
    """Return the columns of a figure that all competitors have."""
    return [
        Column("pipe", figure, "pipe"),
        Column("1 MiB", figure, "pipe of 1 MiB"),
        Column("socket", figure, "socket pair"),
        Column("shared", figure, "shared memory, eventfd"),
        Column("memfd", figure, "sealed memfd, socket"),
        Column("thread", figure, "queue in one process"),
        Column("library", figure, OURS),
        Column("lines", figure, LINES),
    ]


TABLES = {
    "Round trip of bytes, in microseconds:": columns_of("round trip, {}"),
    "Bytes one way, in MB/s:": columns_of("one way, {}"),
    "Text: round trip in microseconds, and one way in MB/s:": [
        Column("library", "round trip, {} of text", OURS),
        Column("lines", "round trip, {} of text", LINES),
        Column("library", "one way, {} of text", OURS),
        Column("lines", "one way, {} of text", LINES),
    ],
}


def sizes(record: dict[str, Any]) -> list[str]:
    """Return the measured sizes."""
    names = [figure["name"] for figure in record["figures"]]
    found = (re.fullmatch(r"round trip, (\d+ (?:B|KiB|MiB))", name) for name in names)
    return [match[1] for match in found if match]


def table(record: dict[str, Any], columns: Sequence[Column]) -> list[str]:
    """Return one table, with a row for each size."""
    values = {figure["name"]: figure["values"] for figure in record["figures"]}
    widths = " ".join(["256_KiB", *["100,000"] * len(columns)])
    heads = [column.head for column in columns]
    lines = [f".Bl -column {widths}", f".It Ta {' Ta '.join(heads)}"]
    for size in sizes(record):
        cells = [
            cell(statistics.median(values[column.figure.format(size)][column.name]))
            for column in columns
        ]
        lines.append(f".It {' Ta '.join([size, *cells])}")
    return [*lines, ".El"]


def tables(record: dict[str, Any]) -> list[str]:
    """Return the machine and all tables."""
    lines = [f"On {record['machine']}."]
    for title, columns in TABLES.items():
        lines += [".Pp", title, *table(record, columns)]
    return lines
