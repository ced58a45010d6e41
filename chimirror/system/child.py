"""Starting applications, their exit status, and that nothing of them survives.

Knows processes, no WebSocket and no session protocol. Each application is the leader
of its own process group, with default signal dispositions, an empty mask and three
pipes. posix_spawn(3) (vfork inside) costs 0.1 ms where fork costs 1 ms and more.

Whoever starts applications is child subreaper (prctl(2)): descendants that outlive
their parent become our children and are found by CHIMIRROR_SESSION in their
environment. While a process is our unreaped child its number cannot be reused, so only
such numbers are ever signalled.
"""

from __future__ import annotations

from chimirror.system import children
from chimirror.system.lean import DEV_NULL, os, signal
from chimirror.system.loop import NEVER
from chimirror.system.prctl import become_subreaper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Protocol

    from chimirror.system.loop import Loop

    class Client(Protocol):
        """Who asked for an application."""

        def on_started(self, pid: int, pipes: tuple[int, int, int]) -> None: ...

        def on_start_failed(self, reason: str, shortage: bool) -> None: ...

        def on_exit(self, status: int, survivors: bool) -> None: ...

        def on_fault(self, error: Exception) -> None: ...


SESSION_VARIABLE = "CHIMIRROR_SESSION"
MEMORY = 1.0  # seconds for which strays of an ended session are looked for
SWEEPS = 0.1  # seconds between two looks
NAME = 15  # bytes of a session id that fit a process's name (PR_SET_NAME)
REST = 20  # times as long as a look took: thousands of children are no quick look
_DEFAULT_SIGNALS = signal.valid_signals()


class Keeper:
    """Keeps children, adopted ones too: tells their ends, leaves nothing behind."""

    __slots__ = (
        "_clients",
        "_ended",
        "_groups",
        "_loop",
        "_rested",
        "armed",
        "deadline",
    )

    def __init__(self, loop: Loop) -> None:
        """Become subreaper and watch for the end of children."""
        self._loop = loop
        self._clients: dict[int, Client] = {}
        self._ended: dict[bytes, float] = {}  # sessions, and until when they matter
        self._groups: set[int] = set()  # process groups that outlived their leaders
        self._rested = 0.0  # no look for strays before this
        self.armed = 0
        self.deadline = NEVER
        become_subreaper()
        loop.on_signal(signal.SIGCHLD, self.reap)

    def keep(self, pid: int, client: Client) -> None:
        """Tell `client` of the end of this child."""
        self._clients[pid] = client

    def signal(self, pid: int, number: int) -> None:
        """Signal the process group of an application that has not been reaped."""
        if pid in self._clients:
            children.kill_group(pid, number)

    def reap(self) -> None:
        """Collect every child that has ended (SIGCHLD)."""
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            self._reap_one(found.si_pid)

    def _reap_one(self, pid: int) -> None:
        client = self._clients.pop(pid, None)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if client is None:
            self._on_stray(pid, status)
            return
        survivors = children.is_outlived(pid)
        try:
            client.on_exit(status, survivors)
        except Exception as error:  # noqa: BLE001 (its own client answers)
            client.on_fault(error)

    def _on_stray(self, pid: int, status: int) -> None:
        """A stray has ended: its own children are ours from now on."""
        if self._ended:
            self._loop.arm(self, max(self._rested, self._loop.now))

    def finish(self, pid: int, session: str, survivors: bool) -> None:
        """End whatever an application has left behind.

        Args:
            pid: the application, already reaped; its group, if `survivors`.
            session: the CHIMIRROR_SESSION that strays carry.
            survivors: whether its process group outlived it.
        """
        if survivors:
            self._groups.add(pid)
        self._ended[session.encode()] = self._loop.now + MEMORY
        self._loop.arm(self, max(self._rested, self._loop.now))

    def on_timer(self, now: float) -> None:
        """Sweep: kill every stray of an ended session; at most once per tick.

        One look is not enough: a stray's children become ours when it dies, and a
        process has no environment to be known by while it executes another program.
        """
        began = self._loop.clock()
        try:
            strays = self._strays()
        except OSError:  # no descriptor left: later
            self._loop.arm(self, now + SWEEPS)
            return
        for pid in strays:
            self._kill_stray(pid, now)
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

    def _strays(self) -> list[int]:
        return [pid for pid in children.listing() if pid not in self._clients]

    def _kill_stray(self, pid: int, now: float) -> None:
        session = self._session_of(pid, self._ended)
        group = children.group_of(pid)
        # While a child of ours is in it, the number of a group is given to nobody; but
        # it may have been, before, to an application or to what another has left.
        left = group in self._groups and group not in self._clients
        if left and (not session or session in self._ended):
            self._groups.discard(group)
            children.kill_group(group)
        if session in self._ended:
            children.kill(pid)
            self._ended[session] = now + MEMORY

    def _session_of(self, pid: int, sessions: Collection[bytes]) -> bytes:
        """The session that a process belongs to, if that can be seen.

        A warm copy's fork has no environment to be looked at, but a name: that says
        it of those among `sessions`.
        """
        session = children.variable(pid, SESSION_VARIABLE.encode())
        if session in sessions:
            return session
        name = children.name(pid)
        return next((one for one in sessions if one[:NAME] == name), session)

    def on_event(self, fd: int, events: int) -> None:
        """No descriptor is watched: SIGCHLD tells."""

    def on_fault(self, error: Exception) -> None:
        """A bug of ours that no client could answer for."""
        raise error


