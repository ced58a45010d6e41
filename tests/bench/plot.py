"""SVG plots of lines over the number of live sessions.

Both axes are logarithmic, because competitors differ by orders of magnitude. Each line
is named at its end. Knows nothing of the plotted quantities.
"""

from __future__ import annotations

import math
from itertools import pairwise

# Okabe and Ito: distinguishable with any colour vision.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#999999")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 400, 70, 210, 46, 56
APART = 16  # between two names
INK, GRID = "#333", "#ddd"

Points = dict[str, list[tuple[int, float]]]


def around(least: float, most: float) -> list[float]:
    """Return 1, 2 and 5 of each decade from below `least` to above `most`."""
    first, last = math.floor(math.log10(least)), math.ceil(math.log10(most))
    every = [n * 10.0**e for e in range(first, last + 1) for n in (1, 2, 5)]
    low = max(mark for mark in every if mark <= least)
    high = min((mark for mark in every if mark >= most), default=every[-1])
    return [mark for mark in every if low <= mark <= high]


def along(value: float, least: float, most: float) -> float:
    """Return the logarithmic position between the two."""
    return math.log(value / least) / (math.log(most / least) or 1)


def spread(points: list[float]) -> list[float]:
    """Return heights for names: near these, in their order, without overlap."""
    order = sorted(range(len(points)), key=points.__getitem__)
    found = list(points)
    for before, index in pairwise(order):
        found[index] = max(found[index], found[before] + APART)
    return found


def text(x: float, y: float, words: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}"{more}>{words}</text>'


class Plot:
    """One plot. The points of each line are in order of sessions."""

    def __init__(self, title: str, points: Points) -> None:
        self.title = title
        self.points = points
        each = [point for line in points.values() for point in line]
        self.numbers = sorted({number for number, _ in each})
        self.marks = around(min(v for _, v in each), max(v for _, v in each))

    def x(self, number: float) -> float:
        part = along(number, self.numbers[0], self.numbers[-1])
        return LEFT + (WIDTH - LEFT - RIGHT) * part

    def y(self, value: float) -> float:
        part = along(value, self.marks[0], self.marks[-1])
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - part)

    def axes(self) -> list[str]:
        right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
        found = []
        for mark in self.marks:
            y = self.y(mark)
            found += [
                f'<path d="M{LEFT} {y:.1f}H{right}" stroke="{GRID}"/>',
                text(LEFT - 8, y + 4, f"{mark:,.0f}", ' text-anchor="end"'),
            ]
        before = -math.inf
        for number in self.numbers:
            x = self.x(number)
            found.append(f'<path d="M{x:.1f} {bottom}v5" stroke="{INK}"/>')
            if x - before > 3 * APART:
                middle = ' text-anchor="middle"'
                found.append(text(x, bottom + 20, f"{number:,}", middle))
                before = x
        return [*found, text(LEFT, HEIGHT - 12, "live sessions")]

    def lines(self) -> list[str]:
        ends = [self.y(line[-1][1]) for line in self.points.values()]
        found = []
        for index, (name, line) in enumerate(self.points.items()):
            colour = COLOURS[index % len(COLOURS)]
            points = [(self.x(number), self.y(value)) for number, value in line]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            height = spread(ends)[index]
            (x, y), tip = points[-1], WIDTH - RIGHT + 14
            found.append(
                f'<path d="M{x:.1f} {y:.1f}L{tip} {height:.1f}" stroke="{colour}"'
                ' stroke-dasharray="2 3" stroke-opacity="0.4"/>'
            )
            found.append(
                f'<polyline points="{path}" fill="none" stroke="{colour}"'
                ' stroke-width="2"/>'
            )
            found += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
                for x, y in points
            ]
            found.append(text(tip + 4, height + 4, name, f' fill="{colour}"'))
        return found

    def svg(self) -> str:
        font = 'font-family="sans-serif" font-size="12"'
        size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
        start = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font} fill="{INK}">'
        paper = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
        title = text(LEFT, 24, self.title, ' font-size="15"')
        drawn = [start, paper, title, *self.axes(), *self.lines(), "</svg>", ""]
        return "\n".join(drawn)
