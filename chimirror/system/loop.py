"""The loop: readiness, time and signals, for one session or for fifty thousand.

It moves no bytes and knows no protocol: an *owner* registers a descriptor and is told
when it is ready, or arms its one timer and is told when it is due. epoll(7) where there
is one, the standard selectors (kqueue) elsewhere.

Two rules keep descriptor numbers honest: a descriptor leaves the poller before it is
closed, and it is closed at the end of the turn, so that a number that is reused cannot
receive an event of its former owner.
"""

from __future__ import annotations

import select
from time import monotonic

from chimirror.system.lean import os, signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Protocol

    Disposition = Callable[[int, FrameType | None], object] | int | None

    class Owner(Protocol):
        """Who is told of a descriptor's readiness."""

        def on_event(self, fd: int, events: int) -> None: ...

        def on_fault(self, error: Exception) -> None: ...

    class Timed(Owner, Protocol):
        """An owner with a timer; the loop keeps its books in the two fields."""

        deadline: float
        armed: int

        def on_timer(self, now: float) -> None: ...

    class Poller(Protocol):
        """The verbs of select.epoll."""

        def register(self, fd: int, eventmask: int) -> None: ...

        def modify(self, fd: int, eventmask: int) -> None: ...

        def unregister(self, fd: int) -> None: ...

        def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]: ...

        def close(self) -> None: ...


# The values of epoll_ctl(2), so that the fallback needs no translation of ours.
READ = 0x1
WRITE = 0x4
ERROR = 0x8
HANGUP = 0x10
PEER_CLOSED = 0x2000
EXCLUSIVE = 1 << 28

NEVER = float("inf")
NO_TICK = 1 << 62
TICKS = 32  # timer buckets per second
HORIZON = 30.0  # seconds; bounds the number of buckets
BATCH = 256  # events per turn


