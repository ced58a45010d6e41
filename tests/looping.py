"""Loops for tests: over either poller, with real time or with a clock that is told.

Law: with `Slumber` no time passes but what a poll was willing to wait, so that timers
are tested to the tick and nobody sleeps. Ignorance: nothing of sessions.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

import pytest

from chimirror.system.loop import NEVER, Loop, best_poller
from chimirror.system.prctl import PR_SET_CHILD_SUBREAPER
from chimirror.system.selecting import SelectorPoller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.system.loop import Poller

BOTH_POLLERS = pytest.mark.parametrize(
    "poller", [best_poller, SelectorPoller], ids=["epoll", "selectors"]
)


class Slumber:
    """A clock, and a poller without descriptors that lets it pass."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def register(self, fd: int, eventmask: int) -> None:
        """Nothing is ever ready."""

    modify = register

    def unregister(self, fd: int) -> None:
        """It never was."""

    def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
        assert timeout >= 0, "it would sleep for ever"
        self.now += timeout
        return []

    def close(self) -> None:
        """It holds nothing."""


class Timer:
    """An owner that notes when it is called."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.deadline = NEVER
        self.armed = 0
        self.calls: list[float] = []
        self.faults: list[Exception] = []

    def on_timer(self, now: float) -> None:
        self.calls.append(now)

    def on_event(self, fd: int, events: int) -> None:
        raise AssertionError("it watches nothing")

    def on_fault(self, error: Exception) -> None:
        self.faults.append(error)


@contextmanager
def looping(
    poller: Callable[[], Poller] = best_poller,
    clock: Callable[[], float] = monotonic,
) -> Iterator[Loop]:
    """A loop that is closed afterwards, with every descriptor that is still to be."""
    loop = Loop(clock, poller())
    try:
        yield loop
    finally:
        loop.close_all()


@contextmanager
def slumbering() -> Iterator[Loop]:
    """A loop in which time passes as fast as it can."""
    slumber = Slumber()
    with looping(lambda: slumber, slumber) as loop:
        yield loop


def turn_until(loop: Loop, ask: Callable[[], object]) -> None:
    """Serve until `ask` says something true; pytest-timeout bounds it."""
    while not ask():
        loop.turn()


@contextmanager
def subreaping() -> Iterator[None]:
    """What makes this process a subreaper has its effect only in here."""
    try:
        yield
    finally:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def fill(fd: int) -> int:
    """Write until the kernel takes no more; how much that was."""
    os.set_blocking(fd, False)
    written = 0
    for size in (65536, 4096, 1):
        try:
            while True:
                written += os.write(fd, bytes(size))
        except BlockingIOError:
            pass
    return written


class Warp(Slumber):
    """Real descriptors; time passes only while none of them is ready."""

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
