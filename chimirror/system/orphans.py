"""Children that a dead zygote has left us: claimed, or killed.

Knows processes and sessions, not who claims them. A supervisor is child subreaper, so
it is the parent of everything that its zygote had started as soon as that is dead.
Statuses of those that end before somebody claims them are kept for the claim.
"""

from __future__ import annotations

from collections import deque

from chimirror.system import children
from chimirror.system.child import SWEEPS, Keeper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from chimirror.system.desk import Ward
    from chimirror.system.loop import Loop

KEPT = 10.0  # seconds for which the status of somebody unknown may matter


class Orphans(Keeper):
    """See the module."""

    __slots__ = ("_early", "_order", "_sessions", "_suspects")

    def __init__(self, loop: Loop) -> None:
        """See Keeper."""
        super().__init__(loop)
        self._early: dict[int, tuple[int, bool]] = {}  # status, survivors, by pid
        self._order: deque[tuple[float, int]] = deque()
        self._sessions: Callable[[], Collection[bytes]] | None = None
        self._suspects: set[int] = set()

    def _on_stray(self, pid: int, status: int) -> None:
        """It may have been an application whose claim is yet to come."""
        super()._on_stray(pid, status)
        self._early[pid] = (status, children.is_outlived(pid))
        self._order.append((self._loop.now, pid))
        while self._order[0][0] + KEPT < self._loop.now:
            self._early.pop(self._order.popleft()[1], None)

    def claim(self, wards: list[Ward]) -> None:
        """Each ward is told of its end, which may have been already."""
        present = set(children.listing())
        for ward in wards:
            if ward.pid in present:
                self.keep(ward.pid, ward)
            else:
                status, survivors = self._early.pop(ward.pid, (None, False))
                ward.on_exit(status, survivors)

    def purge(self, sessions: Callable[[], Collection[bytes]]) -> None:
        """All claims are made: kill what belongs to none of these sessions."""
        self._sessions = sessions
        self._suspects = set()
        self._loop.arm(self, self._loop.now)

    def on_timer(self, now: float) -> None:
        """Sweep, and purge."""
        super().on_timer(now)
        if self._sessions is not None and not self._purge_once(self._sessions()):
            self._sessions = None
        if self._sessions is not None:
            self._loop.arm(self, now + SWEEPS)

    def _purge_once(self, sessions: Collection[bytes]) -> bool:
        """Whether there was anything to kill.

        Only what is seen twice is killed: while it executes another program, a process
        has no environment to be known by.
        """
        try:
            strays = self._strays()
        except OSError:  # no descriptor left: later
            return True
        seen = {
            pid for pid in strays if self._session_of(pid, sessions) not in sessions
        }
        for pid in seen & self._suspects:
            children.kill_with_group(pid)
        self._suspects = seen
        return bool(seen)
