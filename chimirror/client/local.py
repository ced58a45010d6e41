"""This process's own ends: stdin, stdout, stderr, signals, and what wakes the loop.

Knows no WebSocket. The three streams belong to others as well (a shell, a pipeline):
O_NONBLOCK is a property of the open file that all of them share, so it is never
set. One thread blocks in read(2) instead, another in write(2); both only move bytes
and wake the loop, which decides. One writer for stdout and stderr keeps the order
in which they came.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import threading
from contextlib import contextmanager
from queue import SimpleQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Small enough in base64 for a server that was told --max-message 64K, large enough
# that the cost per message does not show (measured: 64 KiB is no faster).
CHUNK = 32 * 1024
AHEAD = 4  # chunks read before the loop has taken the first


class Wake:
    """A pipe that ends the loop's poll; a byte above 0 is a signal's number."""

    __slots__ = ("_reader", "_writer")

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        return self._reader

    def poke(self) -> None:
        try:
            os.write(self._writer, b"\0")
        except BlockingIOError:
            pass  # full: the loop will wake anyway

    def taken(self) -> list[int]:
        """Empty the pipe; the signals that have come, in order."""
        try:
            return [number for number in os.read(self._reader, 65536) if number]
        except BlockingIOError:
            return []

    @contextmanager
    def signals(self, numbers: Iterable[int]) -> Iterator[None]:
        """Let these signals wake the loop, but leave alone what nohup(1) ignores."""
        mine = [n for n in numbers if signal.getsignal(n) is not signal.SIG_IGN]
        before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        previous = [(n, signal.signal(n, _only_wake)) for n in mine]
        try:
            yield
        finally:
            for number, handler in previous:
                signal.signal(number, handler)
            signal.set_wakeup_fd(before)


def _only_wake(number: int, frame: object) -> None:
    """The number is already in the pipe (set_wakeup_fd): the loop acts on it."""


class Source:
    """Reads a descriptor in a thread, never more than AHEAD chunks ahead.

    Attributes:
        error: errno of the read that ended it, 0 for the end of the file.
    """

    __slots__ = ("_fd", "_wake", "_credit", "_chunks", "error")

    def __init__(self, fd: int, wake: Wake) -> None:
        self._fd = fd
        self._wake = wake
        self._credit: SimpleQueue[None] = SimpleQueue()
        self._chunks: SimpleQueue[bytes] = SimpleQueue()
        self.error = 0

    def start(self) -> None:
        for _ in range(AHEAD):
            self._credit.put(None)
        # A daemon: nothing can interrupt a read of a terminal, and nobody needs to.
        threading.Thread(target=self._run, name="stdin", daemon=True).start()

    def empty(self) -> bool:
        return self._chunks.empty()

    def take(self) -> bytes:
        """The next chunk, b"" at the end; only when not `empty`."""
        self._credit.put(None)
        return self._chunks.get_nowait()

    def _run(self) -> None:
        chunk = b"-"
        while chunk:
            self._credit.get()
            chunk = self._read()
            self._chunks.put(chunk)
            self._wake.poke()

    def _read(self) -> bytes:
        while True:
            try:
                return os.read(self._fd, CHUNK)
            except BlockingIOError:  # somebody else has set O_NONBLOCK
                _await(self._fd, select.POLLIN)
            except OSError as error:
                # EIO: the terminal has gone, or is not ours any more.
                self.error = 0 if error.errno == errno.EIO else error.errno or 0
                return b""


class Sink:
    """Writes to descriptors in a thread, in the order of `write`."""

    __slots__ = ("_wake", "_chunks", "_errors", "_queued", "_written", "_thread")

    def __init__(self, wake: Wake) -> None:
        self._wake = wake
        self._chunks: SimpleQueue[tuple[int, bytes]] = SimpleQueue()
        self._errors: dict[int, int] = {}
        self._queued = 0  # bytes; only the loop writes this one,
        self._written = 0  # and only the thread this one
        self._thread: threading.Thread | None = None

    def write(self, fd: int, data: bytes) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name="stdout", daemon=True
            )
            self._thread.start()
        self._queued += len(data)
        self._chunks.put((fd, data))

    @property
    def pending(self) -> int:
        """Bytes not written yet."""
        return self._queued - self._written

    def error(self, fd: int) -> int:
        """errno of the write that failed; the descriptor is left alone since."""
        return self._errors.get(fd, 0)

    def _run(self) -> None:
        while True:
            fd, data = self._chunks.get()
            if fd not in self._errors:
                self._write(fd, data)
            self._written += len(data)
            self._wake.poke()

    def _write(self, fd: int, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(fd, rest) :]
            except BlockingIOError:
                _await(fd, select.POLLOUT)
            except OSError as error:
                self._errors[fd] = error.errno or errno.EIO
                return


def _await(fd: int, event: int) -> None:
    poll = select.poll()
    poll.register(fd, event)
    poll.poll()


def occupy_standard_descriptors() -> None:
    """Fill those of 0, 1 and 2 that were closed, or a socket would get the number.

    A closed stdin reads as empty; a closed stdout or stderr refuses to be written.
    """
    fd = 0
    while fd <= 2:
        fd = os.open(os.devnull, os.O_RDONLY)
    os.close(fd)