class Loop:
    """Readiness, timers and signals of one process.

    Args:
        clock: monotonic seconds; injected by tests.
        poller: the verbs of select.epoll; by default the best there is.
    """

    __slots__ = (
        "_buckets",
        "_closing",
        "_first",
        "_handlers",
        "_latest",
        "_jobs",
        "_masks",
        "_owners",
        "_poller",
        "_wake",
        "clock",
        "now",
        "running",
    )

    def __init__(
        self, clock: Callable[[], float] = monotonic, poller: Poller | None = None
    ) -> None:
        self.clock = clock
        self.now = clock()
        self.running = True
        self._poller = poller or best_poller()
        self._owners: list[Owner | None] = []
        self._masks: list[int] = []
        self._closing: list[int] = []
        self._jobs: list[Callable[[], None]] = []
        self._buckets: dict[int, list[Timed]] = {}
        self._first = NO_TICK  # the earliest of the buckets
        self._latest = 0  # the tick of whoever was armed last
        self._handlers: dict[int, tuple[Callable[[], None], Disposition]] = {}
        self._wake: tuple[int, int] | None = None

    # Descriptors

    def watch(self, fd: int, owner: Owner, mask: int) -> None:
        """Report `mask` of `fd` to `owner`; 0 stops all reports, errors included."""
        masks = self._masks
        if fd >= len(masks):
            missing = fd + 64 - len(masks)
            masks.extend([0] * missing)
            self._owners.extend([None] * missing)
        self._owners[fd] = owner if mask else None
        old = masks[fd]
        if mask == old:
            return
        # epoll_ctl(2): what is or becomes exclusive cannot be modified.
        if old and (not mask or (old | mask) & EXCLUSIVE):
            masks[fd] = old = 0
            self._poller.unregister(fd)
        if mask:
            (self._poller.modify if old else self._poller.register)(fd, mask)
            masks[fd] = mask

    def close(self, fd: int) -> None:
        """Take `fd` out of the poller now and close it when this turn ends."""
        if fd < len(self._masks) and self._masks[fd]:
            self._poller.unregister(fd)
            self._masks[fd] = 0
            self._owners[fd] = None
        self._closing.append(fd)

    # Time

    def arm(self, owner: Timed, deadline: float) -> None:
        """Call `owner.on_timer` once `deadline` has passed; replaces its earlier one.

        A later deadline costs nothing: the bucket that holds the owner moves it on
        when it comes up. One that has passed is served in a later turn: whoever arms
        itself so from its timer delays nobody else.
        """
        owner.deadline = deadline
        due = min(max(deadline, self.now), self.now + HORIZON)
        tick = int(due * TICKS) + 1
        if tick == self._latest:
            tick = self._latest  # the same object: 32 bytes less for each owner
        self._latest = tick
        if owner.armed:
            if owner.armed <= tick:
                return
            self._unbook(owner)
        owner.armed = tick
        bucket = self._buckets.get(tick)
        if bucket is None:
            self._buckets[tick] = [owner]
            if tick < self._first:
                self._first = tick
        else:
            bucket.append(owner)

    def disarm(self, owner: Timed) -> None:
        """Forget the owner's timer, and the owner: it may be about to die."""
        owner.deadline = NEVER
        if owner.armed:
            self._unbook(owner)

    def _unbook(self, owner: Timed) -> None:
        """Take the owner out of its bucket, unless that is just being served."""
        bucket = self._buckets.get(owner.armed)
        if bucket is not None:
            bucket.remove(owner)
        owner.armed = 0

    # Signals

    def on_signal(self, number: int, handler: Callable[[], None]) -> None:
        """Call `handler` from the loop, never from the signal's context."""
        if self._wake is None:
            self._wake = os.pipe()
            for fd in self._wake:
                os.set_blocking(fd, False)
            signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)
            self.watch(self._wake[0], self, READ)
        previous = signal.signal(number, _wake_only)
        # A blocked signal is inherited so, and would never come.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (number,))
        if number in self._handlers:
            previous = self._handlers[number][1]
        self._handlers[number] = (handler, previous)

    def on_event(self, fd: int, events: int) -> None:
        """The wake-up pipe is readable: serve the signals whose numbers it holds."""
        for number in sorted(set(os.read(fd, 4096))):
            if number in self._handlers:
                self._handlers[number][0]()

    def on_fault(self, error: Exception) -> None:
        """A signal's handler failed: a bug that no owner could answer for."""
        raise error

    # Turns

    def run(self) -> None:
        """Serve until `running` is false."""
        while self.running:
            self.turn()

    def turn(self) -> None:
        """Wait for the next events or timer and serve them."""
        events = self._poller.poll(self._patience(), BATCH)
        self.now = self.clock()
        owners = self._owners
        for fd, mask in events:
            owner = owners[fd]
            if owner is not None:
                try:
                    owner.on_event(fd, mask)
                except Exception as error:  # noqa: BLE001 (its own owner answers)
                    owner.on_fault(error)
        if self._first <= self.now * TICKS:
            self._expire()
        if self._jobs:
            self._work()
        if self._closing:
            self._close_now()

    def at_end(self, job: Callable[[], None]) -> None:
        """Call `job` once when this turn ends: what all its events have in common."""
        self._jobs.append(job)

    def close_all(self) -> None:
        """Close the poller and the wake-up pipe; restore signal handlers."""
        for fd in self._restore_signals():
            self.close(fd)
        self._close_now()
        self._poller.close()

    def abandon(self) -> None:
        """In a forked child: let go of the parent's loop without touching it.

        The poller is one object in both processes: nothing may be unregistered.
        """
        self._closing += self._restore_signals()
        self._close_now()
        self._poller.close()

    def _restore_signals(self) -> tuple[int, ...]:
        """Give signals back to whoever had them; what is left of the wake-up pipe."""
        for number, (_, previous) in self._handlers.items():
            signal.signal(number, previous)
        self._handlers.clear()
        if self._wake is None:
            return ()
        signal.set_wakeup_fd(-1)
        wake, self._wake = self._wake, None
        return wake

    def _work(self) -> None:
        jobs, self._jobs = self._jobs, []
        for job in jobs:
            job()

    def _patience(self) -> float:
        if self._closing or self._jobs:
            return 0
        if self._first == NO_TICK:
            return -1
        left = self._first / TICKS - self.clock()
        return left if left > 0.0 else 0.0

    def _expire(self) -> None:
        """Serve the buckets that are due; there are never more than HORIZON's."""
        now = self.now
        while self._first <= now * TICKS:
            tick = self._first
            bucket = self._buckets.pop(tick)
            self._first = min(self._buckets, default=NO_TICK)
            for owner in bucket:
                self._expire_one(owner, tick)

    def _expire_one(self, owner: Timed, tick: int) -> None:
        if owner.armed != tick:
            return  # another one of this bucket has disarmed it
        owner.armed = 0
        if owner.deadline > self.now:
            if owner.deadline != NEVER:
                self.arm(owner, owner.deadline)
            return
        try:
            owner.on_timer(self.now)
        except Exception as error:  # noqa: BLE001 (its own owner answers)
            owner.on_fault(error)

    def _close_now(self) -> None:
        closing, self._closing = self._closing, []
        for fd in closing:
            os.close(fd)


def best_poller() -> Poller:
    """epoll where there is one, else the standard selectors' choice."""
    if hasattr(select, "epoll"):
        return select.epoll()
    from chimirror.system.selecting import SelectorPoller

    return SelectorPoller()


def _wake_only(number: int, frame: object) -> None:
    """The handler of every signal: the wake-up descriptor does the rest."""
