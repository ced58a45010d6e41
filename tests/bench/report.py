"""RESULTS.md, its plots and the README's table, of what the benchmarks have written.

    python report.py [RESULTS [ROOT]]

Law: nothing is measured here and nothing left out: every figure of every file in
RESULTS becomes rows, our ratio to each other contender among them. What was measured
over the number of live sessions is drawn too, of all benchmarks together.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path += [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import digest
from contenders import CEILING
from digest import cell
from plot import Plot, Points

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "build" / "bench"
PLACE = "tests/bench"  # of RESULTS.md and the plots
BEGIN, END = "<!-- by tests/bench/report.py -->\n", "<!-- to here -->\n"
CLIENT = re.compile(r"load client's CPU, (.*)")
# By name: the figures are those that end in "N sessions".
DRAWN = {
    "memory": ("together", "Memory of an idle session in all, kB"),
    "connections": ("coming", "Sessions that come, per second"),
}


def spread(mine: list[float], its: list[float]) -> str:
    """The median of the ratios round by round, and their range."""
    ratios = sorted(a / b for a, b in zip(mine, its, strict=False) if b)
    if not ratios:
        return ""
    middle = statistics.median(ratios)
    return f"{middle:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def promise(verdict: dict[str, str]) -> str:
    of = f" of {verdict['against']}" if verdict["against"] else ""
    return f"{verdict['bound']}{of}: {verdict['word']}"


def rows(figure: dict[str, Any], reference: str) -> list[str]:
    values: dict[str, list[float]] = figure["values"]
    found = []
    for who, numbers in values.items():
        middle = f"{cell(statistics.median(numbers))} {figure['unit']}"
        ratio = spread(numbers, values.get(reference, []))
        promised = "; ".join(map(promise, figure["verdicts"].get(who, [])))
        found.append(f"| {figure['name']} | {who} | {middle} | {ratio} | {promised} |")
    return found


def proof(record: dict[str, Any]) -> list[str]:
    """That the load client is not what was measured."""
    values = {figure["name"]: figure["values"] for figure in record["figures"]}
    found = []
    for name, busy in values.items():
        match = CLIENT.match(name)
        rate = values.get(f"connections, {match[1]}", {}) if match else {}
        if match and CEILING in rate:
            others = [statistics.median(busy[who]) for who in busy if who != CEILING]
            found.append(
                f"{cell(statistics.median(rate[CEILING]))} per s with {match[1]}, where"
                f" it uses {cell(statistics.median(busy[CEILING]))} of a core"
                f" (with all others at most {cell(max(others))})"
            )
    if not found:
        return []
    start = "The load client is not the bottleneck: out of a bare C server it gets"
    return [f"{start} {'; '.join(found)}.", ""]


def section(record: dict[str, Any]) -> list[str]:
    """One benchmark as a section of RESULTS.md."""
    reference = record["reference"]
    versions = [
        f"{one['name']} {one['version']}".strip() for one in record["contenders"]
    ]
    where = f"{record['machine']}, load {record['load']:.1f} before"
    lines = [
        f"## {record['about']}",
        "",
        "; ".join([where, f"{record['rounds']} rounds", *versions]) + ".",
        "",
        *proof(record),
        f"| | who | median | ratio to {reference} (least to greatest) | promised |",
        "|---|---|---:|---:|---|",
    ]
    for figure in record["figures"]:
        lines += rows(figure, reference)
    for who, (count, why) in record.get("stopped", {}).items():
        lines += ["", f"{who} stopped after {count:,} sessions: {why}."]
    return [*lines, ""]


def series(records: list[dict[str, Any]], quantity: str) -> Points:
    """Each contender's points; where two benchmarks have the same, the last's."""
    wanted = re.compile(rf"{quantity}, (\d+) sessions$")
    found: dict[str, dict[int, float]] = {}
    for record in reversed(records):
        for figure in record["figures"]:
            match = wanted.match(figure["name"])
            for who, values in figure["values"].items() if match else ():
                line = found.setdefault(who, {})
                line.setdefault(
                    int(match[1]) if match else 0, statistics.median(values)
                )
    lines = {who: sorted(line.items()) for who, line in found.items()}
    return {who: line for who, line in lines.items() if len(line) > 1}


def verdict(records: list[dict[str, Any]]) -> list[str]:
    """All that was promised and is not so."""
    missed = [
        f"- {figure['name']}, {who}: {promise(one)}, is {one['value']}"
        for record in records
        for figure in record["figures"]
        for who, verdicts in figure["verdicts"].items()
        for one in verdicts
        if one["word"] == "MISSED"
    ]
    return ["Missed:", "", *missed] if missed else ["Every promise is kept."]


def pictures(records: list[dict[str, Any]], place: Path) -> dict[str, str]:
    """Draws what can be drawn; titles by the names of the files."""
    drawn = {}
    for name, (quantity, title) in DRAWN.items():
        points = series(records, quantity)
        if points:
            (place / f"{name}.svg").write_text(Plot(title, points).svg())
            drawn[f"{name}.svg"] = title
    return drawn


def summary(records: list[dict[str, Any]]) -> list[str]:
    """What the README has too."""
    where = sorted({record["machine"] for record in records})
    return [f"On {'; '.join(where)}:", "", *digest.table(records)]


def replace(path: Path, lines: list[str]) -> None:
    """Puts the lines between the two marks of a file."""
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise LookupError(f"{path}: no place between {BEGIN!r} and {END!r}")
    path.write_text("".join([before, begin, "\n".join(lines), "\n", end, after]))


def main() -> int:
    given = [*map(Path, sys.argv[1:])]
    results = given[0] if given else RESULTS
    root = given[1] if len(given) > 1 else ROOT
    records = [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]
    if not records:
        print(f"no results in {results}", file=sys.stderr)
        return 1
    place = root / PLACE
    drawn = pictures(records, place)
    lines = ["# What was measured", "", "Written by `make bench`.", ""]
    lines += [BEGIN.strip(), *summary(records), END.strip(), "", *verdict(records), ""]
    lines += [f"![{title}]({name})" for name, title in drawn.items()]
    for record in records:
        lines += ["", *section(record)]
    (place / "RESULTS.md").write_text("\n".join(lines).rstrip() + "\n")
    images = [f"![{title}]({PLACE}/{name})" for name, title in drawn.items()]
    replace(root / "README.md", [*summary(records), "", *images])
    return 0


if __name__ == "__main__":
    sys.exit(main())
