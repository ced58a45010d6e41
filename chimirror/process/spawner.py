"""Starts applications and reports the end of each.

Knows processes, no WebSocket and no session protocol. Each application leads its own
process group. It has default signal dispositions, an empty signal mask, three pipes
and, if requested, a control channel. posix_spawn(3) (vfork inside) costs 0.1 ms, fork 1
ms and more.
"""

from __future__ import annotations

from chimirror.builtin_modules import DEV_NULL, os, signal, socket
from chimirror.process import children
from chimirror.process.reaper import ChildWatcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Protocol

    from chimirror.io.loop import EventLoop
    from chimirror.process.reaper import ChildHandler, Sweeper
    from chimirror.process.user_program import UserStarts

    # The parent's ends of stdin, stdout, stderr and the control channel, or -1.
    Pipes = tuple[int, int, int, int]

    class SpawnClient(ChildHandler, Protocol):
        """Callbacks of a start, and the session id that strays carry."""

        @property
        def session(self) -> str: ...

        def on_started(self, pid: int, pipes: Pipes) -> None: ...

        def on_start_failed(self, reason: str, shortage: bool) -> None: ...

        def on_signals_taken(self) -> None: ...


CONTROL_FD = 3  # number in the application, which finds it in this variable
CONTROL_VARIABLE = "CHIMIRROR_CONTROL_FD"
# a minute: every exec(2) is over by then, even on a busy machine
OOM_RETRY_TICKS = 60 * 32
MAX_PROGRAM = 1 << 18  # bytes of a command and its environment, as execve(2) counts
STRING_COST = 9  # bytes of a string's end and of its pointer
NO_LIMITS: dict[str, str] = {}
_DEFAULT_SIGNALS = signal.valid_signals()


class Program:
    """A program that can be started.

    Attributes:
        argv: the command.
        directory: its working directory. None means the current one.
        pty: True for a terminal of its own instead of pipes.
        control: True for a control channel in addition.
        from_file: True if it was found in an application file. Otherwise it is the
            program of the command line, which the zygote has too.
        user_ids: the user that it runs as, and the groups of that user. Empty: the user
            of this process.
        limits: the texts of files of a cgroup (cgroups(7)) that each session gets.
    """

    __slots__ = (
        "argv",
        "control",
        "directory",
        "from_file",
        "limits",
        "pty",
        "user_ids",
    )

    def __init__(
        self,
        argv: tuple[str, ...],
        directory: str | None = None,
        *,
        pty: bool = False,
        control: bool = False,
        from_file: bool = False,
        user_ids: tuple[int, ...] = (),
        limits: Mapping[str, str] = NO_LIMITS,
    ) -> None:
        self.argv = argv
        self.directory = directory
        self.pty = pty
        self.control = control
        self.from_file = from_file
        self.user_ids = user_ids
        self.limits = limits

    @property
    def user(self) -> int:
        """The user that it runs as."""
        return self.user_ids[0] if self.user_ids else os.geteuid()

    def with_options(self, *, pty: bool = False, control: bool = False) -> Program:
        """Return the same program with other options."""
        if (pty, control) == (self.pty, self.control):
            return self
        options = {"pty": pty, "control": control}
        ids, limits = self.user_ids, self.limits
        return Program(
            self.argv, self.directory, **options, user_ids=ids, limits=limits
        )


