"""What ended sessions have left behind, wherever it has fled to: found, and killed.

Knows processes, no session protocol. Who sweeps is child subreaper (prctl(2)):
descendants that outlive their parent become our children, and say by CHIMIRROR_SESSION
in their environment which session they belong to. While a process is our unreaped child
its number cannot be reused, so only such numbers are ever signalled.
"""

from __future__ import annotations

from chimirror.system import children
from chimirror.system.loop import NEVER
from chimirror.system.prctl import become_subreaper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Container

    from chimirror.system.loop import Loop

SESSION_VARIABLE = "CHIMIRROR_SESSION"
MEMORY = 1.0  # seconds for which strays of an ended session are looked for
SWEEPS = 0.1  # seconds between two looks
NAME = 15  # bytes of a session id that fit a process's name (PR_SET_NAME)
REST = 20  # times as long as a look took: thousands of children are no quick look


def session_of(pid: int, sessions: Collection[bytes]) -> bytes:
    """The session that a process belongs to, if that can be seen.

    A warm copy's fork has no environment to be looked at, but a name: that says it of
    those among `sessions`.
    """
    session = children.variable(pid, SESSION_VARIABLE.encode())
    if session in sessions:
        return session
    name = children.name(pid)
    return next((one for one in sessions if one[:NAME] == name), session)


class Strays:
    """See the module.

    Args:
        known: children that are nobody's strays.
    """

    __slots__ = ("_ended", "_groups", "_known", "_loop", "_rested", "armed", "deadline")

    def __init__(self, loop: Loop, known: Container[int]) -> None:
        self._loop = loop
        self._known = known
        self._ended: dict[bytes, float] = {}  # sessions, and until when they matter
        self._groups: set[int] = set()  # process groups that outlived their leaders
        self._rested = 0.0  # no look before this
        self.armed = 0
        self.deadline = NEVER
        become_subreaper()

    def finish(self, pid: int, session: str, survivors: bool) -> None:
        """End whatever an application has left behind.

        Args:
            pid: the application, already reaped; its group, if `survivors`.
            session: the CHIMIRROR_SESSION that strays carry.
            survivors: whether its process group outlived it.
        """
        if survivors:
            self._groups.add(pid)
        self._ended[session.encode(errors="surrogateescape")] = self._loop.now + MEMORY
        self._loop.arm(self, max(self._rested, self._loop.now))

    def on_stray_end(self) -> None:
        """A stray has ended: its own children are ours from now on."""
        if self._ended:
            self._loop.arm(self, max(self._rested, self._loop.now))

    def on_timer(self, now: float) -> None:
        """Sweep: kill every stray of an ended session; at most once per tick.

        One look is not enough: a stray's children become ours when it dies, and a
        process has no environment to be known by while it executes another program.
        """
        began = self._loop.clock()
        try:
            strays = [pid for pid in children.listing() if pid not in self._known]
        except OSError:  # no descriptor left: later
            self._loop.arm(self, now + SWEEPS)
            return
        for pid in strays:
            self._kill(pid, now)
        took = self._loop.clock() - began
        self._rested = now + REST * took
        self._groups.clear()
        self._ended = {
            session: until
            for session, until in self._ended.items()
            if strays and until > now
        }
        if self._ended:
            self._loop.arm(self, max(self._rested, now + SWEEPS))

    def _kill(self, pid: int, now: float) -> None:
        """Kill a stray, and its group with it, if it is of an ended session."""
        session = session_of(pid, self._ended)
        group = children.group_of(pid)
        # While a child of ours is in it, the number of a group is given to nobody; but
        # it may have been, before, to an application or to what another has left.
        left = group in self._groups and group not in self._known
        if left and (not session or session in self._ended):
            self._groups.discard(group)
            children.kill_group(group)
        if session in self._ended:
            children.kill(pid)
            self._ended[session] = now + MEMORY

    def on_event(self, fd: int, events: int) -> None:
        """No descriptor is watched."""

    def on_fault(self, error: Exception) -> None:
        """A bug of ours that no client could answer for."""
        raise error
