"""Spares of all workers in shared memory: how many there are, and which are off.

A worker writes its own number. An application whose spares end by themselves is
switched off by one worker for all, so that the log has one warning. The lock is a POSIX
record lock (fcntl(2)), which the kernel releases when its owner dies. Knows neither
processes nor applications.
"""

from __future__ import annotations

import os
from fcntl import LOCK_EX, LOCK_UN, lockf
from mmap import mmap

from chimirror.server.limit_table import anonymous_file

# Applications that can be off at once. Two with the same slot replace each other, which
# costs another warning.
SLOTS = 4096


class SpareTable:
    """The numbers of spares, and the applications without spares.

    Is created before the workers are forked.

    Args:
        workers: number of workers, which are numbered from 0.
        max_processes: applications of one process each that can run at once, sessions
            and spares together.

    Attributes:
        workers, max_processes: as given.
    """

    __slots__ = ("_counts", "_lock", "_memory", "_off", "max_processes", "workers")

    def __init__(self, workers: int, max_processes: int) -> None:
        self.workers = workers
        self.max_processes = max_processes
        size = 4 * workers + workers % 2 * 4  # the words after it are aligned
        self._memory = mmap(-1, size + 8 * SLOTS)
        view = memoryview(self._memory)
        self._counts = view[: 4 * workers].cast("I")
        self._off = view[size:].cast("Q")
        self._lock = anonymous_file()

    def total(self) -> int:
        """Return the number of spares of all workers."""
        return sum(self._counts)

    def set_count(self, worker: int, count: int) -> None:
        """Set the number of spares of one worker."""
        self._counts[worker] = count

    def is_off(self, key: int) -> bool:
        """Return True if an application gets no spares.

        Args:
            key: stands for the application, its options and its files. Not 0.
        """
        return self._off[key % SLOTS] == key

    def switch_off(self, key: int) -> bool:
        """Let an application get no spares. Returns True if it was not off before."""
        lockf(self._lock, LOCK_EX)
        try:
            was_off = self.is_off(key)
            self._off[key % SLOTS] = key
            return not was_off
        finally:
            lockf(self._lock, LOCK_UN)

    def close(self) -> None:
        """Release the memory and the lock in this process only."""
        self._counts.release()
        self._off.release()
        self._memory.close()
        lock, self._lock = self._lock, -1
        os.close(lock)
