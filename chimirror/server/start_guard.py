"""Ends starts that hang, for example on a file system without an answer.

A worker that starts an application waits for execve(2), and serves no session
meanwhile. The child is killed first, so the start fails and the sessions go on. If the
kernel does not kill it, the worker is killed.

All starts wait for a zygote that hangs, and the watchdog of the service manager would
end all sessions. The zygote is killed. The next one does not get the start that hung.

Knows no sessions.
"""

from __future__ import annotations

from chimirror.io.loop import NEVER, FatalErrorHandler
from chimirror.process import children

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from chimirror.io.loop import EventLoop
    from chimirror.process.process_table import ProcessTable
    from chimirror.server.worker_process import WorkerProcess
    from chimirror.spawn.start_marks import StartMarks


class StartGuard(FatalErrorHandler):
    """Base of the timers of the supervisor that look at the starts in progress.

    Args:
        loop: event loop of the supervisor.

    Attributes:
        timeout: seconds for one start.
        interval: seconds between two looks.
    """

    timeout: float
    interval: float

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self.armed = 0
        self.deadline = NEVER

    def enable(self) -> None:
        """Begin to look."""
        self._loop.set_timer(self, self._loop.now + self.interval)

    def disable(self) -> None:
        """Look no more."""
        self._loop.cancel_timer(self)

    def on_timer(self, now: float) -> None:
        """Called at intervals. Looks, and sets the timer again."""
        self.check(self._loop.clock())
        self.enable()

    def check(self, now: float) -> None:
        """Kill what hangs.

        Args:
            now: the time, which may be later than that of this turn.
        """
        raise NotImplementedError


class WorkerGuard(StartGuard):
    """Looks at the starts of the workers.

    Args:
        loop: event loop of the supervisor.
        table: has the time at which each start began.
        workers: the workers that have not ended.
        log: called with what was killed, and why.
    """

    timeout = 5.0
    interval = 1.0

    def __init__(
        self,
        loop: EventLoop,
        table: ProcessTable,
        workers: Collection[WorkerProcess],
        log: Callable[[str], object],
    ) -> None:
        super().__init__(loop)
        self._table = table
        self._workers = workers
        self._log = log
        self._killed: dict[int, float] = {}  # starts whose child was killed, by worker

    def check(self, now: float) -> None:
        """Kill what a start waits for, or its worker."""
        for process in self._workers:
            began_at, pid = self._table.start_in_progress(process.number)
            duration = now - began_at
            label = f"worker {process.number} (pid {process.pid})"
            if not began_at or duration <= self.timeout:
                continue
            if self._killed.get(process.number) != began_at:
                self._killed[process.number] = began_at
                if pid and children.kill(pid):
                    self._log(f"killed an application of {label}: its start has hung")
            elif duration > 2 * self.timeout and children.kill(process.pid):
                self._log(f"killed {label}: it has hung in a start")


class ZygoteGuard(StartGuard):
    """Looks at the start of the zygote.

    Args:
        loop: event loop of the supervisor.
        marks: has the time at which the start in progress began.
        kill: called with the reason to kill the zygote.
    """

    timeout = 10.0
    interval = 5.0

    def __init__(
        self, loop: EventLoop, marks: StartMarks, kill: Callable[[str], None]
    ) -> None:
        super().__init__(loop)
        self._marks = marks
        self._kill = kill
        self._is_killed = False  # not again: it may take the kernel long

    def check(self, now: float) -> None:
        """Kill a zygote whose start takes too long."""
        is_stuck = self._marks.seconds_busy(now) > self.timeout
        if is_stuck and not self._is_killed:
            self._kill(f"it has hung in a start for {self.timeout:g} s")
        self._is_killed = is_stuck
