"""Measured quantities, and what they were promised to be.

Law: a ratio is of two values of the same round. Ignorance: what was measured, and how.
"""

from __future__ import annotations

import statistics
from typing import NamedTuple

REFERENCE = "websocketd"
OURS = "chimirror-"  # whoever's name begins so is held to the bounds


class Bound(NamedTuple):
    """What our ratio has to be, or our value where it is `against` nobody."""

    least: float = 0.0
    most: float = float("inf")
    framing: str = ""  # of ours, that is held to it; empty: each
    against: str = REFERENCE

    def __str__(self) -> str:
        return f"at least {self.least}" if self.least else f"at most {self.most}"

    def holds(self, ratio: float) -> bool:
        return self.least <= ratio <= self.most


class Figure:
    """One measured quantity: who had which values, round by round."""

    def __init__(self, name: str, unit: str, bounds: tuple[Bound, ...]) -> None:
        self.name = name
        self.unit = unit
        self.bounds = bounds
        self.values: dict[str, list[float]] = {}

    def add(self, who: str, value: float) -> None:
        self.values.setdefault(who, []).append(value)

    def ratios(self, who: str, against: str = REFERENCE) -> list[float]:
        """Of each round in which both have a value, in order of size."""
        if not against:
            return sorted(self.values[who])
        pairs = zip(self.values[who], self.values.get(against, ()), strict=False)
        return sorted(mine / its for mine, its in pairs if its)

    def judged(self, who: str, framing: str) -> list[tuple[Bound, float]]:
        """The bounds that this contender is held to, and its ratios."""
        held = [
            bound
            for bound in self.bounds
            if who.startswith(OURS) and bound.framing in ("", framing)
        ]
        return [
            (bound, statistics.median(ratios))
            for bound in held
            if (ratios := self.ratios(who, bound.against))
        ]
