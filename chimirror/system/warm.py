"""Warm applications: a Python function, imported once and forked for each session.

Knows processes, no link and no session protocol. A copy is to its function what a fresh
interpreter would be: pipes on 0, 1 and 2 and nothing else open, its own process group,
signals as its module left them, the session's environment, fresh random state, and the
exit status that Python would give it. What is different: modules are there, and pages
that are only read are shared. gc.freeze() keeps the collector from writing to them
(1.0 MB private instead of 6.6).

A copy shares its user with all others: PR_SET_DUMPABLE keeps them from looking into
each other. It is recognized by its name, the beginning of its session id, because
its environment can be seen by nobody.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import os
import signal
import sys
import threading

from chimirror.system import children, fds, prctl
from chimirror.system.child import CONTROL_FD, Starter
from chimirror.system.strays import NAME, SESSION_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, NoReturn

    from chimirror.system.child import Program, Undertaker
    from chimirror.system.loop import Loop

HIGHEST = 1 << 20  # descriptor numbers to close, where close_range(2) is not known
EVERY_SIGNAL = signal.valid_signals()
EX_INTERNAL = 1  # of a Python that ends by an exception
EX_UNFLUSHED = 120  # of one that could not write what it had buffered


class CannotPreload(Exception):
    """The application cannot be preloaded; the text says why."""


def load(spec: str) -> Callable[[], object]:
    """Import MODULE:FUNCTION, from the current directory first; freeze what is there.

    Raises:
        CannotPreload: there is no such thing, or it cannot be forked.
        Exception: whatever the module raises.
    """
    module, _, path = spec.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        function: object = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise CannotPreload(
            f"{error}; modules are searched in {sys.path[0]} first, then where "
            f"{sys.executable} has them"
        ) from None
    for name in path.split("."):
        if not hasattr(function, name):
            raise CannotPreload(f"module {module} has no {path}")
        function = getattr(function, name)
    if not callable(function):
        raise CannotPreload(f"{path} is no function")
    _refuse_threads()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # else every copy would write it again
    gc.collect()
    gc.disable()
    gc.freeze()
    return function


def _refuse_threads() -> None:
    """A fork has only the thread that forks: locks of the others stay locked."""
    try:
        count = len(os.listdir("/proc/self/task"))
    except OSError:
        count = threading.active_count()
    if count > 1:
        names = [one.name for one in threading.enumerate() if one.name != "MainThread"]
        of_python = f" ({', '.join(names)})" if names else ""
        raise CannotPreload(
            f"importing it started {count - 1} threads{of_python}, and a copy would "
            "have none of them; start threads when the function is called"
        )


class Warm(Starter):
    """Starts copies of a function that has been loaded.

    Args:
        spec: MODULE:FUNCTION.
        function: what `load` returned.
    """

    __slots__ = ("_function", "_spec")

    def __init__(
        self,
        loop: Loop,
        spec: str,
        function: Callable[[], object],
        undertaker: Undertaker | None = None,
    ) -> None:
        super().__init__(loop, undertaker)
        self._spec = spec
        self._function = function

    def _execute(
        self, program: Program, environment: Mapping[str, str], pipes: dict[int, int]
    ) -> int:
        # A signal that comes before the copy is ready must find it ready.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, EVERY_SIGNAL)
        try:
            pid = os.fork()
            if pid == 0:
                self._become(program, environment, pipes)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if not program.pty:  # else it could not lead a session
            try:
                os.setpgid(pid, pid)  # here and there: whoever is first
            except OSError:
                pass  # it has ended already
        return pid

    def _become(
        self, program: Program, environment: Mapping[str, str], pipes: dict[int, int]
    ) -> NoReturn:
        """In the copy: never return.

        The frames below us keep all that belongs to our parent from being finalized:
        its numbers of descriptors may be the application's by then.
        """
        status = os.EX_SOFTWARE
        try:
            self._loop.abandon()  # whose descriptors may have the numbers of ours
            if program.pty:
                os.login_tty(pipes[0])
            else:
                _take_place(pipes)
            if CONTROL_FD in pipes:  # last: the number may have been that of another
                _take_channel(pipes[CONTROL_FD])
            os.closerange(CONTROL_FD + (CONTROL_FD in pipes), HIGHEST)
            _take_environment(environment)
            sys.argv = [self._spec]
            atexit._clear()  # noqa: SLF001 (the parent's, as in multiprocessing)
            _open_streams()
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            gc.enable()
            status = _call(self._function)
        except BaseException:  # noqa: BLE001 (told, and the process ends)
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status & 0xFF)


def _take_place(pipes: dict[int, int]) -> None:
    os.setpgid(0, 0)
    for number in (0, 1, 2):
        if number in pipes:
            os.dup2(pipes[number], number)
    if 2 not in pipes:
        fds.silence(2)


def _take_channel(fd: int) -> None:
    if fd == CONTROL_FD:
        os.set_inheritable(fd, True)
    else:
        os.dup2(fd, CONTROL_FD)


def _take_environment(environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    session = environment.get(SESSION_VARIABLE, "")
    prctl.set_name(session.encode(errors="replace")[:NAME])
    children.sacrifice("self")
    prctl.set_dumpable(False)  # after which the file is root's


def _open_streams() -> None:
    """What sys has for descriptors 0, 1 and 2 in a Python that does not buffer."""
    sys.stdin = _open(0, "r", sys.stdin, "<stdin>")
    sys.stdout = _open(1, "w", sys.stdout, "<stdout>")
    sys.stderr = _open(2, "w", sys.stderr, "<stderr>")


def _open(fd: int, mode: str, before: object, name: str) -> io.TextIOWrapper:
    raw: Any = io.FileIO(fd, mode, closefd=False)
    raw.name = name
    if mode == "r":
        raw = io.BufferedReader(raw)
    coding = _coding(before)
    stream: Any = io.TextIOWrapper(raw, *coding, newline="\n", write_through=True)
    stream.mode = mode
    opened: io.TextIOWrapper = stream
    return opened


def _coding(before: object) -> tuple[str, str]:
    encoding = getattr(before, "encoding", None) or "utf-8"
    return encoding, getattr(before, "errors", None) or "strict"


def _call(function: Callable[[], object]) -> int:
    """The function's exit status, after all that Python does at its end."""
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
    """See sys.exit."""
    if code is None:
        return 0
    if isinstance(code, int):
        return code
    print(code, file=sys.stderr)  # noqa: T201
    return EX_INTERNAL


def _flush() -> int:
    """Streams that the module took at its import lead to the same descriptors."""
    status = 0
    for stream in (sys.stdout, sys.stderr):
        try:
            if not stream.closed:
                stream.flush()
        except (OSError, ValueError):
            status = EX_UNFLUSHED
    return status
