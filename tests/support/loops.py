"""Event loops for tests: with either poller, in real time or with a fake clock.

With `FakeTime` no time passes but the timeouts of polls, so timers are tested to the
tick without sleeping. Knows nothing of sessions.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

import pytest

from chimirror.io.loop import NEVER, EventLoop, best_poller
from chimirror.io.selector_poller import SelectorPoller
from chimirror.process.children import PR_SET_CHILD_SUBREAPER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.io.loop import Poller

BOTH_POLLERS = pytest.mark.parametrize(
    "poller", [best_poller, SelectorPoller], ids=["epoll", "selectors"]
)


class FakeTime:
    """Clock and poller without descriptors: a poll advances the clock."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def register(self, fd: int, eventmask: int) -> None:
        """No descriptor is ever ready."""

    modify = register

    def unregister(self, fd: int) -> None:
        """No descriptor was registered."""

    def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
        assert timeout >= 0, "it would sleep for ever"
        self.now += timeout
        return []

    def close(self) -> None:
        """There is nothing to close."""


class Timer:
    """Timer handler that records its calls."""

    def __init__(self, loop: EventLoop) -> None:
        self.loop = loop
        self.deadline = NEVER
        self.armed = 0
        self.calls: list[float] = []
        self.faults: list[Exception] = []

    def on_timer(self, now: float) -> None:
        self.calls.append(now)

    def on_error(self, error: Exception) -> None:
        self.faults.append(error)


@contextmanager
def event_loop(
    poller: Callable[[], Poller] = best_poller,
    clock: Callable[[], float] = monotonic,
) -> Iterator[EventLoop]:
    """An event loop that is closed afterwards, with its pending descriptors."""
    loop = EventLoop(clock, poller())
    try:
        yield loop
    finally:
        loop.close_all()


@contextmanager
def fake_time_loop() -> Iterator[EventLoop]:
    """An event loop in which time passes without waiting."""
    fake_time = FakeTime()
    with event_loop(lambda: fake_time, fake_time) as loop:
        yield loop


def turn_until(loop: EventLoop, condition: Callable[[], object]) -> None:
    """Run turns until `condition` holds. pytest-timeout bounds the wait."""
    while not condition():
        loop.run_once()


@contextmanager
def subreaper() -> Iterator[None]:
    """Restore the subreaper setting of this process afterwards."""
    try:
        yield
    finally:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def fill(fd: int) -> int:
    """Write until the kernel takes no more. Returns the number of bytes."""
    os.set_blocking(fd, False)
    written = 0
    for size in (65536, 4096, 1):
        try:
            while True:
                written += os.write(fd, bytes(size))
        except BlockingIOError:
            pass
    return written


class FakeTimeWithPoller(FakeTime):
    """Clock and real poller: time passes only while no descriptor is ready."""

    def __init__(self, poller: Callable[[], Poller] = best_poller) -> None:
        super().__init__()
        self.poller = poller()

    def register(self, fd: int, eventmask: int) -> None:
        self.poller.register(fd, eventmask)

    def modify(self, fd: int, eventmask: int) -> None:
        self.poller.modify(fd, eventmask)

    def unregister(self, fd: int) -> None:
        self.poller.unregister(fd)

    def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
        return self.poller.poll(0, maxevents) or super().poll(timeout, maxevents)

    def close(self) -> None:
        self.poller.close()
