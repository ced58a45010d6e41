"""Starting applications, and telling each one's end once.

Knows processes, no WebSocket and no session protocol. Each application is the leader
of its own process group, with default signal dispositions, an empty mask and three
pipes. posix_spawn(3) (vfork inside) costs 0.1 ms where fork costs 1 ms and more.
"""

from __future__ import annotations

from time import process_time

from chimirror.system import children
from chimirror.system.lean import DEV_NULL, os, signal
from chimirror.system.loop import NEVER
from chimirror.system.strays import REST, Strays

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import Any, Protocol

    from chimirror.system.loop import Loop

    class Kept(Protocol):
        """Who is told of the end of a child."""

        def on_exit(self, status: int, survivors: bool) -> None: ...

        def on_fault(self, error: Exception) -> None: ...

    class Client(Kept, Protocol):
        """Who asked for an application; the session is what strays carry."""

        @property
        def session(self) -> str: ...

        def on_started(self, pid: int, pipes: tuple[int, int, int]) -> None: ...

        def on_start_failed(self, reason: str, shortage: bool) -> None: ...

    class Undertaker(Protocol):
        """Who ends what sessions leave behind: strays.Strays, or who asks it to."""

        def finish(self, pid: int, session: str, survivors: bool) -> None: ...

        def on_stray_end(self) -> None: ...


MANY = 500  # children: a walk over so many takes 30 us
SLOW = 0.0002  # seconds of CPU for a walk that is followed by a rest
BATCH = 512  # ends in a row, so that others are served in between
_DEFAULT_SIGNALS = signal.valid_signals()


class Keeper:
    """Keeps children, adopted ones too: tells their ends, leaves nothing behind.

    Args:
        undertaker: by default we sweep for strays ourselves.
    """

    __slots__ = (
        "_clients",
        "_loop",
        "_reaped",
        "_rested",
        "_undertaker",
        "armed",
        "deadline",
    )

    def __init__(self, loop: Loop, undertaker: Undertaker | None = None) -> None:
        self._loop = loop
        self._clients: dict[int, Kept] = {}
        self._undertaker = undertaker or Strays(loop, self._clients)
        self._rested = 0.0  # no walk before this
        self._reaped: list[Callable[[], None]] = []
        self.armed = 0
        self.deadline = NEVER
        loop.on_signal(signal.SIGCHLD, self.reap)

    def sweep_here(self) -> None:
        """There is no other undertaker any more."""
        self._undertaker = Strays(self._loop, self._clients)

    def keep(self, pid: int, client: Kept) -> None:
        """Tell `client` of the end of this child."""
        self._clients[pid] = client

    def client(self, pid: int) -> Kept | None:
        """Who is told of the end of this child."""
        return self._clients.get(pid)

    def clients(self) -> Collection[Kept]:
        """Everybody who is told of one."""
        return self._clients.values()

    def signal(self, pid: int, number: int) -> None:
        """Signal the process group of an application that has not been reaped."""
        if pid not in self._clients:
            return
        if not children.kill_group(pid, number):
            children.kill(pid, number)  # a copy that leads no group yet

    def finish(self, pid: int, session: str, survivors: bool) -> None:
        """See strays.Strays."""
        self._undertaker.finish(pid, session, survivors)

    def when_reaped(self, tell: Callable[[], None]) -> None:
        """Called once all that can be found now are collected."""
        self._reaped.append(tell)

    def reap(self) -> None:
        """Collect the children that have ended (SIGCHLD)."""
        if len(self._clients) > MANY:
            self._reap_among_many()
        else:
            while self.reap_one():
                pass
        reaped, self._reaped = self._reaped, []
        for tell in reaped:
            tell()

    def _reap_among_many(self) -> None:
        """Rest in between: each time the kernel walks over them, up to one that has.

        That takes up to 3.5 ms with 50,000 of them, but little when many have ended.
        """
        if self._loop.clock() < self._rested:
            self._loop.arm(self, self._rested)
            return
        found, took, count, now = True, 0.0, 0, process_time()
        while found and took < SLOW and count < BATCH:
            began, count = now, count + 1
            found = self.reap_one()
            now = process_time()
            took = now - began
        self._rested = self._loop.clock() + REST * took
        if found:
            self._loop.arm(self, self._rested)

    def reap_one(self, pid: int = -1) -> bool:
        """Collect this child, or any, if it has ended; whether it has."""
        ended = children.next_ended(pid)
        if ended is None:
            return False
        self._on_end(*ended)
        return True

    def _on_end(self, pid: int, status: int) -> None:
        client = self._clients.pop(pid, None)
        if client is None:
            self._on_stray(pid, status)
            return
        survivors = children.is_outlived(pid)
        try:
            client.on_exit(status, survivors)
        except Exception as error:  # noqa: BLE001 (its own client answers)
            client.on_fault(error)

    def _on_stray(self, pid: int, status: int) -> None:
        """Nobody's: it was adopted."""
        self._undertaker.on_stray_end()

    def on_timer(self, now: float) -> None:
        """Rested: there may be others that have ended."""
        self.reap()

    def on_event(self, fd: int, events: int) -> None:
        """No descriptor is watched: SIGCHLD tells."""

    def on_fault(self, error: Exception) -> None:
        """A bug of ours that no client could answer for."""
        raise error


