"""RESULTS.md and its plots, of the files that the benchmarks have written.

    python report.py [DIRECTORY]

Law: nothing is measured here and nothing left out: every figure of every file becomes
a row, our ratio to each other contender among them. A figure whose name ends in
"N sessions" is also drawn over N, as SVG, by hand.
"""

from __future__ import annotations

import json
import math
import re
import statistics
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE.parent.parent / "build" / "bench"
OVER_SESSIONS = re.compile(r"(.*?),? (?:the last of )?(\d+) sessions$")
# Okabe and Ito: told apart by everybody.
COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#999999",
)
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 400, 70, 210, 40, 50

Points = dict[str, list[tuple[int, float]]]


def cell(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def spread(mine: list[float], its: list[float]) -> str:
    """The median of the ratios round by round, and their range."""
    ratios = sorted(a / b for a, b in zip(mine, its, strict=False) if b)
    if not ratios:
        return ""
    middle = statistics.median(ratios)
    return f"{middle:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def rows(figure: dict[str, Any], reference: str) -> list[str]:
    values: dict[str, list[float]] = figure["values"]
    return [
        f"| {figure['name']} | {who} | {cell(statistics.median(numbers))} "
        f"{figure['unit']} | {spread(numbers, values.get(reference, []))} |"
        for who, numbers in values.items()
    ]


def section(record: dict[str, Any]) -> list[str]:
    """One benchmark as a section of RESULTS.md."""
    reference = record.get("reference", "websocketd")
    versions = [
        f"{one['name']} {one['version']}".strip() for one in record["contenders"]
    ]
    where = f"{record['machine']}, load {record['load']:.1f} before"
    lines = [
        f"## {record['about']}",
        "",
        "; ".join([where, f"{record['rounds']} rounds", *versions]) + ".",
        "",
        f"| | who | median | ratio to {reference} (least to greatest) |",
        "|---|---|---:|---:|",
    ]
    for figure in record["figures"]:
        lines += rows(figure, reference)
    for who, count in record.get("stopped", {}).items():
        lines += ["", f"{who} stopped at {count} sessions."]
    return [*lines, ""]


def series(record: dict[str, Any]) -> dict[tuple[str, str], Points]:
    """What can be drawn: by quantity and unit, each contender's points."""
    found: dict[tuple[str, str], Points] = {}
    for figure in record["figures"]:
        match = OVER_SESSIONS.match(figure["name"])
        for who, values in figure["values"].items() if match else ():
            points = found.setdefault((match[1], figure["unit"]), {}) if match else {}
            number = int(match[2]) if match else 0
            points.setdefault(who, []).append((number, statistics.median(values)))
    return {what: points for what, points in found.items() if len(points) > 1}


def ticks(top: float) -> list[float]:
    """Four round numbers up to `top` and a little more."""
    step = 10 ** math.floor(math.log10(top))
    while top / step < 3:
        step /= 2
    return [step * i for i in range(1, int(top / step) + 2)]


def plot(title: str, unit: str, points: Points) -> str:
    """Lines over the number of sessions, which is drawn as its logarithm."""
    numbers = [number for line in points.values() for number, _ in line]
    least, most = math.log(min(numbers)), math.log(max(numbers))
    marks = ticks(max(value for line in points.values() for _, value in line))
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(number: float) -> float:
        return LEFT + width * (math.log(number) - least) / ((most - least) or 1)

    def y(value: float) -> float:
        return TOP + height * (1 - value / marks[-1])

    out = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
            ' font-family="sans-serif" font-size="12">'
        ),
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{title} ({unit})</text>',
    ]
    for mark in [0.0, *marks]:
        out += [
            f'<path d="M{LEFT} {y(mark):.1f}h{width}" stroke="#ddd"/>',
            (
                f'<text x="{LEFT - 6}" y="{y(mark) + 4:.1f}" text-anchor="end">'
                f"{mark:,g}</text>"
            ),
        ]
    out += [
        f'<text x="{x(number):.1f}" y="{HEIGHT - 28}" text-anchor="middle">'
        f"{number:,}</text>"
        for number in sorted(set(numbers))
    ]
    out.append(f'<text x="{LEFT}" y="{HEIGHT - 8}">live sessions</text>')
    for index, (who, line) in enumerate(points.items()):
        colour = COLOURS[index % len(COLOURS)]
        path = " ".join(f"{x(number):.1f},{y(value):.1f}" for number, value in line)
        out.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}"'
            ' stroke-width="2"/>'
        )
        out += [
            f'<circle cx="{x(number):.1f}" cy="{y(value):.1f}" r="3" fill="{colour}"/>'
            for number, value in line
        ]
        out.append(
            f'<text x="{WIDTH - RIGHT + 10}" y="{TOP + 18 * (index + 1)}"'
            f' fill="{colour}">{who}</text>'
        )
    return "\n".join([*out, "</svg>", ""])


def main() -> int:
    results = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    records = [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]
    if not records:
        print(f"no results in {results}", file=sys.stderr)
        return 1
    lines = ["# What was measured", "", "Written by `make bench`.", ""]
    for record in records:
        lines += section(record)
        for (title, unit), points in series(record).items():
            name = f"{record['bench']}-{re.sub('[^a-z]+', '-', title.lower())}.svg"
            (HERE / name).write_text(plot(title, unit, points))
            lines += [f"![{title} over the number of live sessions]({name})", ""]
    (HERE / "RESULTS.md").write_text("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
