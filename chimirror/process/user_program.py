"""Starts a program as another user, without waiting for it.

posix_spawn(3) cannot change the user, so a forked child does, and executes the program.
Until then it belongs to the user already: another process of this user may stop it. So
nothing waits for the child. It reports over a pipe, which closes at execve(2).

Knows a loop and processes, no session. Follows fork(2), execve(2) and kill(2).
"""

from __future__ import annotations

from chimirror.builtin_modules import environ_dict, os, signal
from chimirror.io.loop import NEVER, READ
from chimirror.process import child_setup, children

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn, Protocol

    from chimirror.io.loop import EventLoop
    from chimirror.process.reaper import ChildHandler

    Pipes = tuple[int, int, int, int]

    class StartClient(ChildHandler, Protocol):
        """Callbacks of a start."""

        def on_started(self, pid: int, pipes: Pipes) -> None: ...

        def on_start_failed(self, reason: str, shortage: bool) -> None: ...

    class StartWatcher(Protocol):
        """Reaps the children of this process."""

        def add_child(self, pid: int, client: ChildHandler) -> None: ...

        def prefer_for_oom_kill(self, pid: int) -> None: ...


DEFAULT_PATH = "/bin:/usr/bin"  # as posix_spawnp(3)
START_TIMEOUT = 2.0  # seconds from fork(2) to execve(2)
BAR_DURATION = 20.0  # seconds without starts for a user whose start took too long
MAX_REPORT = 4096  # bytes that tell why a child has failed
EX_FAILED = 127  # never seen: the parent gets a report
SIGNALS = signal.valid_signals()


class UserProgram:
    """A program to start as another user.

    Args:
        argv: the command.
        directory: its working directory, which the child enters as that user. None
            means the current one.
        user_ids: the user, its primary group and its other groups. Empty: the user of
            this process.
        pty: True if its descriptor 0 is a terminal, which 1 and 2 share.
        cgroup: directory of the cgroup that the child enters first. Empty: none.
    """

    __slots__ = ("_argv", "_cgroup", "_directory", "_pty", "_user_ids")

    def __init__(
        self,
        argv: tuple[str, ...],
        directory: str | None,
        user_ids: Sequence[int],
        *,
        pty: bool,
        cgroup: str = "",
    ) -> None:
        self._cgroup = cgroup
        self._argv = argv
        self._directory = directory
        self._user_ids = user_ids
        self._pty = pty

    def fork(
        self, environment: Mapping[str, str], fds: Mapping[int, int]
    ) -> tuple[int, int]:
        """Start a child that will become the program.

        This takes longer than posix_spawn(3), because fork(2) copies the page tables of
        this process.

        Args:
            environment: the complete environment.
            fds: the descriptors, by the numbers that they get.

        Returns:
            Its pid, and a descriptor to read its report from. The report is empty once
            the program is executed.

        Raises:
            OSError: The process cannot be forked.
        """
        # the writer's number is above all numbers that the child sets
        reader, writer = os.pipe()
        previous = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                self._run_child(environment, fds, writer)
        except OSError:
            os.close(reader)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, previous)
            os.close(writer)
        return pid, reader

    def _run_child(
        self, environment: Mapping[str, str], fds: Mapping[int, int], writer: int
    ) -> NoReturn:
        """Become the program. Reports an error to the parent, and never returns."""
        subject = self._argv[0]
        try:
            if self._cgroup:
                subject = "the cgroup of the session"
                child_setup.join_cgroup(self._cgroup)
            child_setup.set_descriptors(fds, pty=self._pty)
            if self._user_ids:
                subject = f"user {self._user_ids[0]}"
                child_setup.switch_user(self._user_ids, pty=self._pty)
            if self._directory is not None:
                subject = self._directory
                os.chdir(self._directory)
            subject = self._argv[0]
            for number in SIGNALS - {signal.SIGKILL, signal.SIGSTOP}:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            _execute(self._argv, environment)
        except (OSError, ValueError) as error:
            from errno import EINVAL

            status = getattr(error, "errno", None) or EINVAL
            report = f"{status} {subject}".encode(errors="surrogateescape")
            os.write(writer, report[:MAX_REPORT])
        finally:
            os._exit(EX_FAILED)  # noqa: SLF001 (never returns)