class NoProgram(LookupError):
    """No program has this name; the text says why."""


class Program:
    """What can be started.

    Attributes:
        name: under which whoever starts it for others knows it; may be empty.
        argv: the command.
        directory: where it starts; None is where we are.
        pty: whether it gets a terminal of its own instead of pipes.
    """

    __slots__ = ("argv", "directory", "name", "pty")

    def __init__(
        self,
        name: str,
        argv: tuple[str, ...],
        directory: str | None = None,
        *,
        pty: bool = False,
    ) -> None:
        self.name = name
        self.argv = argv
        self.directory = directory
        self.pty = pty


class Starter(Keeper):
    """Starts programs, over and over, and tells each client of its end.

    The answers are calls of the client's methods, so that a service of its own can
    give them later just as well.
    """

    __slots__ = ()

    def start(
        self,
        client: Client,
        program: Program,
        environment: Mapping[str, str],
        keep_stderr: bool,
    ) -> None:
        """Start a program; `client.on_started` or `on_start_failed` is the answer.

        Args:
            client: told of the start and of the exit.
            program: what to start.
            environment: the whole environment of the application.
            keep_stderr: a pipe for it; else -1 in the answer, and the null device, or
                the terminal.
        """
        ours: list[int] = []
        theirs: list[int] = []
        try:
            if program.pty:
                from chimirror.system import pty

                environment = {"TERM": pty.KIND, **environment}
                pty.make(ours, theirs)
            else:
                _make_pipes(ours, theirs, 3 if keep_stderr else 2)
            pid = self._execute(program, environment, theirs)
        except (OSError, ValueError) as error:
            for fd in ours:
                os.close(fd)
            client.on_start_failed(_explain(error, program), _is_shortage(error))
            return
        finally:
            for fd in theirs:
                os.close(fd)
        self.keep(pid, client)
        client.on_started(pid, (ours[0], ours[1], ours[2] if ours[2:] else -1))

    def _execute(
        self, program: Program, environment: Mapping[str, str], pipes: list[int]
    ) -> int:
        """Start it with these as its descriptors from 0 on; its pid."""
        if program.directory is None:
            return _spawn(program, environment, pipes)
        here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fchdir(here)  # there is a way back, or it is not left
            os.chdir(program.directory)
            try:
                return _spawn(program, environment, pipes)
            finally:
                os.fchdir(here)
        finally:
            os.close(here)


def _make_pipes(ours: list[int], theirs: list[int], count: int) -> None:
    for number in range(count):
        reader, writer = os.pipe()
        mine, other = (writer, reader) if number == 0 else (reader, writer)
        ours.append(mine)
        theirs.append(other)
        os.set_blocking(mine, False)


def _spawn(program: Program, environment: Mapping[str, str], theirs: list[int]) -> int:
    place: dict[str, Any] = {"setpgroup": 0}
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(theirs)
    ]
    if program.pty:  # whoever leads a session gets the first that it opens as its own
        place = {"setsid": True}
        name = os.ttyname(theirs[0])
        actions = [(os.POSIX_SPAWN_OPEN, 0, name, os.O_RDWR, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, 0, number) for number in (1, 2)]
    elif len(theirs) < 3:
        actions.append((os.POSIX_SPAWN_OPEN, 2, DEV_NULL, os.O_RDWR, 0))
    pid = os.posix_spawnp(
        program.argv[0],
        program.argv,
        environment,
        file_actions=actions,
        **place,
        setsigmask=(),
        setsigdef=_DEFAULT_SIGNALS,
    )
    children.sacrifice(pid)
    return pid


def _explain(error: OSError | ValueError, program: Program) -> str:
    """One line for the log; a client only ever reads that it could not be started."""
    what = program.argv[0]
    if isinstance(error, OSError) and error.errno is not None:
        from errno import errorcode

        if error.filename == program.directory is not None:
            what = program.directory
        return f"{what}: {error.strerror} ({errorcode.get(error.errno, '?')})"
    return f"{what}: {error}"


def _is_shortage(error: OSError | ValueError) -> bool:
    """Whether it was for want of processes, descriptors or memory, and may pass."""
    from errno import EAGAIN, EMFILE, ENFILE, ENOMEM

    passing = (EAGAIN, EMFILE, ENFILE, ENOMEM)
    return isinstance(error, OSError) and error.errno in passing
