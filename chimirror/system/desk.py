"""One link's desk at whoever keeps processes: takes errands, runs them, tells ends.

Knows errands (chimirror-protocol(7)) and processes. Whoever asks over a link owns what
was started over it, and nothing else: no other process is signalled for it, and when
the link is lost, its applications are stopped (TERM and CONT, after the kill grace
KILL) and their sessions are over.
"""

from __future__ import annotations

import os
import signal

from chimirror.system import errands
from chimirror.system.link import Link
from chimirror.system.loop import NEVER
from chimirror.system.strays import SESSION_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from typing import Protocol, TypeGuard

    from chimirror.system.child import Keeper, Pipes, Program, Starter
    from chimirror.system.errands import Errand
    from chimirror.system.loop import Loop

    class Owner(Protocol):
        """Who is told."""

        def on_desk_closed(self, desk: Desk) -> None: ...

        def on_fault(self, error: Exception) -> None: ...


class Ward:
    """One application and the desk that it belongs to."""

    __slots__ = ("_number", "desk", "pid", "session")

    def __init__(self, desk: Desk, session: str, number: int = 0, pid: int = 0) -> None:
        self.desk = desk
        self._number = number  # the asker's, for the answer to its `start`
        self.session = session
        self.pid = pid

    def on_started(self, pid: int, pipes: Pipes) -> None:
        """The starter's answer."""
        self.pid = pid
        self.desk.on_ward(self)
        answer = errands.Started(self._number, pid, self.session)
        self._number = 0  # 32 bytes of each application
        self.desk.tell(answer, tuple(fd for fd in pipes if fd >= 0))

    def on_start_failed(self, reason: str, shortage: bool) -> None:
        """The starter's other answer."""
        self.desk.tell(errands.Failed(self._number, reason, shortage))

    def on_exit(self, status: int | None, survivors: bool) -> None:
        """It has ended and is reaped."""
        self.desk.on_ward_exit(self, status, survivors)

    def on_fault(self, error: Exception) -> None:
        """A bug of ours."""
        self.desk.on_fault(error)


