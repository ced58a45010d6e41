"""Limit on failed attempts of one source, so that passwords cannot be guessed fast.

A token bucket for each source. Knows no request. The oldest of too many sources is
forgotten, so the memory is bounded.
"""

from __future__ import annotations

from math import ceil

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

BURST = 20  # failed attempts
INTERVAL = 3.0  # seconds for one more
MAX_SOURCES = 4096


class FailureLimiter:
    """The failed attempts of all sources in one process.

    Args:
        clock: monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # by source: the time at which all its failures are forgotten
        self._until: dict[Hashable, float] = {}

    def retry_after(self, source: Hashable) -> int:
        """Return the seconds until a source may try again, 0 if it may now."""
        excess = self._until.get(source, 0.0) - self._clock() - INTERVAL * (BURST - 1)
        return max(0, ceil(excess))

    def on_failure(self, source: Hashable) -> None:
        """Called with the source of a failed attempt."""
        now = self._clock()
        until = max(self._until.pop(source, 0.0), now) + INTERVAL
        self._until[source] = until  # the last one, as a dict keeps its order
        if len(self._until) > MAX_SOURCES:
            del self._until[next(iter(self._until))]
