"""Measured quantities and their goals.

A ratio always compares two values of the same round. Knows nothing of the measurements.
"""

from __future__ import annotations

import statistics
from typing import NamedTuple

REFERENCE = "websocketd"
REACHED, NOT_REACHED = "reached", "not reached"  # words of a verdict
OURS = "chimirror-"  # the bounds apply to names with this prefix


class Bound(NamedTuple):
    """The goal of a ratio, or of a value if `against` is empty."""

    least: float = 0.0
    most: float = float("inf")
    framing: str = ""  # the framing that the goal applies to, empty for each
    against: str = REFERENCE

    def __str__(self) -> str:
        return f"at least {self.least}" if self.least else f"at most {self.most}"

    def holds(self, ratio: float) -> bool:
        return self.least <= ratio <= self.most


class Figure:
    """One measured quantity: the values of each competitor, round by round."""

    def __init__(self, name: str, unit: str, bounds: tuple[Bound, ...]) -> None:
        self.name = name
        self.unit = unit
        self.bounds = bounds
        self.values: dict[str, list[float]] = {}

    def add(self, name: str, value: float) -> None:
        self.values.setdefault(name, []).append(value)

    def ratios(self, name: str, against: str = REFERENCE) -> list[float]:
        """Return the sorted ratios of the rounds in which both have a value."""
        if not against:
            return sorted(self.values[name])
        pairs = zip(self.values[name], self.values.get(against, ()), strict=False)
        return sorted(mine / its for mine, its in pairs if its)

    def goals(self, name: str, framing: str) -> list[tuple[Bound, float]]:
        """Return the goals that apply to a competitor, with its values."""
        goals = [
            bound
            for bound in self.bounds
            if name.startswith(OURS) and bound.framing in ("", framing)
        ]
        return [
            (bound, statistics.median(ratios))
            for bound in goals
            if (ratios := self.ratios(name, bound.against))
        ]
