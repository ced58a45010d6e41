"""Delays between attempts to connect: exponential, bounded, with jitter. Pure.

Clients that a server has lost at the same moment spread their attempts.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST, LONGEST = 0.5, 30.0  # seconds
ATTEMPTS = 12  # three minutes


class Backoff:
    """Delays of a series of attempts.

    Args:
        chance: Returns a number from 0 to 1.
    """

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._attempts = 0

    def reset(self) -> None:
        """Begin a new series, because a connection has lasted."""
        self._attempts = 0

    def next_delay(self) -> float | None:
        """Return seconds to wait before the next attempt, or None after the last."""
        if self._attempts == ATTEMPTS:
            return None
        longest: float = min(FIRST * 2**self._attempts, LONGEST)
        self._attempts += 1
        return longest * (1 + self._chance()) / 2