class Starter(Keeper):
    """Starts one command, over and over, and tells each client of its end.

    The answers are calls of the client's methods, so that a service of its own can
    give them later just as well.
    """

    __slots__ = ("_argv",)

    def __init__(self, loop: Loop, argv: tuple[str, ...]) -> None:
        """See Keeper."""
        super().__init__(loop)
        self._argv = argv

    def start(
        self, client: Client, environment: Mapping[str, str], keep_stderr: bool
    ) -> None:
        """Start the command; `client.on_started` or `on_start_failed` is the answer.

        Args:
            client: told of the start and of the exit.
            environment: the whole environment of the application.
            keep_stderr: a pipe for it; else -1 in the answer, and the null device.
        """
        ours: list[int] = []
        theirs: list[int] = []
        try:
            for number in (0, 1, 2) if keep_stderr else (0, 1):
                reader, writer = os.pipe()
                mine, other = (writer, reader) if number == 0 else (reader, writer)
                ours.append(mine)
                theirs.append(other)
                os.set_blocking(mine, False)
            pid = self._execute(environment, theirs)
        except (OSError, ValueError) as error:
            for fd in ours:
                os.close(fd)
            client.on_start_failed(_explain(error, self._argv[0]), _is_shortage(error))
            return
        finally:
            for fd in theirs:
                os.close(fd)
        self.keep(pid, client)
        client.on_started(pid, (ours[0], ours[1], ours[2] if keep_stderr else -1))

    def _execute(self, environment: Mapping[str, str], pipes: list[int]) -> int:
        """Start it with these as its descriptors from 0 on; its pid."""
        actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
            (os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(pipes)
        ]
        if len(pipes) < 3:
            actions.append((os.POSIX_SPAWN_OPEN, 2, DEV_NULL, os.O_RDWR, 0))
        return os.posix_spawnp(
            self._argv[0],
            self._argv,
            environment,
            file_actions=actions,
            setpgroup=0,
            setsigmask=(),
            setsigdef=_DEFAULT_SIGNALS,
        )


def _explain(error: OSError | ValueError, program: str) -> str:
    """One line for the log; a client only ever reads that it could not be started."""
    if isinstance(error, OSError) and error.errno is not None:
        from errno import errorcode

        return f"{program}: {error.strerror} ({errorcode.get(error.errno, '?')})"
    return f"{program}: {error}"


def _is_shortage(error: OSError | ValueError) -> bool:
    """Whether it was for want of processes, descriptors or memory, and may pass."""
    from errno import EAGAIN, EMFILE, ENFILE, ENOMEM

    passing = (EAGAIN, EMFILE, ENFILE, ENOMEM)
    return isinstance(error, OSError) and error.errno in passing
