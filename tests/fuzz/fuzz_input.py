"""The input of a fuzzer, taken apart: numbers first, then the bytes under test.

Both drivers, atheris and Hypothesis, give plain bytes to a target. Knows no parser.
"""

from __future__ import annotations

import itertools


class FuzzInput:
    """Reads decisions from the front of the input. Its end reads as zeros."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def byte(self) -> int:
        self.position += 1
        return self.data[self.position - 1] if self.position <= len(self.data) else 0

    def take(self, size: int) -> bytes:
        """Return the next bytes, fewer at the end."""
        start = self.position
        self.position += size
        return self.data[start : self.position]

    def cuts(self) -> list[int]:
        """Return up to seven places to cut the rest at."""
        places = [self.byte() << 8 | self.byte() for _ in range(self.byte() % 8)]
        size = max(0, len(self.data) - self.position)
        return sorted(place % (size + 1) for place in places)

    def rest(self) -> bytes:
        return self.take(len(self.data))


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut `data` at these places."""
    edges = [0, *cuts, len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]