def _execute(argv: tuple[str, ...], environment: Mapping[str, str]) -> None:
    """Replace this process by a program, which is searched in PATH.

    Raises:
        OSError: There is no such program, or none that can be executed.
        ValueError: A word or a variable has a NUL.
    """
    if "/" in argv[0]:
        os.execve(argv[0], argv, environment)
    denied: OSError | None = None
    for directory in environ_dict().get("PATH", DEFAULT_PATH).split(":"):
        try:
            os.execve(f"{directory or '.'}/{argv[0]}", argv, environment)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            denied = error
    from errno import ENOENT

    raise denied or FileNotFoundError(ENOENT, os.strerror(ENOENT))


class UserStarts:
    """Starts programs as other users, and keeps the users whose starts are stuck.

    Args:
        loop: event loop of this process.
        watcher: reaps the children.
    """

    __slots__ = ("_barred", "loop", "watcher")

    def __init__(self, loop: EventLoop, watcher: StartWatcher) -> None:
        self.loop = loop
        self.watcher = watcher
        self._barred: dict[int, float] = {}  # users, and the ends of their bars

    def check(self, user: int) -> None:
        """Refuse a user that has lately stopped one of its starts.

        Raises:
            OSError: EAGAIN, with the user as the file name.
        """
        if self._barred.get(user, 0.0) > self.loop.now:
            from errno import EAGAIN

            text = f"an earlier start took over {START_TIMEOUT:g} s"
            raise OSError(EAGAIN, text, f"user {user}")

    def bar(self, user: int) -> None:
        """Refuse further starts of this user for a time."""
        now = self.loop.now
        self._barred = {one: end for one, end in self._barred.items() if end > now}
        self._barred[user] = now + BAR_DURATION


class UserStart:
    """A start whose child has not executed its program yet.

    Args:
        starts: the other starts of this process.
        client: called once the program runs, or has failed to start.
        user: the user of the child.
        pid: the child.
        reader: the descriptor for its report.
        pipes: passed to the client.
    """

    __slots__ = (
        "_client",
        "_exit",
        "_is_late",
        "_pid",
        "_pipes",
        "_reader",
        "_starts",
        "_user",
        "armed",
        "deadline",
    )

    def __init__(
        self,
        starts: UserStarts,
        client: StartClient,
        user: int,
        pid: int,
        reader: int,
        pipes: Pipes,
    ) -> None:
        self._starts = starts
        self._client = client
        self._user = user
        self._pid = pid
        self._reader = reader
        self._pipes = pipes
        self._exit: tuple[int, bool] | None = None
        self._is_late = False
        os.set_blocking(reader, False)
        self.armed = 0
        self.deadline = NEVER
        starts.watcher.add_child(pid, self)
        starts.loop.watch(reader, self, READ)
        starts.loop.set_timer(self, starts.loop.now + START_TIMEOUT)

    def on_event(self, fd: int, events: int) -> None:
        """Called when the program is executed, or the child has failed."""
        self._conclude()

    def on_timer(self, now: float) -> None:
        """Called when the start takes too long. Kills the child.

        The report may have arrived while this process was busy.
        """
        self._conclude()
        if self._reader < 0:
            return
        self._is_late = True
        self._starts.bar(self._user)
        children.kill(self._pid)

    def on_exit(self, status: int, survivors: bool) -> None:
        """Called when the child is reaped, perhaps before its report is read."""
        self._exit = status, survivors
        if self._reader >= 0:
            self._conclude()

    def _conclude(self) -> None:
        loop, watcher = self._starts.loop, self._starts.watcher
        try:
            report = os.read(self._reader, MAX_REPORT)
        except BlockingIOError:  # neither executed nor failed
            return
        loop.cancel_timer(self)
        loop.close(self._reader)
        self._reader = -1
        if report or self._is_late:
            for fd in self._pipes:
                if fd >= 0:
                    os.close(fd)
            text, shortage = self._describe(report)
            self._client.on_start_failed(text, shortage)
            return
        if self._exit is None:
            watcher.add_child(self._pid, self._client)
            watcher.prefer_for_oom_kill(self._pid)
        self._client.on_started(self._pid, self._pipes)
        if self._exit is not None:
            self._client.on_exit(*self._exit)

    def _describe(self, report: bytes) -> tuple[str, bool]:
        """Return why the program does not run, and whether that may pass."""
        if self._is_late:
            text = f"user {self._user}: the start took over {START_TIMEOUT:g} s"
            return text, True
        number, _, subject = report.decode(errors="surrogateescape").partition(" ")
        error = OSError(int(number), os.strerror(int(number)))
        return children.explain(error, subject), children.is_shortage(error)

    def on_error(self, error: Exception) -> None:
        """Called on an internal error. Passes it to the client."""
        self._client.on_error(error)
