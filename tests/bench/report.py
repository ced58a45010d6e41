"""Writes RESULTS.md, its plots and tables of other documents from benchmark results.

    python report.py [RESULTS [ROOT]]

Nothing is measured and nothing is left out. Every figure of every file in RESULTS
becomes rows, with its ratio to the reference. Figures over the number of live sessions
are plotted too, for all benchmarks together. The other documents are README.md and
chimirror-services(3).
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]

import manual_table
import summary_table
from competitors import BASELINE, CEILING
from figures import NOT_REACHED
from plot import Plot, Points
from summary_table import cell

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "build" / "bench"
PLACE = "tests/bench"  # of RESULTS.md and the plots
BEGIN, END = "<!-- by tests/bench/report.py -->\n", "<!-- to here -->\n"
PAGE = "man/chimirror-services.3"
PAGE_BEGIN, PAGE_END = '.\\" by tests/bench/report.py\n', '.\\" to here\n'
LIMIT = (
    f"The competitor {BASELINE} only starts a process for each connection:"
    " its figures are the limit for first byte and sessions."
)
CLIENT = re.compile(r"load client's CPU, (.*)")
# Plots by name. Their figures end in "N sessions".
DRAWN = {
    "memory": ("together", "Total memory of an idle session, kB"),
    "connections": ("coming", "New sessions per second"),
}


def spread(mine: list[float], its: list[float]) -> str:
    """Return the median of the ratios round by round, and their range."""
    ratios = sorted(a / b for a, b in zip(mine, its, strict=False) if b)
    if not ratios:
        return ""
    middle = statistics.median(ratios)
    return f"{middle:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def describe_goal(verdict: dict[str, str]) -> str:
    of = f" of {verdict['against']}" if verdict["against"] else ""
    return f"{verdict['bound']}{of}: {verdict['word']}"


def rows(figure: dict[str, Any], reference: str) -> list[str]:
    values: dict[str, list[float]] = figure["values"]
    found = []
    for name, numbers in values.items():
        middle = f"{cell(statistics.median(numbers))} {figure['unit']}"
        ratio = spread(numbers, values.get(reference, []))
        goals = "; ".join(map(describe_goal, figure["verdicts"].get(name, [])))
        found.append(f"| {figure['name']} | {name} | {middle} | {ratio} | {goals} |")
    return found


def load_client_note(record: dict[str, Any]) -> list[str]:
    """Show that the load client is not the bottleneck."""
    values = {figure["name"]: figure["values"] for figure in record["figures"]}
    found = []
    for name, busy in values.items():
        match = CLIENT.match(name)
        rate = values.get(f"connections, {match[1]}", {}) if match else {}
        if match and CEILING in rate:
            others = [statistics.median(busy[name]) for name in busy if name != CEILING]
            found.append(
                f"{cell(statistics.median(rate[CEILING]))} per s with {match[1]}, where"
                f" it uses {cell(statistics.median(busy[CEILING]))} of a core"
                f" (with all others at most {cell(max(others))})"
            )
    if not found:
        return []
    start = "The load client is not the bottleneck: from a bare C server it gets"
    return [f"{start} {'; '.join(found)}.", ""]


def section(record: dict[str, Any]) -> list[str]:
    """Return one benchmark as a section of RESULTS.md."""
    reference = record["reference"]
    versions = [
        f"{item['name']} {item['version']}".strip() for item in record["contenders"]
    ]
    where = f"{record['machine']}, load {record['load']:.1f} before"
    lines = [
        f"## {record['about']}",
        "",
        "; ".join([where, f"{record['rounds']} rounds", *versions]) + ".",
        "",
        *load_client_note(record),
        f"| | competitor | median | ratio to {reference} (least to greatest) | goal |",
        "|---|---|---:|---:|---|",
    ]
    for figure in record["figures"]:
        lines += rows(figure, reference)
    for name, (count, reason) in record.get("stopped", {}).items():
        lines += ["", f"{name} stopped after {count:,} sessions: {reason}."]
    return [*lines, ""]


def series(records: list[dict[str, Any]], quantity: str) -> Points:
    """Return each competitor's points. The last of two equal benchmarks wins."""
    wanted = re.compile(rf"{quantity}, (\d+) sessions$")
    found: dict[str, dict[int, float]] = {}
    for record in reversed(records):
        for figure in record["figures"]:
            match = wanted.match(figure["name"])
            for name, values in figure["values"].items() if match else ():
                line = found.setdefault(name, {})
                line.setdefault(
                    int(match[1]) if match else 0, statistics.median(values)
                )
    lines = {name: sorted(line.items()) for name, line in found.items()}
    return {name: line for name, line in lines.items() if len(line) > 1}


def verdict(records: list[dict[str, Any]]) -> list[str]:
    """Return the goals that are not reached, and the limit of the machine."""
    missed = [
        f"- {figure['name']}, {name}: {describe_goal(item)}, is {item['value']}"
        for record in records
        for figure in record["figures"]
        for name, verdicts in figure["verdicts"].items()
        for item in verdicts
        if item["word"] == NOT_REACHED
    ]
    if not missed:
        return ["All goals are reached."]
    names = {item["name"] for record in records for item in record["contenders"]}
    note = [LIMIT, ""] if BASELINE in names else []
    return [*note, "Goals that are not reached:", "", *missed]


def pictures(records: list[dict[str, Any]], directory: Path) -> dict[str, str]:
    """Draw all plots with data. Returns titles by file name."""
    drawn = {}
    for name, (quantity, title) in DRAWN.items():
        points = series(records, quantity)
        if points:
            (directory / f"{name}.svg").write_text(Plot(title, points).svg())
            drawn[f"{name}.svg"] = title
    return drawn


def summary(records: list[dict[str, Any]], *, short: bool = False) -> list[str]:
    """Return the main figures, or those that README.md has too."""
    where = sorted({record["machine"] for record in records})
    return [f"On {'; '.join(where)}:", "", *summary_table.table(records, short=short)]


def replace(path: Path, lines: list[str], first: str, last: str) -> None:
    """Put lines between the two marks of a file."""
    before, begin, rest = path.read_text().partition(first)
    _, end, after = rest.partition(last)
    if not end:
        raise LookupError(f"{path}: no place between {first!r} and {last!r}")
    path.write_text("".join([before, begin, "\n".join(lines), "\n", end, after]))


def main() -> int:
    given = [*map(Path, sys.argv[1:])]
    results = given[0] if given else RESULTS
    root = given[1] if len(given) > 1 else ROOT
    records = [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]
    if not records:
        print(f"no results in {results}", file=sys.stderr)
        return 1
    directory = root / PLACE
    drawn = pictures(records, directory)
    lines = ["# Benchmark results", "", "Written by `make bench`.", ""]
    lines += [BEGIN.strip(), *summary(records), END.strip(), "", *verdict(records), ""]
    lines += [f"![{title}]({name})" for name, title in drawn.items()]
    for record in records:
        lines += ["", *section(record)]
    (directory / "RESULTS.md").write_text("\n".join(lines).rstrip() + "\n")
    replace(root / "README.md", summary(records, short=True), BEGIN, END)
    for record in records:
        if record["bench"] == "services":
            tables = manual_table.tables(record)
            replace(root / PAGE, tables, PAGE_BEGIN, PAGE_END)
    return 0


if __name__ == "__main__":
    sys.exit(main())
