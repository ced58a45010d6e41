"""Shared memory that names the start which a zygote is performing for each worker.

The zygote sets the mark before a start and clears it afterwards. When a zygote dies,
the mark of a worker tells which of its requests has killed it, if any. Without this,
such a request would be sent again to the next zygote. Knows no processes and no links.
"""

from __future__ import annotations

from mmap import mmap

from chimirror.process.fork import hide_from_children


class StartMarks:
    """The number of the start in progress for each worker, or 0.

    Is created before the zygote and the workers are forked.

    Args:
        workers: number of workers, which are numbered from 0.
    """

    def __init__(self, workers: int) -> None:
        self._memory = mmap(-1, 8 * (workers + 1))
        view = memoryview(self._memory)
        self._numbers = view[8:].cast("Q")
        self._began_at = view[:8].cast("d")  # the start in progress, or 0

    def begin(self, worker: int, number: int, now: float) -> None:
        """Called by the zygote before a start."""
        self._began_at[0] = now
        self._numbers[worker] = number

    def end(self, worker: int) -> None:
        """Called by the zygote after a start."""
        self._numbers[worker] = 0
        self._began_at[0] = 0.0

    def take(self, worker: int) -> int:
        """Return the start that a dead zygote has not finished, or 0, and clear it."""
        number = self._numbers[worker]
        self._numbers[worker] = 0
        return number

    def seconds_busy(self, now: float) -> float:
        """Return the duration of the start in progress, or 0."""
        began_at = self._began_at[0]
        return now - began_at if began_at else 0.0

    def hide_from_children(self) -> None:
        """Called in the zygote: no copy of an application can write the marks."""
        hide_from_children(self._memory)

    def reset(self) -> None:
        """Called before another zygote is forked: no start is in progress."""
        self._began_at[0] = 0.0
