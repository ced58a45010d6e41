"""Preloaded applications: a Python function, imported once and forked per session.

Knows processes, no link and no session protocol. To its function a copy is like a fresh
interpreter. It has pipes on 0, 1 and 2 and no other descriptors, its own process group,
and the session's environment. Signals are as the module left them, random state is
fresh, and the exit status is that of Python. Two things differ: modules are already
imported, and unwritten memory pages are shared. gc.freeze() keeps the garbage collector
from writing to these pages (1.0 MB private instead of 6.6).

A page is private once the parent or the copy has written to it, and each use of an
object writes its reference count. So a copy runs little Python before its function:
what can be prepared is prepared in the parent, and modules in C are used directly.

All copies run as the same user. PR_SET_DUMPABLE keeps them from inspecting each other.
Nor can other processes read the environment of a copy. So it is recognized by its name,
the beginning of its session id.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import os
import sys
import threading

from chimirror.builtin_modules import signal
from chimirror.io import fds
from chimirror.io.loop import EventLoop
from chimirror.log.stderr import captured
from chimirror.process import child_setup, children
from chimirror.process.reaper import MAX_NAME, SESSION_VARIABLE
from chimirror.process.spawner import CONTROL_FD, Spawner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, NoReturn, TypeAlias

    from chimirror.io.loop import EventLoop
    from chimirror.process.reaper import Sweeper
    from chimirror.process.spawner import Program, SpawnRequest

    # Variables that differ in a copy. None removes one.
    Changes: TypeAlias = dict[bytes, bytes | None]

ALL_SIGNALS = signal.valid_signals()
EX_INTERNAL = 1  # status of a Python that ends by an exception
EX_UNFLUSHED = 120  # status of a Python that could not flush its output


class PreloadError(Exception):
    """The application cannot be preloaded. The text says why."""


def load_function(spec: str) -> Callable[[], object]:
    """Import MODULE:FUNCTION, from the current directory first.

    Raises:
        PreloadError: There is no such function, or the process cannot be forked safely.
        Exception: an exception of the module.
    """
    module, _, path = spec.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        function: object = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise PreloadError(
            f"{error}; modules are searched in {sys.path[0]} first, then where "
            f"{sys.executable} has them"
        ) from None
    for name in path.split("."):
        if not hasattr(function, name):
            raise PreloadError(f"module {module} has no {path}")
        function = getattr(function, name)
    if not callable(function):
        raise PreloadError(f"{path} is not a function")
    _refuse_threads()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # otherwise every copy would write it again
    return function


def _refuse_threads() -> None:
    """Reject a module with threads: a fork has one thread, and keeps others' locks."""
    try:
        count = len(os.listdir("/proc/self/task"))
    except OSError:
        count = threading.active_count()
    if count > 1:
        names = [
            thread.name
            for thread in threading.enumerate()
            if thread.name != "MainThread"
        ]
        python_names = f" ({', '.join(names)})" if names else ""
        raise PreloadError(
            f"importing it started {count - 1} threads{python_names}, and a copy would "
            "have none of them; start threads when the function is called"
        )


class ForkSpawner(Spawner):
    """Spawner that forks copies of a function which has been loaded.

    Freezes all objects of this process, which then collects no garbage.

    Args:
        loop: event loop of this process.
        spec: MODULE:FUNCTION.
        function: the result of `load_function`.
        sweeper: ends strays. By default a StraySweeper of this process.
    """

    __slots__ = ("_environment", "_function", "_max_fd", "_spec", "_streams")

    def __init__(
        self,
        loop: EventLoop,
        spec: str,
        function: Callable[[], object],
        sweeper: Sweeper | None = None,
    ) -> None:
        super().__init__(loop, sweeper)
        self._spec = spec
        self._function = function
        self._environment = dict(os.environb)
        self._streams = _make_streams()
        self._max_fd = fds.highest()  # without close_range(2), each number is tried
        gc.collect()
        gc.disable()
        gc.freeze()

    def _execute(
        self, request: SpawnRequest, child_fds: dict[int, int]
    ) -> tuple[int, int]:
        program, changes = request.program, self._changes_to(request.environment)
        # A signal that arrives early has to wait until the copy is ready.
        previous = signal.pthread_sigmask(signal.SIG_BLOCK, ALL_SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                self._run_child(program, changes, child_fds, request.cgroup)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, previous)
        if not program.pty:  # a group leader could not become a session leader
            try:
                os.setpgid(pid, pid)  # in parent and child: the first call counts
            except OSError:
                pass  # it has ended already
        return pid, -1

    def _changes_to(self, environment: Mapping[str, str]) -> Changes:
        """Return how this environment differs from that of this process."""
        encoded = {
            os.fsencode(name): os.fsencode(value) for name, value in environment.items()
        }
        changes: Changes = {
            name: value
            for name, value in encoded.items()
            if self._environment.get(name) != value
        }
        removed = self._environment.keys() - encoded.keys()
        return changes | dict.fromkeys(removed)

    def _run_child(
        self, program: Program, changes: Changes, pipes: dict[int, int], cgroup: str
    ) -> NoReturn:
        """Run the function in the copy, and never return.

        The frames below keep the objects of the parent from being finalized. Their
        descriptor numbers may belong to the application by then.
        """
        status = os.EX_SOFTWARE
        try:
            if cgroup:
                child_setup.join_cgroup(cgroup)
            _prefer_for_oom_kill()
            # its descriptors may have the numbers of these pipes
            self._loop.release_after_fork()
            child_setup.set_descriptors(pipes, pty=program.pty)
            os.closerange(CONTROL_FD + (CONTROL_FD in pipes), self._max_fd + 1)
            if program.user_ids:
                child_setup.switch_user(program.user_ids, pty=program.pty)
            _change_environment(changes)
            sys.argv = [self._spec]
            atexit._clear()  # noqa: SLF001 (the parent's, as in multiprocessing)
            sys.stdin, sys.stdout, sys.stderr = self._streams
            signal.signal(signal.SIGTTOU, signal.SIG_DFL)  # ignored below a guardian
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            gc.enable()
            status = _call(self._function)
        except BaseException:  # noqa: BLE001 (told, and the process ends)
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status & 0xFF)


