"""Applications that a dead worker has started itself: stopped by the supervisor.

The supervisor is the child subreaper, so it adopts them. They get TERM and CONT, and
KILL after the kill grace. Then their sessions end. Knows no links.
"""

from __future__ import annotations

import signal

from chimirror.io.loop import NEVER, FatalErrorHandler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.io.loop import EventLoop
    from chimirror.process.process_table import ProcessTable
    from chimirror.server.orphans import OrphanWatcher


class AbandonedProcess(FatalErrorHandler):
    """One application of a dead worker."""

    __slots__ = ("_orphans", "_pid", "_session")

    def __init__(self, orphans: OrphanWatcher, pid: int, session: str) -> None:
        self._orphans = orphans
        self._pid = pid
        self._session = session

    def on_exit(self, status: int, survivors: bool) -> None:
        """Called when the application has ended. Ends its session."""
        self._orphans.end_session(self._pid, self._session, survivors)


class AbandonedProcesses(FatalErrorHandler):
    """Stops the applications of dead workers.

    Args:
        loop: event loop of the supervisor.
        orphans: watches the children of the supervisor.
        table: names the applications that workers have started.
        kill_grace: seconds from TERM to KILL.
    """

    def __init__(
        self,
        loop: EventLoop,
        orphans: OrphanWatcher,
        table: ProcessTable,
        kill_grace: float,
    ) -> None:
        self._loop = loop
        self._orphans = orphans
        self._table = table
        self._kill_grace = kill_grace
        # that got TERM, and when they get KILL
        self._dying: dict[int, tuple[AbandonedProcess, float]] = {}
        self.armed = 0
        self.deadline = NEVER

    def take_over(self, worker: int) -> None:
        """Called when a worker is dead. Stops what it has left, and ends its sessions.

        A pid that is no unknown child of this process has been reaped already.
        """
        entries = self._table.entries(worker)
        self._table.clear(worker)
        for session, pid in entries:
            if not self._orphans.is_unknown_child(pid):
                self._orphans.end_session(pid, session, survivors=False)
                continue
            process = AbandonedProcess(self._orphans, pid, session)
            self._orphans.adopt(pid, process)
            self._dying[pid] = process, self._loop.now + self._kill_grace
            self._orphans.signal(pid, signal.SIGTERM)
            self._orphans.signal(pid, signal.SIGCONT)
        if self._dying:
            self._loop.set_timer(self, self._loop.now + self._kill_grace)

    def on_timer(self, now: float) -> None:
        """Called when a kill grace is over. Kills the applications that are left."""
        left = {}
        for pid, (process, deadline) in self._dying.items():
            if self._orphans.client(pid) is not process:
                continue  # reaped
            if deadline > now:
                left[pid] = process, deadline
            else:
                self._orphans.signal(pid, signal.SIGKILL)
        self._dying = left
        if left:
            self._loop.set_timer(self, min(deadline for _, deadline in left.values()))
