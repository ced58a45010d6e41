"""Measures by how much the event loop of a process is late.

A timer of the loop writes when it is due next and how late it was. The reader of both
sees a loop that is slow, and one that does not turn at all. Knows no session.
"""

from __future__ import annotations

from chimirror.io.loop import NEVER, TICKS, FatalErrorHandler
from chimirror.server.metrics_table import LOOP_DUE, LOOP_LATE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.io.loop import EventLoop
    from chimirror.server.metrics_table import Region

INTERVAL = 1.0  # seconds
_SECOND = 1_000_000_000


class LoopLagTimer(FatalErrorHandler):
    """The timer of one process.

    Args:
        loop: the loop that is measured.
        region: gets the times, in nanoseconds.
    """

    __slots__ = ("_due", "_loop", "_region", "armed", "deadline")

    def __init__(self, loop: EventLoop, region: Region) -> None:
        self._loop = loop
        self._region = region
        self._due = loop.clock()
        self.armed = 0
        self.deadline = NEVER
        self.on_timer(loop.now)

    def on_timer(self, now: float) -> None:
        """Called when the timer is due. Writes how late that is, and sets it again."""
        words = self._region.words
        words[LOOP_LATE] = max(0, int((self._loop.clock() - self._due) * _SECOND))
        # The loop serves timers in buckets: that much is no lag.
        self._due = (int((now + INTERVAL) * TICKS) + 1) / TICKS
        words[LOOP_DUE] = int(self._due * _SECOND)
        self._loop.set_timer(self, now + INTERVAL)

    def stop(self) -> None:
        """Stop measuring."""
        self._loop.cancel_timer(self)


def forget(region: Region) -> None:
    """Clear the times of a process that has ended: it is not late."""
    region.words[LOOP_DUE] = region.words[LOOP_LATE] = 0
