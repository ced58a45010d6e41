"""Starts applications by the C extension `_fast_spawn`, where that is possible.

A start costs the same whatever the number of descriptors of this process: clone(2),
close_range(2). So a worker with thousands of sessions starts its applications itself.
Without the extension or the system calls, a zygote starts them. Knows no WebSocket and
no session protocol.
"""

from __future__ import annotations

from errno import ETIMEDOUT

from chimirror.builtin_modules import environ_dict, os
from chimirror.process import children
from chimirror.process.reaper import SESSION_VARIABLE
from chimirror.process.spawner import CONTROL_FD, Spawner
from chimirror.process.user_program import DEFAULT_PATH

try:
    from chimirror.process import _fast_spawn
except ImportError:  # a pure installation
    HAS_EXTENSION = False
else:
    HAS_EXTENSION = True

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from mmap import mmap
    from typing import Protocol

    from chimirror.io.loop import EventLoop
    from chimirror.process.reaper import Sweeper
    from chimirror.process.spawner import SpawnRequest

    class StartedProcesses(Protocol):
        """Gets the pid of each application before it runs: WorkerProcesses."""

        @property
        def memory(self) -> mmap | bytearray: ...

        def begin(self, session: str, now: float) -> int: ...

        def end(self) -> None: ...

        def release(self, sessions: Iterable[str]) -> None: ...


SLOW_START = 1.0  # seconds: the supervisor may have ended such a start
_NO_FDS = (-1, -1, -1, -1)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW_PIPE = -2
_PIPES = (_NEW_PIPE, _NEW_PIPE, _NEW_PIPE, -1)
_PIPES_WITHOUT_STDERR = (_NEW_PIPE, _NEW_PIPE, -1, -1)


def find_obstacle() -> str:
    """Try the system calls, and reserve the descriptors that starts need.

    The program that is tried does not exist. Processes that are forked later have the
    same reserved descriptors.

    Returns:
        Why a FastSpawner cannot be used, or nothing.
    """
    if not HAS_EXTENSION:
        return "the C extension is not installed"
    try:
        _fast_spawn.reserve()
        pid, *_ = _fast_spawn.spawn(
            ("",), ("",), {}, _NO_FDS, None, False, None, -1, False, bytearray(4), 0
        )
    except FileNotFoundError:
        return ""
    except OSError as error:  # an old kernel, or a filter
        release()
        return f"a start is refused: {error.strerror}"
    os.waitpid(pid, 0)  # a filter has killed it
    release()
    return "a start is killed"


def try_start() -> str:
    """Return what `find_obstacle` does, and keep no reserved descriptors."""
    obstacle = find_obstacle()
    if not obstacle:
        release()
    return obstacle


def describe(obstacle: str) -> str:
    """Return which process starts the applications of a server, in one line.

    Args:
        obstacle: from `try_start`.
    """
    if obstacle:
        return f"applications are started by the zygote: {obstacle}"
    return "applications are started by the workers"


def release() -> None:
    """Close the reserved descriptors."""
    _fast_spawn.release()


def _check(pid: int, *ends: int) -> None:
    """Check that the supervisor has not killed a program in its start.

    Args:
        pid: the program.
        ends: descriptors to close if it was killed, or -1.

    Raises:
        OSError: ETIMEDOUT, because it was killed. It is reaped.
    """
    if children.reap_killed(pid):
        for fd in ends:
            if fd >= 0:
                os.close(fd)
        raise OSError(ETIMEDOUT, "the start has hung and was killed")


class FastSpawner(Spawner):
    """Spawner that uses the C extension. `find_obstacle` has found none.

    Programs of other users are not started: such a child could be stopped by its user
    before execve(2), and this process would wait. Signals that this process ignores
    must be ignored before, or programs ignore them too.

    Args:
        loop: event loop of this process.
        processes: gets each application.
        limits: the descriptor limits of applications, soft and hard.
        sweeper: ends strays. By default a StraySweeper of this process.

    Attributes:
        cgroups: descriptors of directories of cgroups that need not be opened, by path.
    """

    __slots__ = ("_files", "_limits", "_processes", "cgroups")

    def __init__(
        self,
        loop: EventLoop,
        processes: StartedProcesses,
        limits: tuple[int, int],
        sweeper: Sweeper | None = None,
    ) -> None:
        super().__init__(loop, sweeper)
        _fast_spawn.reserve()
        self._processes = processes
        self.cgroups: dict[str, int] = {}
        self._limits = limits
        self._files: dict[str, tuple[str, ...]] = {}  # by the name of a program

    def start(self, request: SpawnRequest) -> None:
        """Start a program. The result comes at once.

        The extension makes the pipes.
        """
        client, program = request.client, request.program
        if program.pty or program.control:
            super().start(request)
            return
        fds = _PIPES if request.keep_stderr else _PIPES_WITHOUT_STDERR
        try:
            pid, *ends = self._spawn_with(request, fds)
        except (OSError, ValueError) as error:
            self._report_failure(request, error)
            return
        self.add_child(pid, client)
        self.prefer_for_oom_kill(pid)
        client.on_started(pid, (ends[0], ends[1], ends[2], -1))

    def _execute(
        self, request: SpawnRequest, child_fds: dict[int, int]
    ) -> tuple[int, int]:
        get_fd = child_fds.get
        fds = (child_fds[0], get_fd(1, -1), get_fd(2, -1), get_fd(CONTROL_FD, -1))
        pid, *_ = self._spawn_with(request, fds)
        self.prefer_for_oom_kill(pid)
        return pid, -1

    def _spawn_with(
        self, request: SpawnRequest, fds: tuple[int, int, int, int]
    ) -> tuple[int, int, int, int]:
        """Start a program with these descriptors, -1 or _NEW_PIPE.

        Returns:
            Its pid, and this process's ends of new pipes or -1.
        """
        program, environment = request.program, request.environment
        cgroup = request.cgroup
        session, began_at = environment.get(SESSION_VARIABLE, ""), self._loop.clock()
        offset = self._processes.begin(session, began_at)
        directory = opened = -1
        try:
            if cgroup:
                directory = self.cgroups.get(cgroup, -1)
                if directory < 0:
                    directory = opened = os.open(cgroup, _DIRECTORY)
            started = _fast_spawn.spawn(
                self._files_of(program.argv[0]),
                program.argv,
                environment if type(environment) is dict else dict(environment),
                fds,
                program.directory,
                program.pty,
                self._limits,
                directory,
                self._loop.is_busy,
                self._processes.memory,
                offset,
            )
            if self._loop.clock() - began_at > SLOW_START:
                _check(*started)
            return started
        except (OSError, ValueError):
            self._processes.release((session,))
            raise
        finally:
            self._processes.end()
            if opened >= 0:
                os.close(opened)

    def _files_of(self, name: str) -> tuple[str, ...]:
        """Return the files that a program can be, as execvp(3) searches PATH."""
        files = self._files.get(name)
        if files is None:
            files = (name,)
            if name and "/" not in name:
                path = environ_dict().get("PATH", DEFAULT_PATH)
                files = tuple(f"{part or '.'}/{name}" for part in path.split(":"))
            self._files[name] = files
        return files