def _change_environment(changes: Changes) -> None:
    for name, value in changes.items():
        if value is None:
            del os.environb[name]
        else:
            os.environb[name] = value
    session = os.environb.get(SESSION_VARIABLE.encode(), b"")
    children.set_name(session[:MAX_NAME])


def _prefer_for_oom_kill() -> None:
    """Make the kernel end this copy before its parent when memory runs out.

    The copy is as little dumpable as its parent, so root owns the file. A copy of
    another user opens it in a short moment in which it is dumpable.
    """
    if not children.prefer_for_oom_kill("self"):
        children.set_dumpable(True)
        children.prefer_for_oom_kill("self")
        children.set_dumpable(False)


def _make_streams() -> tuple[io.TextIOWrapper, io.TextIOWrapper, io.TextIOWrapper]:
    """Make stdin, stdout and stderr of the copies, like those of an unbuffered Python.

    To make them takes 110 kB of memory, so it is done once. A stream stores if its
    descriptor is seekable: meanwhile 0, 1 and 2 are pipes, as in a copy.
    """
    ends = os.pipe()
    previous = [os.dup(number) for number in range(3)]
    for number in range(3):
        os.dup2(ends[number > 0], number)
    try:
        return (
            _open(0, "r", sys.stdin, "<stdin>"),
            _open(1, "w", sys.stdout, "<stdout>"),
            _open(2, "w", sys.stderr, "<stderr>"),
        )
    finally:
        for number, fd in enumerate(previous):
            os.dup2(fd, number)
        for fd in (*ends, *previous):
            os.close(fd)


def _open(fd: int, mode: str, previous: object, name: str) -> io.TextIOWrapper:
    raw: Any = io.FileIO(fd, mode, closefd=False)
    raw.name = name
    if mode == "r":
        raw = io.BufferedReader(raw)
    coding = _coding(previous)
    stream: Any = io.TextIOWrapper(raw, *coding, newline="\n", write_through=True)
    stream.mode = mode
    opened: io.TextIOWrapper = stream
    return opened


def _coding(previous: object) -> tuple[str, str]:
    encoding = getattr(previous, "encoding", None) or "utf-8"
    return encoding, getattr(previous, "errors", None) or "strict"


def _call(function: Callable[[], object]) -> int:
    """Call the function. Returns its exit status after the exit handlers of Python."""
    try:
        status = _status(function())
    except SystemExit as leaving:
        status = _status(leaving.code)
    except BaseException as error:  # noqa: BLE001 (it is the application's)
        sys.excepthook(type(error), error, error.__traceback__)
        status = EX_INTERNAL
        if isinstance(error, KeyboardInterrupt):
            status = -signal.SIGINT
    threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001
    atexit._run_exitfuncs()  # noqa: SLF001
    status = _flush() or status
    if status == -signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    return status


def _status(code: object) -> int:
    """Return the exit status for an argument of sys.exit."""
    if code is None:
        return 0
    if isinstance(code, int):
        return code
    print(code, file=sys.stderr)  # noqa: T201
    return EX_INTERNAL


def _flush() -> int:
    """Flush the streams, which the module may have stored when it was imported."""
    status = 0
    for stream in (sys.stdout, sys.stderr):
        try:
            if not stream.closed:
                stream.flush()
        except (OSError, ValueError):
            status = EX_UNFLUSHED
    return status


def make_spawner(
    loop: EventLoop,
    preload: str | None,
    environment: Mapping[str, str],
    sweeper: Sweeper | None = None,
) -> Spawner:
    """Return a spawner for the command line, with the preloaded function if any.

    Args:
        loop: event loop of this process.
        preload: MODULE:FUNCTION to fork, or None to start programs.
        environment: os.environ while the module is imported.
        sweeper: ends strays. By default a StraySweeper of this process.

    Raises:
        PreloadError: The reason, in one line. An exception of the module is printed on
            stderr.
    """
    if preload is None:
        return Spawner(loop, sweeper)
    os.environ.clear()
    os.environ.update(environment)
    with captured():
        function = _import(preload)
    return ForkSpawner(loop, preload, function, sweeper)


def _import(preload: str) -> Callable[[], object]:
    try:
        return load_function(preload)
    except PreloadError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 (the application's own)
        sys.excepthook(type(error), error, error.__traceback__)
        raise PreloadError(f"importing {preload} failed") from None
