"""Ends a start that hangs, for example on a file system without an answer.

A worker that starts an application waits for execve(2), and serves no session
meanwhile. The child is killed first, so the start fails and the sessions go on. If the
kernel does not kill it, the worker is killed. Knows no sessions.
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

START_TIMEOUT = 5.0  # seconds for one start
CHECK_INTERVAL = 1.0  # seconds


class StartGuard(FatalErrorHandler):
    """The timer of the supervisor that looks at the starts in progress.

    Args:
        loop: event loop of the supervisor.
        table: has the time at which each start began.
        workers: the workers that have not ended.
        log: called with what was killed, and why.
    """

    def __init__(
        self,
        loop: EventLoop,
        table: ProcessTable,
        workers: Collection[WorkerProcess],
        log: Callable[[str], object],
    ) -> None:
        self._loop = loop
        self._table = table
        self._workers = workers
        self._log = log
        self._killed: dict[int, float] = {}  # starts whose child was killed, by worker
        self.armed = 0
        self.deadline = NEVER

    def enable(self) -> None:
        """Begin to look."""
        self._loop.set_timer(self, self._loop.now + CHECK_INTERVAL)

    def disable(self) -> None:
        """Look no more."""
        self._loop.cancel_timer(self)

    def on_timer(self, now: float) -> None:
        """Called at intervals. Kills what a start waits for, or its worker."""
        for process in self._workers:
            began_at, pid = self._table.start_in_progress(process.number)
            duration = self._loop.clock() - began_at
            label = f"worker {process.number} (pid {process.pid})"
            if not began_at or duration <= START_TIMEOUT:
                continue
            if self._killed.get(process.number) != began_at:
                self._killed[process.number] = began_at
                if pid and children.kill(pid):
                    self._log(f"killed an application of {label}: its start has hung")
            elif duration > 2 * START_TIMEOUT and children.kill(process.pid):
                self._log(f"killed {label}: it has hung in a start")
        self.enable()
