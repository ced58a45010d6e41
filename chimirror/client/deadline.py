"""Deadline for the steps of a handshake. Pure: the clock is passed in."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Deadline:
    """Deadline for a handshake."""

    __slots__ = ("_clock", "_end")

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._end = clock() + seconds

    def left(self, share: int = 1) -> float:
        return max((self._end - self._clock()) / share, 0.0)

    def at_most(self, seconds: float) -> Deadline:
        """Return a deadline in `seconds`, or this one if it is earlier."""
        return Deadline(min(seconds, self.left()), self._clock)