class Desk:
    """See the module.

    Args:
        loop: of this process.
        owner: told when the desk is closed: the link lost, its applications ended.
        handle: our end of the link.
        keeper: of this process's children.
        kill_grace: seconds from TERM to KILL.
    """

    __slots__ = (
        "_count",
        "_ended",
        "_exits",
        "_keeper",
        "_kill_grace",
        "_loop",
        "_owner",
        "armed",
        "deadline",
        "link",
        "lost",
    )

    def __init__(
        self,
        loop: Loop,
        owner: Owner,
        handle: socket.socket,
        keeper: Keeper,
        kill_grace: float,
    ) -> None:
        self._loop = loop
        self._owner = owner
        self._keeper = keeper
        self._kill_grace = kill_grace
        self._count = 0  # of wards that run: the keeper knows which
        self._ended: dict[str, tuple[int, bool]] = {}  # until `finish`: pid, survivors
        self._exits: list[tuple[int, int | None, bool]] = []  # to be told in a moment
        self.armed = 0
        self.deadline = NEVER
        self.lost = False
        self.link = Link(loop, self, handle)

    @property
    def sessions(self) -> set[bytes]:
        """The sessions that are not over."""
        every = {ward.session for ward in self._wards()} | self._ended.keys()
        return {session.encode(errors="surrogateescape") for session in every}

    def tell(self, errand: Errand, pipes: tuple[int, ...] = ()) -> None:
        """Answer; into the void, if nobody is there any more."""
        self.link.send(errands.encode(errand), pipes)

    # Errands

    def on_packet(self, link: Link, packet: bytes, pipes: list[int]) -> None:
        """An errand has come."""
        for fd in pipes:  # none is asked for
            os.close(fd)
        errand = errands.decode(packet)
        if isinstance(errand, errands.Signal):
            self._signal(errand)
        elif isinstance(errand, errands.Finish):
            for session in errand.finish:
                self._finish(session)
        else:
            self._run(errand)

    def _run(self, errand: Errand) -> None:
        """What only some desks do."""
        raise errands.Nonsense(f"{type(errand).__name__} is not done here")

    def _signal(self, errand: errands.Signal) -> None:
        """Meanwhile the number may have become that of another ward."""
        ward = self._keeper.client(errand.pid)
        if self._is_ours(ward) and errand.session in ("", ward.session):
            self._keeper.signal(errand.pid, errand.signal)

    def _finish(self, session: str) -> None:
        if session in self._ended:
            pid, survivors = self._ended.pop(session)
            self._keeper.finish(pid, session, survivors)

    # Wards

    def _is_ours(self, client: object) -> TypeGuard[Ward]:
        return isinstance(client, Ward) and client.desk is self

    def _wards(self) -> list[Ward]:
        """Those that run; a table of our own would cost 40 bytes for each."""
        return [one for one in self._keeper.clients() if self._is_ours(one)]

    def on_ward(self, ward: Ward) -> None:
        """An application is in our care."""
        self._count += 1

    def on_ward_exit(self, ward: Ward, status: int | None, survivors: bool) -> None:
        """One has ended; without an asker its session is over, too."""
        self._count -= 1
        if not self.lost:
            self._ended[ward.session] = (ward.pid, survivors)
            self._keeper.when_reaped(self._tell_exits)
            self._exits.append((ward.pid, status, survivors))
            return
        self._keeper.finish(ward.pid, ward.session, survivors)
        if not self._count:
            self._close()

    def _tell_exits(self) -> None:
        """One packet for all that were found together."""
        if self._exits:
            told, self._exits = self._exits, []
            self.tell(errands.Exited(told))

    # The end

    def on_lost(self, link: Link) -> None:
        """The asker has gone: what it started ends."""
        self.lost = True
        for session, (pid, survivors) in self._ended.items():
            self._keeper.finish(pid, session, survivors)
        self._ended.clear()
        self._signal_all(signal.SIGTERM)
        self._signal_all(signal.SIGCONT)
        self._loop.arm(self, self._loop.now + self._kill_grace)
        if not self._count:
            self._close()

    def _signal_all(self, number: int) -> None:
        for ward in self._wards():
            self._keeper.signal(ward.pid, number)

    def on_timer(self, now: float) -> None:
        """The kill grace is over."""
        self._signal_all(signal.SIGKILL)

    def _close(self) -> None:
        self._loop.disarm(self)
        self._owner.on_desk_closed(self)

    def on_event(self, fd: int, events: int) -> None:
        """The link watches its own descriptor."""

    def on_fault(self, error: Exception) -> None:
        """A bug of ours, or of an asker of ours."""
        self._owner.on_fault(error)


class StartingDesk(Desk):
    """A desk that starts applications, too.

    Args:
        program: which one; the asker decides what it gets.
    """

    __slots__ = ("_program", "_starter")

    def __init__(
        self,
        loop: Loop,
        owner: Owner,
        handle: socket.socket,
        starter: Starter,
        kill_grace: float,
        program: Program,
    ) -> None:
        super().__init__(loop, owner, handle, starter, kill_grace)
        self._starter = starter
        self._program = program

    def _run(self, errand: Errand) -> None:
        if not isinstance(errand, errands.Start):
            super()._run(errand)
            return
        environment = self._environment(errand.environment)
        ward = Ward(self, environment.get(SESSION_VARIABLE, ""), errand.start)
        self._starter.start(ward, self._asked(errand), environment, errand.stderr)

    def _asked(self, errand: errands.Start) -> Program:
        """What is asked for: our own, whatever the asker says of a command."""
        return self._program.asked(pty=errand.pty, control=errand.control)

    def _environment(self, asked: Mapping[str, str]) -> Mapping[str, str]:
        """The whole environment of an application: a worker has made it."""
        return asked