def size_error(argv: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return why a command and its environment are too large, or nothing."""
    variables = [f"{name}={value}" for name, value in environment.items()]
    strings = [*argv, *variables]
    sizes = [len(string.encode(errors="surrogateescape")) for string in strings]
    size = sum(sizes) + STRING_COST * len(sizes)
    if size > MAX_PROGRAM:
        return f"command and environment have {size} bytes, more than {MAX_PROGRAM}"
    return ""


class SpawnRequest:
    """One start. It belongs to the spawner, and nothing keeps it after the start.

    Attributes:
        client: called on the start and on the exit.
        program: the program to start.
        environment: the complete environment of the application.
        keep_stderr: True for a pipe. Otherwise `on_started` gets -1, and standard error
            is the null device or the terminal.
        size: columns and rows of the terminal, if the program gets one.
        cgroup: directory of the cgroup that the program is started in. Empty: that of
            the process that starts it.
    """

    __slots__ = (
        "cgroup",
        "client",
        "environment",
        "keep_stderr",
        "program",
        "size",
    )

    def __init__(
        self,
        client: SpawnClient,
        program: Program,
        environment: Mapping[str, str],
        *,
        keep_stderr: bool,
        size: Sequence[int] | None = None,
        cgroup: str = "",
    ) -> None:
        self.client = client
        self.program = program
        self.environment = environment
        self.keep_stderr = keep_stderr
        self.size = size
        self.cgroup = cgroup


class Spawner(ChildWatcher):
    """Starts programs and reports the end of each to its client.

    The results are callbacks, so that a separate process can deliver them later.
    """

    __slots__ = ("_oom_pending", "_user_starts")

    def __init__(self, loop: EventLoop, sweeper: Sweeper | None = None) -> None:
        super().__init__(loop, sweeper)
        # OOM setting not written yet: pid, ticks left
        self._oom_pending: dict[int, int] = {}
        self._user_starts: UserStarts | None = None  # made by the first

    def start(self, request: SpawnRequest) -> None:
        """Start a program. `on_started` or `on_start_failed` of its client follows."""
        client, program = request.client, request.program
        parent_fds: dict[int, int] = {}
        child_fds: dict[int, int] = {}
        try:
            if program.pty:
                from chimirror.process import pty

                request.environment = {"TERM": pty.TERM, **request.environment}
                pty.open_pty(parent_fds, child_fds, request.size)
            else:
                _make_pipes(parent_fds, child_fds, 3 if request.keep_stderr else 2)
            if program.control:
                variable = {CONTROL_VARIABLE: str(CONTROL_FD)}
                request.environment = {**request.environment, **variable}
                _make_control_channel(parent_fds, child_fds)
            pid, report = self._execute(request, child_fds)
        except (OSError, ValueError) as error:
            for fd in parent_fds.values():
                os.close(fd)
            self._report_failure(request, error)
            return
        finally:
            for fd in child_fds.values():
                os.close(fd)
        get_fd = parent_fds.get
        pipes = (parent_fds[0], parent_fds[1], get_fd(2, -1), get_fd(CONTROL_FD, -1))
        if report < 0:
            self.add_child(pid, client)
            client.on_started(pid, pipes)
        else:
            from chimirror.process.user_program import UserStart

            user, starts = program.user, self._starts_of_users()
            UserStart(starts, client, user, pid, report, pipes)

    def _report_failure(
        self, request: SpawnRequest, error: OSError | ValueError
    ) -> None:
        text = children.explain(error, _subject(error, request.program))
        request.client.on_start_failed(text, children.is_shortage(error))

    def _execute(
        self, request: SpawnRequest, child_fds: dict[int, int]
    ) -> tuple[int, int]:
        """Start a program with these descriptors.

        posix_spawn(3) can change neither the user nor the cgroup.

        Returns:
            Its pid, and -1 if it runs. Otherwise the descriptor of its report
            (user_program).
        """
        program, environment = request.program, request.environment
        if program.user_ids or request.cgroup:
            from chimirror.process.user_program import UserProgram

            argv, directory, ids = program.argv, program.directory, program.user_ids
            self._starts_of_users().check(program.user)
            user_program = UserProgram(
                argv, directory, ids, pty=program.pty, cgroup=request.cgroup
            )
            return user_program.fork(environment, child_fds)
        if program.directory is None:
            return self._spawn(program, environment, child_fds), -1
        here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # fails now rather than on the way back
            os.fchdir(here)
            os.chdir(program.directory)
            try:
                return self._spawn(program, environment, child_fds), -1
            finally:
                os.fchdir(here)
        finally:
            os.close(here)

    def _starts_of_users(self) -> UserStarts:
        from chimirror.process.user_program import UserStarts

        if self._user_starts is None:
            self._user_starts = UserStarts(self._loop, self)
        return self._user_starts

    def _spawn(
        self,
        program: Program,
        environment: Mapping[str, str],
        child_fds: dict[int, int],
    ) -> int:
        pid = _spawn(program, environment, child_fds)
        self.prefer_for_oom_kill(pid)
        return pid

    def prefer_for_oom_kill(self, pid: int) -> None:
        """Prefer a program for the OOM killer, from the next tick on.

        Many short sessions have ended by then, and it takes time from the next start.
        """
        if not self._oom_pending:
            self._loop.set_timer(self, self._loop.now)
        self._oom_pending[pid] = OOM_RETRY_TICKS

    def on_timer(self, now: float) -> None:
        """Called at the next tick. Writes missing OOM settings, and reaps."""
        pending, self._oom_pending = self._oom_pending, {}
        for pid, ticks in pending.items():
            if pid in self._clients and not children.prefer_for_oom_kill(pid) and ticks:
                self._oom_pending[pid] = ticks - 1
        super().on_timer(now)
        if self._oom_pending:
            self._loop.set_timer(self, now)


def _subject(error: OSError | ValueError, program: Program) -> str:
    """Return what could not be used: the directory, the user or the program."""
    subject = getattr(error, "filename", None)
    known = program.directory, f"user {program.user_ids[0]}" if program.user_ids else ""
    return subject if subject and subject in known else program.argv[0]


def _make_pipes(
    parent_fds: dict[int, int], child_fds: dict[int, int], count: int
) -> None:
    for number in range(count):
        reader, writer = os.pipe()
        parent_end, child_end = (writer, reader) if number == 0 else (reader, writer)
        parent_fds[number] = parent_end
        child_fds[number] = child_end
        os.set_blocking(parent_end, False)


def _make_control_channel(
    parent_fds: dict[int, int], child_fds: dict[int, int]
) -> None:
    parent_end, child_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    parent_fds[CONTROL_FD], child_fds[CONTROL_FD] = (
        parent_end.detach(),
        child_end.detach(),
    )
    os.set_blocking(parent_fds[CONTROL_FD], False)


def _spawn(
    program: Program, environment: Mapping[str, str], child_fds: dict[int, int]
) -> int:
    leader_options: dict[str, Any] = {"setpgroup": 0}
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]]
    if program.pty:  # the first terminal that a session leader opens becomes its own
        leader_options = {"setsid": True}
        name = os.ttyname(child_fds[0])
        actions = [(os.POSIX_SPAWN_OPEN, 0, name, os.O_RDWR, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, 0, number) for number in (1, 2)]
    else:
        standard = [number for number in (0, 1, 2) if number in child_fds]
        actions = [(os.POSIX_SPAWN_DUP2, child_fds[n], n) for n in standard]
        if 2 not in child_fds:
            actions.append((os.POSIX_SPAWN_OPEN, 2, DEV_NULL, os.O_RDWR, 0))
    if CONTROL_FD in child_fds:  # last: the number may be that of an earlier descriptor
        actions.append((os.POSIX_SPAWN_DUP2, child_fds[CONTROL_FD], CONTROL_FD))
    return os.posix_spawnp(
        program.argv[0],
        program.argv,
        environment,
        file_actions=actions,
        **leader_options,
        setsigmask=(),
        setsigdef=_DEFAULT_SIGNALS,
    )
