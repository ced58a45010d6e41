"""This process's own ends: stdin, stdout, stderr, and the signals that wake us.

Knows no WebSocket. The three streams belong to others as well (a shell, a pipeline):
O_NONBLOCK is a property of the open file that all of them share, so it is never
set. One thread blocks in read(2) instead, another in write(2). One writer for stdout
and stderr keeps the order in which they came.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import threading
from contextlib import contextmanager

from chimirror.client.framing import CHUNK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class Wake:
    """A pipe that ends our wait; a byte above 0 is a signal's number."""

    __slots__ = ("_reader", "_writer")

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def poke(self) -> None:
        try:
            os.write(self._writer, b"\0")
        except BlockingIOError:
            pass  # full: it will wake us anyway

    def wait(self) -> list[int]:
        """Wait until it is poked, or signals come: these, in order."""
        _await(self._reader, select.POLLIN)
        return [number for number in os.read(self._reader, 65536) if number]

    @contextmanager
    def signals(self, numbers: Iterable[int]) -> Iterator[None]:
        """Let these signals wake us, but leave alone what nohup(1) ignores."""
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
    """The number is already in the pipe (set_wakeup_fd)."""


class Carrier:
    """Carries bytes in a thread, until its function returns or raises.

    Attributes:
        ended: it has.
        problem: what it raised.
    """

    __slots__ = ("ended", "problem", "_wake", "_thread")

    def __init__(self, name: str, carry: Callable[[], None], wake: Wake) -> None:
        self.ended = False
        self.problem: Exception | None = None
        self._wake = wake
        # A daemon: nothing can interrupt a read of a terminal, and nobody needs to.
        self._thread = threading.Thread(
            target=self._run, args=(carry,), name=name, daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def _run(self, carry: Callable[[], None]) -> None:
        try:
            carry()
        except Exception as error:  # noqa: BLE001 it is raised where it is awaited
            self.problem = error
        finally:
            self.ended = True
            self._wake.poke()


def read(fd: int) -> bytes:
    """Read what there is, b"" at the end.

    Raises:
        OSError: it cannot be read.
    """
    while True:
        try:
            return os.read(fd, CHUNK)
        except BlockingIOError:  # somebody else has set O_NONBLOCK
            _await(fd, select.POLLIN)
        except OSError as error:
            if error.errno != errno.EIO:  # the terminal has gone, or is not ours
                raise
            return b""


def write(fd: int, data: bytes) -> None:
    """Write all of it.

    Raises:
        OSError: it cannot be written.
    """
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            _await(fd, select.POLLOUT)


def takes(fd: int, patience: float) -> bool:
    """Whether it can be written, within so many seconds."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(patience * 1000))


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
