"""Shared memory that shows whether the event loops of several processes still run.

Each process writes the time into its own word, from a timer of its event loop. During a
long turn the loop writes it between two handlers. A busy process is not taken for
stuck, but a process with a handler that does not return is. Every process that shares
the memory can see which loops have stopped. CLOCK_MONOTONIC is the same in all
processes. Knows nothing of the work of these processes.
"""

from __future__ import annotations

from mmap import mmap

from chimirror.io.loop import NEVER, FatalErrorHandler
from chimirror.process.fork import hide_from_children

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.io.loop import EventLoop

BEATS_PER_INTERVAL = 4


class HeartbeatTable:
    """The time of the last heartbeat of each process. Is created before the fork.

    Args:
        processes: number of processes, which are numbered from 0.
        interval: seconds without a heartbeat after which a process counts as stuck.
    """

    def __init__(self, processes: int, interval: float) -> None:
        self.interval = interval
        self._memory = mmap(-1, 8 * processes)
        self._words = memoryview(self._memory).cast("d")

    def beat(self, number: int, now: float) -> None:
        """Record a heartbeat of a process. Time 0 means that the process has ended."""
        self._words[number] = now

    def hide_from_children(self) -> None:
        """Called in the zygote: no copy of an application can write heartbeats."""
        hide_from_children(self._memory)

    def stale(self, now: float) -> list[int]:
        """Return the processes whose last heartbeat is older than the interval.

        A process that has never sent a heartbeat is not stale: it may still be
        starting.
        """
        return [
            number
            for number, word in enumerate(self._words)
            if word and now - word > self.interval
        ]

    def start_timer(self, loop: EventLoop, number: int) -> None:
        """Send heartbeats from this event loop, as long as it calls handlers."""
        HeartbeatTimer(self, loop, number)


class HeartbeatTimer(FatalErrorHandler):
    """The timer that sends the heartbeats of one process."""

    __slots__ = ("_loop", "_number", "_table", "armed", "deadline")

    def __init__(self, table: HeartbeatTable, loop: EventLoop, number: int) -> None:
        self._table = table
        self._loop = loop
        self._number = number
        self.armed = 0
        self.deadline = NEVER
        loop.set_heartbeat(self.beat)
        self.on_timer(loop.now)

    def beat(self, now: float) -> None:
        """Record a heartbeat."""
        self._table.beat(self._number, now)

    def on_timer(self, now: float) -> None:
        """Called when a heartbeat is due. Records it and sets the timer again."""
        self.beat(now)
        self._loop.set_timer(self, now + self._table.interval / BEATS_PER_INTERVAL)
