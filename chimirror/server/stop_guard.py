"""The last resort of a stop: kills the workers that do not end in time.

A worker that runs ends by its own timers. One that is stuck or stopped by a signal
handles no SIGTERM. Knows the processes of workers, nothing of their sessions.
"""

from __future__ import annotations

from mmap import mmap

from chimirror.io.loop import NEVER, FatalErrorHandler
from chimirror.process import children

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from chimirror.io.loop import EventLoop
    from chimirror.server.worker_process import WorkerProcess

KILL_MARGIN = 5.0  # seconds that a worker may take beyond its own timeouts


class StopDeadlines:
    """Shared memory with the time by which each worker will have ended.

    Is created before the fork. A worker knows the timeouts of its applications, the
    supervisor does not.

    Args:
        workers: number of workers, which are numbered from 0.
    """

    def __init__(self, workers: int) -> None:
        self._memory = mmap(-1, 8 * workers)
        self._words = memoryview(self._memory).cast("d")

    def set(self, worker: int, deadline: float) -> None:
        """Called by a worker that closes its last sessions."""
        self._words[worker] = deadline

    def close(self) -> None:
        """Release the memory in this process only."""
        self._words.release()
        self._memory.close()

    def get(self, worker: int) -> float:
        """Return the time by which a worker will have ended. 0: it has not said."""
        return self._words[worker]


class StopGuard(FatalErrorHandler):
    """The timer of the last resort, in the supervisor.

    Args:
        loop: event loop of the supervisor.
        workers: the workers that have not ended.
        deadlines: the times by which they will have ended.
        on_killed: called with a worker that was killed, and the reason.
    """

    def __init__(
        self,
        loop: EventLoop,
        workers: Collection[WorkerProcess],
        deadlines: StopDeadlines,
        on_killed: Callable[[WorkerProcess, str], None],
    ) -> None:
        self._loop = loop
        self._workers = workers
        self._deadlines = deadlines
        self._on_killed = on_killed
        self._began = 0.0
        self._is_final = False  # the deadlines of workers do not count
        self.armed = 0
        self.deadline = NEVER

    def begin(self, timeout: float, *, final: bool) -> None:
        """Kill the workers that have not ended after a timeout and KILL_MARGIN.

        Args:
            timeout: seconds.
            final: kill even a worker that has announced a later deadline.
        """
        self._began = self._loop.now
        self._is_final = final
        self._loop.set_timer(self, self._loop.now + timeout + KILL_MARGIN)

    def on_timer(self, now: float) -> None:
        """Called when the time is over. Kills the workers that have no more time."""
        later = [
            self._deadlines.get(process.number) + KILL_MARGIN
            for process in self._workers
            if self._has_time(process, now)
        ]
        for process in list(self._workers):
            if not self._has_time(process, now) and children.kill(process.pid):
                reason = f"it has not ended within {now - self._began:.0f} s"
                self._on_killed(process, reason)
        if later:
            self._loop.set_timer(self, min(later))

    def _has_time(self, process: WorkerProcess, now: float) -> bool:
        promised = self._deadlines.get(process.number) + KILL_MARGIN
        return not self._is_final and promised > now
