"""The supervisor's care for the zygote, and for what a dead one leaves.

It forks the zygote, hands each worker a link to it, and replaces it when it dies. The
supervisor has then adopted every application: workers claim theirs over their lines
(errands, chimirror-protocol(7)), are told their ends, and have them signalled here.
What nobody claims is killed, and so is what a dead worker has left.
"""

from __future__ import annotations

import os
import signal

from chimirror.nursery import SIGNALS
from chimirror.system import errands, link
from chimirror.system.desk import Desk, Ward
from chimirror.system.loop import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import NoReturn, Protocol

    from chimirror.system.errands import Errand
    from chimirror.system.link import Link
    from chimirror.system.loop import Loop
    from chimirror.system.orphans import Orphans

    class Owner(Protocol):
        """Who is told."""

        def on_zygote_ended(self, pid: int, status: int) -> None: ...

        def on_zygote_missing(self, error: OSError) -> None: ...

        def on_zygote_hopeless(self, status: int) -> None: ...

        def on_fault(self, error: Exception) -> None: ...


SOON = 1.0  # seconds: a zygote that dies sooner is replaced after a pause
PAUSE = 1.0  # seconds
GIVE_UP = 5  # zygotes that die soon, in a row
LAST_WORK = 5.0  # seconds for a zygote to end everything


class Line(Desk):
    """The desk for one worker: claims, and errands for what has been claimed."""

    __slots__ = ("_foster", "claimed")

    def __init__(
        self, loop: Loop, foster: Foster, handle: socket.socket, kill_grace: float
    ) -> None:
        self._foster = foster
        super().__init__(loop, foster, handle, foster.orphans, kill_grace)
        self.claimed = 0  # the latest of the dead zygotes that it has claimed from

    def _run(self, errand: Errand) -> None:
        if not isinstance(errand, errands.Adopt):
            super()._run(errand)
            return
        self._foster.on_claim(self, errand)

    def adopt(self, errand: errands.Adopt) -> None:
        """Take these into our care."""
        for session, group in errand.ended.items():
            self._ended[session] = (group, group > 0)
        wards = [Ward(self, session, 0, pid) for session, pid in errand.adopt.items()]
        for ward in wards:
            self.on_ward(ward)
        self._foster.orphans.claim(wards)


