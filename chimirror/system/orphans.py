"""Children that a dead zygote has left us: claimed, or killed.

Knows processes and sessions, not who claims them. A supervisor is child subreaper, so
it is the parent of everything that its zygote had started as soon as that is dead.
Until they are claimed these are suspects; the statuses of those that end before are
kept for the claim.
"""

from __future__ import annotations

from collections import deque

from chimirror.system import children
from chimirror.system.child import Keeper
from chimirror.system.loop import NEVER
from chimirror.system.strays import SWEEPS, session_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from chimirror.system.desk import Ward
    from chimirror.system.loop import Loop

    Sessions = Callable[[], Collection[bytes]]

KEPT = 10.0  # seconds for which the status of somebody unknown may matter


class Orphans(Keeper):
    """See the module."""

    __slots__ = ("_early", "_order", "_purge", "_suspects")

    def __init__(self, loop: Loop) -> None:
        """See Keeper."""
        super().__init__(loop)
        self._early: dict[int, tuple[int, bool]] = {}  # status, survivors, by pid
        self._order: deque[tuple[float, int]] = deque()
        self._suspects: set[int] = set()  # none of them has been reaped
        self._purge = Purge(loop, self, self._suspects)

    def inherit(self) -> None:
        """A zygote has just died: all the others that are our children now were its.

        What comes later may be a stray of a session that its successor has started.
        """
        self._loop.disarm(self._purge)  # until these are claimed, too
        try:
            found = children.listing()
        except OSError:  # no descriptor left: they live on as strays
            return
        self._suspects.update(pid for pid in found if pid not in self._clients)

    def _on_stray(self, pid: int, status: int) -> None:
        """It may have been an application whose claim is yet to come."""
        super()._on_stray(pid, status)
        if pid not in self._suspects:
            return
        self._suspects.discard(pid)
        self._early[pid] = (status, children.is_outlived(pid))
        self._order.append((self._loop.now, pid))
        while self._order[0][0] + KEPT < self._loop.now:
            self._early.pop(self._order.popleft()[1], None)

    def claim(self, wards: list[Ward]) -> None:
        """Each ward is told of its end, which may have been already."""
        for ward in wards:
            if ward.pid in self._suspects:
                self._suspects.discard(ward.pid)
                self.keep(ward.pid, ward)
            else:
                status, survivors = self._early.pop(ward.pid, (None, False))
                ward.on_exit(status, survivors)
        self.reap()

    def purge(self, sessions: Sessions) -> None:
        """All claims are made: kill suspects that belong to none of these sessions."""
        self._purge.begin(sessions)


class Purge:
    """Kills suspects, and has whatever else they leave ended as well."""

    __slots__ = (
        "_loop",
        "_nameless",
        "_orphans",
        "_sessions",
        "_suspects",
        "armed",
        "deadline",
    )

    def __init__(self, loop: Loop, orphans: Orphans, suspects: set[int]) -> None:
        self._loop = loop
        self._orphans = orphans
        self._suspects = suspects
        self._sessions: Sessions = set
        self._nameless: set[int] = set()
        self.armed = 0
        self.deadline = NEVER

    def begin(self, sessions: Sessions) -> None:
        """See Orphans.purge."""
        self._sessions = sessions
        self._nameless = set()
        self._loop.arm(self, self._loop.now)

    def on_timer(self, now: float) -> None:
        """Look at every suspect; at those without a session twice.

        While it executes another program, a process has no environment to be known by.
        """
        sessions, nameless = self._sessions(), set()
        for pid in list(self._suspects):
            session = session_of(pid, sessions)
            if not session and pid not in self._nameless:
                nameless.add(pid)
                continue
            self._suspects.discard(pid)
            if session not in sessions:
                self._kill(pid, session)
        self._nameless = nameless
        if nameless:
            self._loop.arm(self, now + SWEEPS)

    def _kill(self, pid: int, session: bytes) -> None:
        children.kill_with_group(pid)
        if session:
            name = session.decode(errors="surrogateescape")
            self._orphans.finish(pid, name, survivors=False)

    def on_event(self, fd: int, events: int) -> None:
        """No descriptor is watched."""

    def on_fault(self, error: Exception) -> None:
        """A bug of ours."""
        self._orphans.on_fault(error)
