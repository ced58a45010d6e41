"""The main figures in one table of RESULTS.md. README.md has its most important rows.

A row shows only values from the results of the benchmarks. A figure without a result
has no row. Knows nothing of goals.
"""

from __future__ import annotations

import statistics
from typing import Any, NamedTuple

LINES, JSON = "chimirror-server, lines", "chimirror-server, json"
WEBSOCKETD = "websocketd"


class Row(NamedTuple):
    """The place of a figure: its benchmark, its name and the compared programs."""

    title: str
    bench: str
    figure: str
    ours: str = LINES
    other: str = WEBSOCKETD


# The rows of README.md, by title.
MOST_IMPORTANT = {
    "first byte, 1 client",
    "sessions, 8 clients",
    "echo of 64 B, one in flight",
    "echo of 64 B, pipelined",
    "in, lines of 64 B",
    "out, lines of 4 KiB, as JSON",
    "an idle session, total",
    "concurrent sessions",
    "warm Python application, first byte",
    "chimirror-bridge, cold to first byte",
}
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
    Row("an idle session, total", "memory", "together, 2000 sessions"),
    Row(
        "sessions over TLS, 8 clients",
        *("tls", "sessions, 8 clients", LINES, f"{WEBSOCKETD} --ssl"),
    ),
    Row(
        "relay of an idle session over TLS",
        *("tls", "idle session", LINES, f"{WEBSOCKETD} --ssl"),
    ),
    Row("concurrent sessions", "density", "sessions"),
    Row("new sessions, beside those", "density", "connections, last thousand"),
    Row("an idle session of those, total", "density", "together"),
    Row("CPU of those, pings only", "density", "CPU while idle"),
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


def describe_goals(verdicts: list[dict[str, str]], other: str) -> str:
    """Return the goals of a figure against `other`, or of its value, with verdicts."""
    found = [v for v in verdicts if v["against"] in ("", other)]
    return "; ".join(f"{v['bound']}, {v['word']}" for v in found)


def line(row: Row, figure: dict[str, Any]) -> str:
    values = figure["values"]
    own, others = values[row.ours], values.get(row.other, [])
    cells = [row.title, f"{cell(statistics.median(own))} {figure['unit']}".strip()]
    ratios = [a / b for a, b in zip(own, others, strict=False) if b]
    if ratios:
        compared = "" if row.other == WEBSOCKETD else f" ({row.other})"
        cells += [f"{cell(statistics.median(others))} {figure['unit']}{compared}"]
        cells += [f"{statistics.median(ratios):.2f}"]
    else:
        cells += ["", ""]
    verdicts = figure["verdicts"].get(row.ours, [])
    return f"| {' | '.join([*cells, describe_goals(verdicts, row.other)])} |"


def table(records: list[dict[str, Any]], *, short: bool = False) -> list[str]:
    """Return the rows of all measured figures, or the most important of them."""
    figures = {
        (record["bench"], figure["name"]): figure
        for record in records
        for figure in record["figures"]
    }
    rows = [
        line(row, figure)
        for row in ROWS
        if not short or row.title in MOST_IMPORTANT
        if (figure := figures.get((row.bench, row.figure)))
        and row.ours in figure["values"]
    ]
    head = ["| medians | chimirror | websocketd | ratio | goal |"]
    return [*head, "|---|---:|---:|---:|---|", *rows]