class Foster:
    """See the module.

    Args:
        loop, orphans: of the supervisor.
        owner: told when a zygote has ended, and when there is no hope for another.
        become: called in the forked child with its end of the control link.
        kill_grace: seconds from TERM to KILL for what a dead worker has left.
    """

    def __init__(
        self,
        loop: Loop,
        orphans: Orphans,
        owner: Owner,
        become: Callable[[socket.socket], NoReturn],
        kill_grace: float,
    ) -> None:
        self._loop = loop
        self.orphans = orphans
        self._owner = owner
        self._become = become
        self._kill_grace = kill_grace
        self._control: Link | None = None
        self._lines: list[Line] = []  # of workers that live, or whose orphans do
        self._held: list[tuple[Line, errands.Adopt]] = []
        self._generation = 0
        self._buried = 0  # the latest generation that is known to be dead
        self._since = 0.0
        self._early_deaths = 0
        self._stopping = False
        self.ready = False  # since the first time
        self.pid = 0
        self.armed = 0
        self.deadline = NEVER

    # The zygote

    def start(self) -> None:
        """Fork a zygote, and hand a link to it to every worker."""
        ours, theirs = link.pair()
        # A signal to one that still has our handlers would wake us, not it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                ours.detach()  # the child closes everything but the other one
                self._become(theirs)
        except OSError:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        self.pid = pid
        self._generation += 1
        self._since = self._loop.clock()
        self._control = link.Link(self._loop, self, ours)
        self.orphans.keep(pid, self)
        for line in self._lines:
            self._hand_over(line)

    def _hand_over(self, line: Line) -> None:
        """Give one end of a new link to the zygote, the other to the worker."""
        if line.lost or self._control is None:
            return
        ours, theirs = link.pair()
        number = self._generation
        self._control.send(errands.encode(errands.Link(number)), (ours.detach(),))
        line.tell(errands.Zygote(number), (theirs.detach(),))

    def on_packet(self, link: Link, packet: bytes, pipes: list[int]) -> None:
        """The zygote says that it is ready, or which sessions are over."""
        errand = errands.decode(packet)
        if isinstance(errand, errands.Over):
            for session, group in errand.over.items():
                self.orphans.finish(group, session, survivors=group > 0)
        else:
            self.ready = True

    def on_lost(self, link: Link) -> None:
        """It has died, or will be found to have in a moment."""

    def on_exit(self, status: int, survivors: bool) -> None:
        """The zygote has ended: all that it had started is ours now."""
        pid, self.pid = self.pid, 0
        if self._control is not None:
            self._control.close()
            self._control = None
        self._buried = self._generation
        self.orphans.inherit()
        held, self._held = self._held, []
        for line, errand in held:
            self._adopt(line, errand)
        self._purge_if_all_claimed()
        if not self._stopping:
            self._owner.on_zygote_ended(pid, status)
            self._replace(status)

    def _replace(self, status: int) -> None:
        if not self.ready:
            self._owner.on_zygote_hopeless(max(status, 0))
        elif self._loop.clock() - self._since >= SOON:
            self._early_deaths = 0
            self._start_again()
        elif self._early_deaths == GIVE_UP:
            self._owner.on_zygote_hopeless(os.EX_SOFTWARE)
        else:
            self._early_deaths += 1
            self._loop.arm(self, self._loop.now + PAUSE)

    def _start_again(self) -> None:
        """As start, at the latest when there is room for it."""
        try:
            self.start()
        except OSError as error:
            self._owner.on_zygote_missing(error)
            self._loop.arm(self, self._loop.now + PAUSE)

    def stop(self) -> None:
        """The last worker has ended: so does the zygote, and all that it started."""
        self._stopping = True
        if self._control is not None:
            self._control.send(errands.encode(errands.Stop()))
            self._loop.arm(self, self._loop.now + LAST_WORK)

    def on_timer(self, now: float) -> None:
        """The pause is over; or a zygote that should have ended has not."""
        if not self._stopping:
            self._start_again()
        elif self.pid:
            os.kill(self.pid, signal.SIGKILL)

    # Workers

    def hire(self) -> tuple[socket.socket, Line]:
        """The line for a worker to be forked: its end, and ours."""
        ours, theirs = link.pair()
        line = Line(self._loop, self, ours, self._kill_grace)
        line.claimed = self._buried  # nothing from before can be its own
        self._lines.append(line)
        return theirs, line

    def on_hired(self, line: Line) -> None:
        """The worker has been forked, and has its end."""
        self._hand_over(line)

    def abandon(self) -> None:
        """In a forked worker: let go of everything."""
        for line in self._lines:
            line.link.abandon()
        if self._control is not None:
            self._control.abandon()

    def on_desk_closed(self, desk: Desk) -> None:
        """A worker has gone, and what it left has ended."""
        self._lines = [line for line in self._lines if line is not desk]
        self._purge_if_all_claimed()

    # Claims

    def on_claim(self, line: Line, errand: errands.Adopt) -> None:
        """A worker has noticed that a zygote is dead, perhaps before we have."""
        if errand.zygote > self._buried:
            self._held.append((line, errand))
        else:
            self._adopt(line, errand)
            self._purge_if_all_claimed()

    def _adopt(self, line: Line, errand: errands.Adopt) -> None:
        line.adopt(errand)
        if not errand.more:
            line.claimed = max(line.claimed, errand.zygote)

    def _purge_if_all_claimed(self) -> None:
        """Nobody else can claim what is left."""
        if all(line.lost or line.claimed >= self._buried for line in self._lines):
            self.orphans.purge(self._sessions)

    def _sessions(self) -> set[bytes]:
        return set().union(*(line.sessions for line in self._lines))

    def on_event(self, fd: int, events: int) -> None:
        """The links watch their own descriptors."""

    def on_fault(self, error: Exception) -> None:
        """A bug of ours, or of one of our own: the supervisor's."""
        self._owner.on_fault(error)
