"""The main figures in one table, which RESULTS.md and the README have alike.

Law: a row says what stands in the files that the benchmarks have written and nothing
else; what was not measured has no row. Ignorance: what is good.
"""

from __future__ import annotations

import statistics
from typing import Any, NamedTuple

LINES, JSON = "chimirror-server, lines", "chimirror-server, json"
WEBSOCKETD = "websocketd"


class Row(NamedTuple):
    """Where a figure is found: ours, and whose it is held against."""

    what: str
    bench: str
    figure: str
    ours: str = LINES
    other: str = WEBSOCKETD


ROWS = (
    Row("first byte, 1 client", "connect", "first byte p50, 1 client"),
    Row("first byte, 8 clients", "connect", "first byte p50, 8 clients"),
    Row("first byte, 32 clients", "connect", "first byte p50, 32 clients"),
    Row("sessions, 1 client", "connect", "connections, 1 client"),
    Row("sessions, 8 clients", "connect", "connections, 8 clients"),
    Row("sessions, 32 clients", "connect", "connections, 32 clients"),
    Row("echo of 64 B, one in flight", "echo", "echo 64 B p50"),
    Row("echo of 64 B, pipelined", "echo", "echo 64 B, pipelined"),
    Row("in, lines of 64 B", "oneway", "in, 64 B"),
    Row("in, lines of 1 MB", "oneway", "in, 1 MB"),
    Row("out, lines of 4 KiB, as JSON", "oneway", "out, 4 KiB", JSON),
    Row(
        "the same, against --binary",
        *("oneway", "out, 4 KiB", JSON, f"{WEBSOCKETD} --binary"),
    ),
    Row("echo beside a bulk session, p99", "beside_bulk", "echo beside bulk p99"),
    Row("relay of an idle session", "memory", "relay, 2000 sessions"),
    Row("an idle session in all", "memory", "together, 2000 sessions"),
    Row("sessions at once", "density", "sessions"),
    Row("sessions, with those there", "density", "connections, last thousand"),
    Row("an idle session in all, with those", "density", "together"),
    Row("CPU of those, pings alone", "density", "CPU while idle"),
    Row(
        "warm Python application, first byte",
        *("warm", "first byte", "chimirror-server --preload"),
        "exec by chimirror-server",
    ),
    Row(
        "private memory of a copy",
        *("warm", "private memory of its process", "chimirror-server --preload"),
        "exec by chimirror-server",
    ),
    Row(
        "chimirror-bridge, cold to first byte",
        *("coldstart", "cold start, to the first byte"),
        *("chimirror-bridge", "python3 -I -S -c pass"),
    ),
)


def cell(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def promised(verdicts: list[dict[str, str]], other: str) -> str:
    """What the figure has to be against `other`, or in itself, and whether it is."""
    found = [v for v in verdicts if v["against"] in ("", other)]
    return "; ".join(f"{v['bound']}, {v['word']}" for v in found)


def line(row: Row, figure: dict[str, Any]) -> str:
    values = figure["values"]
    mine, its = values[row.ours], values.get(row.other, [])
    cells = [row.what, f"{cell(statistics.median(mine))} {figure['unit']}".strip()]
    ratios = [a / b for a, b in zip(mine, its, strict=False) if b]
    if ratios:
        theirs = "" if row.other == WEBSOCKETD else f" ({row.other})"
        cells += [f"{cell(statistics.median(its))} {figure['unit']}{theirs}"]
        cells += [f"{statistics.median(ratios):.2f}"]
    else:
        cells += ["", ""]
    verdicts = figure["verdicts"].get(row.ours, [])
    return f"| {' | '.join([*cells, promised(verdicts, row.other)])} |"


def table(records: list[dict[str, Any]]) -> list[str]:
    """The rows of what was measured."""
    figures = {
        (record["bench"], figure["name"]): figure
        for record in records
        for figure in record["figures"]
    }
    rows = [
        line(row, figure)
        for row in ROWS
        if (figure := figures.get((row.bench, row.figure)))
        and row.ours in figure["values"]
    ]
    head = ["| medians | chimirror | websocketd | ratio | promised |"]
    return [*head, "|---|---:|---:|---:|---|", *rows]
