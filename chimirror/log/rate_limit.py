"""Bounds the records of one kind in each period, and counts the others.

A flood of requests must not become a flood of records. The counts are reported when the
period ends, by a timer, and when the process exits. Knows no kind of record.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Timers(Protocol):
        """The timers of the event loop."""

        def set_timer(self, handler: RateLimit, deadline: float) -> None: ...

        def cancel_timer(self, handler: RateLimit) -> None: ...


NEVER = float("inf")
MAX_LABELS = 32  # counted one by one: peers choose some of the labels
OTHER = "other"


class RateLimit:
    """Lets the first records of each period pass.

    Args:
        limit: number of records that pass in a period.
        period: length of a period in seconds. It begins with the first record.
        report: called at the end of a period, once for each label with its count.
        clock: monotonic time in seconds.
        timers: event loop, or None. Without it, a count is reported by the next record.
    """

    __slots__ = (
        "_clock",
        "_counts",
        "_end",
        "_limit",
        "_passed",
        "_period",
        "_report",
        "_timers",
        "armed",
        "deadline",
    )

    def __init__(
        self,
        limit: int,
        period: float,
        report: Callable[[str, int], None],
        clock: Callable[[], float],
        timers: Timers | None,
    ) -> None:
        self._limit = limit
        self._period = period
        self._report = report
        self._clock = clock
        self._timers = timers
        self._end = 0.0
        self._passed = 0
        self._counts: dict[str, int] = {}
        self.armed = 0
        self.deadline = NEVER

    def allows(self, label: str) -> bool:
        """Return True if one more record may be written. Otherwise count it.

        Args:
            label: what the count is reported by, such as the cause of a refusal.
        """
        now = self._clock()
        if now >= self._end:
            self._flush()
            self._end, self._passed = now + self._period, 0
        if self._passed < self._limit:
            self._passed += 1
            return True
        if not self._counts and self._timers is not None:
            self._timers.set_timer(self, self._end)
        if label not in self._counts and len(self._counts) >= MAX_LABELS:
            label = OTHER
        self._counts[label] = self._counts.get(label, 0) + 1
        return False

    def _flush(self) -> None:
        counts, self._counts = self._counts, {}
        for label, count in counts.items():
            self._report(label, count)

    def on_timer(self, now: float) -> None:
        """Called at the end of a period. Reports what was suppressed."""
        self.deadline = NEVER
        self._flush()

    def on_error(self, error: Exception) -> None:
        """Called on an internal error. Raises it, which ends the process."""
        raise error

    def finish(self) -> None:
        """Report what was suppressed in a period that has not ended."""
        if self._timers is not None:
            self._timers.cancel_timer(self)
        self._flush()
