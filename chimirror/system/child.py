"""Starting applications, and telling each one's end once.

Knows processes, no WebSocket and no session protocol. Each application is the leader
of its own process group, with default signal dispositions, an empty mask and three
pipes, and a control channel if it wants one. posix_spawn(3) (vfork inside) costs 0.1 ms
where fork costs 1 ms and more.
"""

from __future__ import annotations

from time import process_time

from chimirror.system import children
from chimirror.system.lean import DEV_NULL, os, signal, socket
from chimirror.system.loop import NEVER
from chimirror.system.strays import REST, Strays

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import Any, Protocol

    from chimirror.system.loop import Loop

    # Our ends of stdin, stdout, stderr and the control channel; -1 where there is none.
    Pipes = tuple[int, int, int, int]

    class Kept(Protocol):
        """Who is told of the end of a child."""

        def on_exit(self, status: int, survivors: bool) -> None: ...

        def on_fault(self, error: Exception) -> None: ...

    class Client(Kept, Protocol):
        """Who asked for an application; the session is what strays carry."""

        @property
        def session(self) -> str: ...

        def on_started(self, pid: int, pipes: Pipes) -> None: ...

        def on_start_failed(self, reason: str, shortage: bool) -> None: ...

    class Undertaker(Protocol):
        """Who ends what sessions leave behind: strays.Strays, or who asks it to."""

        def finish(self, pid: int, session: str, survivors: bool) -> None: ...

        def on_stray_end(self) -> None: ...


CONTROL_FD = 3  # in the application, which is told so in this variable
CONTROL_VARIABLE = "CHIMIRROR_CONTROL_FD"
MANY = 500  # children: a walk over so many takes 30 us
SLOW = 0.0002  # seconds of CPU for a walk that is followed by a rest
TICKS = 32  # a second, in which every exec(2) is over
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


class Program:
    """What can be started.

    Attributes:
        argv: the command.
        directory: where it starts; None is where we are.
        pty: whether it gets a terminal of its own instead of pipes.
        control: whether it gets a control channel, too.
        found: in a file, at some time; else it is that of our own command line, which
            whoever starts it for us has, too.
    """

    __slots__ = ("argv", "control", "directory", "found", "pty")

    def __init__(
        self,
        argv: tuple[str, ...],
        directory: str | None = None,
        *,
        pty: bool = False,
        control: bool = False,
        found: bool = False,
    ) -> None:
        self.argv = argv
        self.directory = directory
        self.pty = pty
        self.control = control
        self.found = found

    def asked(self, *, pty: bool = False, control: bool = False) -> Program:
        """The same, as somebody asks for it."""
        if (pty, control) == (self.pty, self.control):
            return self
        return Program(self.argv, self.directory, pty=pty, control=control)


class Starter(Keeper):
    """Starts programs, over and over, and tells each client of its end.

    The answers are calls of the client's methods, so that a service of its own can
    give them later just as well.
    """

    __slots__ = ("_spared",)

    def __init__(self, loop: Loop, undertaker: Undertaker | None = None) -> None:
        super().__init__(loop, undertaker)
        self._spared: dict[int, int] = {}  # still to be sacrificed: pid, ticks left

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
        ours: dict[int, int] = {}
        theirs: dict[int, int] = {}
        try:
            if program.pty:
                from chimirror.system import pty

                environment = {"TERM": pty.KIND, **environment}
                pty.make(ours, theirs)
            else:
                _make_pipes(ours, theirs, 3 if keep_stderr else 2)
            if program.control:
                environment = {**environment, CONTROL_VARIABLE: str(CONTROL_FD)}
                _make_channel(ours, theirs)
            pid = self._execute(program, environment, theirs)
        except (OSError, ValueError) as error:
            for fd in ours.values():
                os.close(fd)
            what = program.argv[0]
            if isinstance(error, OSError) and error.filename == program.directory:
                what = program.directory or what
            text = children.explain(error, what)
            client.on_start_failed(text, children.is_shortage(error))
            return
        finally:
            for fd in theirs.values():
                os.close(fd)
        self.keep(pid, client)
        get = ours.get
        client.on_started(pid, (ours[0], ours[1], get(2, -1), get(CONTROL_FD, -1)))

    def _execute(
        self, program: Program, environment: Mapping[str, str], pipes: dict[int, int]
    ) -> int:
        """Start it with these as its descriptors of those numbers; its pid."""
        if program.directory is None:
            return self._spawn(program, environment, pipes)
        here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fchdir(here)  # there is a way back, or it is not left
            os.chdir(program.directory)
            try:
                return self._spawn(program, environment, pipes)
            finally:
                os.fchdir(here)
        finally:
            os.close(here)

    def _spawn(
        self, program: Program, environment: Mapping[str, str], pipes: dict[int, int]
    ) -> int:
        pid = _spawn(program, environment, pipes)
        if not children.sacrifice(pid):
            self._spared[pid] = TICKS
            self._loop.arm(self, self._loop.now)
        return pid

    def on_timer(self, now: float) -> None:
        """See Keeper; and those that could not be sacrificed at once may be by now."""
        spared, self._spared = self._spared, {}
        for pid, ticks in spared.items():
            if pid in self._clients and not children.sacrifice(pid) and ticks:
                self._spared[pid] = ticks - 1
        super().on_timer(now)
        if self._spared:
            self._loop.arm(self, now)


def _make_pipes(ours: dict[int, int], theirs: dict[int, int], count: int) -> None:
    for number in range(count):
        reader, writer = os.pipe()
        mine, other = (writer, reader) if number == 0 else (reader, writer)
        ours[number] = mine
        theirs[number] = other
        os.set_blocking(mine, False)


def _make_channel(ours: dict[int, int], theirs: dict[int, int]) -> None:
    mine, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours[CONTROL_FD], theirs[CONTROL_FD] = mine.detach(), other.detach()
    os.set_blocking(ours[CONTROL_FD], False)


def _spawn(
    program: Program, environment: Mapping[str, str], theirs: dict[int, int]
) -> int:
    place: dict[str, Any] = {"setpgroup": 0}
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]]
    if program.pty:  # whoever leads a session gets the first that it opens as its own
        place = {"setsid": True}
        name = os.ttyname(theirs[0])
        actions = [(os.POSIX_SPAWN_OPEN, 0, name, os.O_RDWR, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, 0, number) for number in (1, 2)]
    else:
        standard = [number for number in (0, 1, 2) if number in theirs]
        actions = [(os.POSIX_SPAWN_DUP2, theirs[n], n) for n in standard]
        if 2 not in theirs:
            actions.append((os.POSIX_SPAWN_OPEN, 2, DEV_NULL, os.O_RDWR, 0))
    if CONTROL_FD in theirs:  # last: the number may be that of one before
        actions.append((os.POSIX_SPAWN_DUP2, theirs[CONTROL_FD], CONTROL_FD))
    return os.posix_spawnp(
        program.argv[0],
        program.argv,
        environment,
        file_actions=actions,
        **place,
        setsigmask=(),
        setsigdef=_DEFAULT_SIGNALS,
    )
