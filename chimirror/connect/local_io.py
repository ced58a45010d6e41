"""Local streams of chimirror-connect: stdin, stdout, stderr, and signals.

Knows nothing of WebSockets. Other processes share the three streams (a shell, a
pipeline). O_NONBLOCK belongs to the shared open file, so this module never sets it.
Instead, one thread blocks in read(2) and another one in write(2). A single thread
writes stdout and stderr, which keeps their order.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import threading
from contextlib import contextmanager

from chimirror.client.framing import CHUNK_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class SignalPipe:
    """Pipe that wakes the main thread. A byte above 0 is a signal number."""

    __slots__ = ("_read_fd", "_write_fd")

    def __init__(self) -> None:
        self._read_fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def wake(self) -> None:
        try:
            os.write(self._write_fd, b"\0")
        except BlockingIOError:
            pass  # full, so that the reader wakes anyway

    def wait(self, timeout: float | None = None) -> list[int]:
        """Wait for signals or a call of `wake`, for at most `timeout` seconds.

        Returns:
            The signals in order.
        """
        if not _wait_for(self._read_fd, select.POLLIN, timeout):
            return []
        return [number for number in os.read(self._read_fd, 65536) if number]

    @contextmanager
    def signals(self, numbers: Iterable[int]) -> Iterator[None]:
        """Make signals wake the main thread, except those that nohup(1) ignores."""
        handled = [n for n in numbers if signal.getsignal(n) is not signal.SIG_IGN]
        before = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        previous = [(n, signal.signal(n, _only_wake)) for n in handled]
        try:
            yield
        finally:
            for number, handler in previous:
                signal.signal(number, handler)
            signal.set_wakeup_fd(before)


def _only_wake(number: int, frame: object) -> None:
    """Do nothing: set_wakeup_fd has already written the number to the pipe."""


class RelayThread:
    """Thread that runs a function which copies bytes.

    Attributes:
        ended: The function has returned or raised.
        error: The exception that it raised.
    """

    __slots__ = ("ended", "error", "_signal_pipe", "_thread")

    def __init__(
        self, name: str, relay: Callable[[], None], signal_pipe: SignalPipe
    ) -> None:
        self.ended = False
        self.error: Exception | None = None
        self._signal_pipe = signal_pipe
        # A daemon thread, because a blocking read of a terminal cannot be interrupted.
        self._thread = threading.Thread(
            target=self._run, args=(relay,), name=name, daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def _run(self, relay: Callable[[], None]) -> None:
        try:
            relay()
        except Exception as error:  # noqa: BLE001 it is raised where it is awaited
            self.error = error
        finally:
            self.ended = True
            self._signal_pipe.wake()


def read(fd: int) -> bytes:
    """Read the available bytes, b"" at the end.

    Raises:
        OSError: The read failed.
    """
    while True:
        try:
            return os.read(fd, CHUNK_SIZE)
        except BlockingIOError:  # another process has set O_NONBLOCK
            _wait_for(fd, select.POLLIN)
        except OSError as error:
            if error.errno != errno.EIO:  # hang-up, or a terminal of another session
                raise
            return b""


def write(fd: int, data: bytes) -> None:
    """Write all bytes.

    Raises:
        OSError: The write failed.
    """
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            _wait_for(fd, select.POLLOUT)


def is_writable(fd: int, timeout: float) -> bool:
    """Wait until the descriptor is writable. Returns False after `timeout` seconds."""
    return _wait_for(fd, select.POLLOUT, timeout)


def _wait_for(fd: int, event: int, timeout: float | None = None) -> bool:
    poll = select.poll()
    poll.register(fd, event)
    return bool(poll.poll(None if timeout is None else min(timeout, 86400) * 1000))


def open_standard_fds() -> None:
    """Open /dev/null for closed descriptors among 0, 1 and 2.

    Otherwise a socket would get the number. A closed stdin then reads as empty, and
    writes to a closed stdout or stderr fail.
    """
    fd = 0
    while fd <= 2:
        fd = os.open(os.devnull, os.O_RDONLY)
    os.close(fd)
