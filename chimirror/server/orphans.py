"""Children that a dead zygote leaves to the supervisor: claimed or killed.

The supervisor is a child subreaper (PR_SET_CHILD_SUBREAPER). Once a zygote is dead, the
supervisor is the parent of all its children. Until a worker claims them, these children
are suspects. The exit statuses of suspects that end before the claim are kept for it.
Knows processes and sessions, but neither links nor workers.
"""

from __future__ import annotations

from collections import deque

from chimirror.io.loop import NEVER
from chimirror.process import children
from chimirror.process.reaper import SWEEP_INTERVAL, ChildWatcher, session_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from chimirror.io.loop import EventLoop
    from chimirror.process.reaper import ChildHandler
    from chimirror.spawn.handler import ManagedProcess

    Sessions = Callable[[], Collection[bytes]]

# seconds for which the exit status of an unclaimed suspect is kept
EARLY_EXIT_RETENTION = 10.0


class OrphanWatcher(ChildWatcher):
    """Watches the children of the supervisor and those that dead zygotes have left."""

    __slots__ = ("_early_exits", "_early_exit_times", "_purge", "_suspects")

    def __init__(self, loop: EventLoop) -> None:
        """Watch children with the given event loop."""
        super().__init__(loop)
        # pid -> (status, survivors)
        self._early_exits: dict[int, tuple[int, bool]] = {}
        self._early_exit_times: deque[tuple[float, int]] = deque()
        self._suspects: set[int] = set()  # none of them has been reaped
        self._purge = OrphanPurge(loop, self, self._suspects)

    def adopt_children(self) -> None:
        """Called when a zygote has just died. Makes all unknown children suspects.

        Children that are adopted later are no suspects: such a child may be a stray
        process of a session that the next zygote has started.
        """
        self._loop.cancel_timer(self._purge)  # until the new suspects are claimed, too
        try:
            found = children.list_children()
        except OSError:  # EMFILE: the suspects live on as strays
            return
        self._suspects.update(pid for pid in found if pid not in self._clients)

    def is_unknown_child(self, pid: int) -> bool:
        """Return True if a process is an unreaped child without a handler."""
        return pid not in self._clients and children.is_child(pid)

    def adopt(self, pid: int, handler: ChildHandler) -> None:
        """Watch a child that a dead worker has left: it is no suspect any more."""
        self._suspects.discard(pid)
        self.add_child(pid, handler)

    def _on_stray_exit(self, pid: int, status: int) -> None:
        """Called when an unknown child has ended. Keeps the status of a suspect."""
        super()._on_stray_exit(pid, status)
        if pid not in self._suspects:
            return
        self._suspects.discard(pid)
        self._early_exits[pid] = (status, children.has_group_survivors(pid))
        self._early_exit_times.append((self._loop.now, pid))
        while self._early_exit_times[0][0] + EARLY_EXIT_RETENTION < self._loop.now:
            self._early_exits.pop(self._early_exit_times.popleft()[1], None)

    def claim(self, processes: list[ManagedProcess]) -> None:
        """Watch these processes, and report those that have already ended.

        `on_exit` of each process is called when that process ends. If the process
        is no suspect any more, `on_exit` is called at once, with the kept status if
        there is one.
        """
        for process in processes:
            if process.pid in self._suspects:
                self._suspects.discard(process.pid)
                self.add_child(process.pid, process)
            else:
                status, survivors = self._early_exits.pop(process.pid, (None, False))
                process.on_exit(status, survivors)
        self.reap()

    def purge(self, sessions: Sessions) -> None:
        """Kill the suspects that belong to none of these sessions.

        Called when all workers have made their claims.
        """
        self._purge.begin(sessions)


class OrphanPurge:
    """Kills unclaimed suspects and ends the remaining processes of their sessions."""

    __slots__ = (
        "_loop",
        "_unidentified",
        "_orphans",
        "_sessions",
        "_suspects",
        "armed",
        "deadline",
    )

    def __init__(
        self, loop: EventLoop, orphans: OrphanWatcher, suspects: set[int]
    ) -> None:
        self._loop = loop
        self._orphans = orphans
        self._suspects = suspects
        self._sessions: Sessions = set
        self._unidentified: set[int] = set()
        self.armed = 0
        self.deadline = NEVER

    def begin(self, sessions: Sessions) -> None:
        """Start killing suspects that belong to none of these sessions."""
        self._sessions = sessions
        self._unidentified = set()
        self._loop.set_timer(self, self._loop.now)

    def on_timer(self, now: float) -> None:
        """Called when a check is due. Checks every suspect.

        A suspect without a session is killed at its second check only. While a process
        executes another program (execve(2)), its environment, which names its session,
        cannot be read.
        """
        sessions, unidentified = self._sessions(), set()
        for pid in list(self._suspects):
            session = session_of(pid, sessions)
            if not session and pid not in self._unidentified:
                unidentified.add(pid)
                continue
            self._suspects.discard(pid)
            if session not in sessions:
                self._kill(pid, session)
        self._unidentified = unidentified
        if unidentified:
            self._loop.set_timer(self, now + SWEEP_INTERVAL)

    def _kill(self, pid: int, session: bytes) -> None:
        children.kill_with_group(pid)
        if session:
            name = session.decode(errors="surrogateescape")
            self._orphans.end_session(pid, name, survivors=False)

    def on_error(self, error: Exception) -> None:
        """Called on an internal error. Passes it to the watcher."""
        self._orphans.on_error(error)
