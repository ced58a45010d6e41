"""The event loop: readiness, timers and signals, for 1 to 50,000 sessions.

It moves no bytes and knows no protocol. A handler registers a descriptor and is called
when the descriptor is ready. Or it sets its one timer and is called when that is due.
Uses epoll(7) if available, otherwise the standard selectors (kqueue).

Two rules keep descriptor numbers unambiguous. A descriptor leaves the poller before it
is closed. And it is closed at the end of the turn, so that a reused number cannot
receive an event of its former handler.

A turn is short, whatever clients send. A handler processes a bounded number of items in
one call. It registers itself with `call_soon` for the rest, and waits in one queue with
all others. Each phase of a turn that can call thousands of handlers ends after
PHASE_TIME, and goes on in the next turn.
"""

from __future__ import annotations

import select
from time import monotonic

from chimirror.builtin_modules import OrderedDict, os, signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Protocol

    Disposition = Callable[[int, FrameType | None], object] | int | None

    class ReadinessHandler(Protocol):
        """Callbacks of a watched descriptor."""

        def on_event(self, fd: int, events: int) -> None:
            """Called when the descriptor is ready for one of the watched `events`."""

        def on_error(self, error: Exception) -> None:
            """Called when `on_event` raised."""

    class TimerHandler(Protocol):
        """Callbacks of a timer.

        Attributes:
            deadline: time at which the timer is due, or NEVER. Set by the loop.
            armed: tick of the bucket that holds this handler, or 0. Private to the
                loop.
        """

        deadline: float
        armed: int

        def on_timer(self, now: float) -> None:
            """Called when the deadline has passed."""

        def on_error(self, error: Exception) -> None:
            """Called when `on_timer` raised."""

    class RunnableHandler(Protocol):
        """Callbacks of a handler that has work left."""

        def on_turn(self) -> None:
            """Called once after `call_soon`."""

        def on_error(self, error: Exception) -> None:
            """Called when `on_turn` raised."""

    class Poller(Protocol):
        """The methods of select.epoll that the loop uses."""

        def register(self, fd: int, eventmask: int) -> None: ...

        def modify(self, fd: int, eventmask: int) -> None: ...

        def unregister(self, fd: int) -> None: ...

        def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]: ...

        def close(self) -> None: ...


# Values of epoll_ctl(2), so that epoll needs no translation.
READ = 0x1
WRITE = 0x4
ERROR = 0x8
HANGUP = 0x10
PEER_CLOSED = 0x2000
EXCLUSIVE = 1 << 28

NEVER = float("inf")
NO_TICK = 1 << 62
TICKS = 32  # timer buckets per second
HORIZON = 30.0  # seconds: bounds the number of buckets
BATCH = 256  # events per turn
# Seconds: the longest time for the timers, and for the handlers that have work left.
# After this time a turn is late.
PHASE_TIME = 0.005
TIMERS = 16  # timers between two looks at the clock
BUSY_WINDOW = 0.02  # seconds: the time over which a loop is found busy
IDLE_SHARE = 0.35  # of the window: a loop that waits for less is busy


class FatalErrorHandler:
    """Base of the handlers in which an internal error ends the process."""

    __slots__ = ()

    def on_error(self, error: Exception) -> None:
        """Called on an internal error. Raises it, which ends the process."""
        raise error


class EventLoop(FatalErrorHandler):
    """Dispatcher of readiness, timers and signals of one process.

    Args:
        clock: monotonic time in seconds. Tests inject another clock.
        poller: an object with the methods of select.epoll. By default the best poller
            of this system.

    Attributes:
        is_busy: it has hardly waited for events lately.
        is_late: this turn has taken longer than PHASE_TIME. Handlers process less.
        now: time at the start of this turn.
        running: `run` returns once this is False.
    """

    __slots__ = (
        "_buckets",
        "_closing",
        "_first_tick",
        "_signal_handlers",
        "_last_tick",
        "_after_turn",
        "_masks",
        "_handlers",
        "_heartbeat",
        "_poller",
        "_runnable",
        "_waited",
        "_wakeup_pipe",
        "_window_end",
        "clock",
        "is_busy",
        "is_late",
        "now",
        "running",
    )

    def __init__(
        self, clock: Callable[[], float] = monotonic, poller: Poller | None = None
    ) -> None:
        self.clock = clock
        self.now = clock()
        self.is_busy = False
        self.is_late = False
        self.running = True
        self._poller = poller or best_poller()
        self._handlers: list[ReadinessHandler | None] = []
        self._masks: list[int] = []
        self._closing: list[int] = []
        self._after_turn: list[Callable[[], None]] = []
        self._runnable: OrderedDict[RunnableHandler, None] = OrderedDict()
        self._heartbeat: Callable[[float], None] | None = None
        self._buckets: dict[int, list[TimerHandler]] = {}
        self._first_tick = NO_TICK  # the earliest bucket
        self._last_tick = 0  # tick of the timer that was set last
        self._signal_handlers: dict[int, tuple[Callable[[], None], Disposition]] = {}
        self._wakeup_pipe: tuple[int, int] | None = None
        self._waited = 0.0  # seconds in this window
        self._window_end = self.now + BUSY_WINDOW

    # Descriptors

    def watch(self, fd: int, handler: ReadinessHandler, mask: int) -> None:
        """Report the events in `mask` on `fd` to a handler.

        A mask of 0 stops all reports, errors included.
        """
        masks = self._masks
        if fd >= len(masks):
            missing = fd + 64 - len(masks)
            masks.extend([0] * missing)
            self._handlers.extend([None] * missing)
        self._handlers[fd] = handler if mask else None
        old = masks[fd]
        if mask == old:
            return
        # epoll_ctl(2): an exclusive registration cannot be modified, nor become one.
        if old and (not mask or (old | mask) & EXCLUSIVE):
            masks[fd] = old = 0
            self._poller.unregister(fd)
        if mask:
            (self._poller.modify if old else self._poller.register)(fd, mask)
            masks[fd] = mask

    def close(self, fd: int) -> None:
        """Remove `fd` from the poller now, and close it at the end of this turn."""
        if fd < len(self._masks) and self._masks[fd]:
            self._poller.unregister(fd)
            self._masks[fd] = 0
            self._handlers[fd] = None
        self._closing.append(fd)

    # Time

    def set_timer(self, handler: TimerHandler, deadline: float) -> None:
        """Call `handler.on_timer` at `deadline`. Replaces its earlier timer.

        A later deadline costs nothing: the bucket that holds the handler moves it on
        when the bucket is due. A deadline in the past is served in a later turn, so a
        handler that sets such a timer in `on_timer` delays no other handler.
        """
        handler.deadline = deadline
        due = min(max(deadline, self.now), self.now + HORIZON)
        tick = int(due * TICKS) + 1
        if tick == self._last_tick:
            tick = self._last_tick  # the same int object saves 32 bytes per handler
        self._last_tick = tick
        if handler.armed:
            if handler.armed <= tick:
                return
            self._remove_timer(handler)
        handler.armed = tick
        bucket = self._buckets.get(tick)
        if bucket is None:
            self._buckets[tick] = [handler]
            if tick < self._first_tick:
                self._first_tick = tick
        else:
            bucket.append(handler)

    def cancel_timer(self, handler: TimerHandler) -> None:
        """Cancel the timer. The loop keeps no reference to the handler."""
        handler.deadline = NEVER
        if handler.armed:
            self._remove_timer(handler)

    def _remove_timer(self, handler: TimerHandler) -> None:
        """Remove a handler from its bucket, unless that bucket is being served."""
        bucket = self._buckets.get(handler.armed)
        if bucket is not None:
            bucket.remove(handler)
        handler.armed = 0

    # Signals

    def add_signal_handler(self, number: int, handler: Callable[[], None]) -> None:
        """Call `handler` from the loop, never from the context of the signal."""
        if self._wakeup_pipe is None:
            self._wakeup_pipe = os.pipe()
            for fd in self._wakeup_pipe:
                os.set_blocking(fd, False)
            signal.set_wakeup_fd(self._wakeup_pipe[1], warn_on_full_buffer=False)
            self.watch(self._wakeup_pipe[0], self, READ)
        previous = signal.signal(number, _ignore_signal)
        # A blocked signal stays blocked across exec and would never arrive.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (number,))
        if number in self._signal_handlers:
            previous = self._signal_handlers[number][1]
        self._signal_handlers[number] = (handler, previous)

    def on_event(self, fd: int, events: int) -> None:
        """Called when the wake-up pipe is readable. Serves the signals it names."""
        for number in sorted(set(os.read(fd, 4096))):
            if number in self._signal_handlers:
                self._signal_handlers[number][0]()

    # Turns

    def run(self) -> None:
        """Run turns until `running` is False."""
        while self.running:
            self.run_once()

    def run_once(self) -> None:
        """Wait for the next events or timer and serve them."""
        clock, handlers = self.clock, self._handlers
        timeout = self._poll_timeout()
        before = clock()
        events = self._poller.poll(timeout, BATCH)
        self.now = now = clock()
        self._waited += now - before
        if now >= self._window_end:
            self._end_window(now)
        self.is_late = False
        check_at = now + PHASE_TIME
        are_many = len(events) > 1
        for fd, mask in events:
            handler = handlers[fd]
            if handler is not None:
                try:
                    handler.on_event(fd, mask)
                except Exception as error:  # noqa: BLE001 (its own owner answers)
                    handler.on_error(error)
            if are_many and clock() > check_at:
                self.is_late = True
                check_at = self._report_progress()
        if self._first_tick <= now * TICKS:
            self._serve_timers()
        if self._runnable:
            self._serve_runnable()
        if self._after_turn:
            self._call_callbacks()
        if self._closing:
            self._close_pending()

    def _end_window(self, now: float) -> None:
        """Judge the time of the last turns."""
        duration = now - self._window_end + BUSY_WINDOW
        self.is_busy = self._waited < IDLE_SHARE * duration
        self._waited, self._window_end = 0.0, now + BUSY_WINDOW

    def call_soon(self, handler: RunnableHandler) -> None:
        """Call `handler.on_turn` once, in this turn or the next ones.

        Handlers are called in the order of these calls, between the events of two
        polls. A handler that already waits keeps its place.
        """
        self._runnable[handler] = None

    def cancel_soon(self, handler: RunnableHandler) -> None:
        """Cancel `call_soon`. The loop keeps no reference to the handler."""
        self._runnable.pop(handler, None)

    def set_heartbeat(self, heartbeat: Callable[[float], None]) -> None:
        """Call `heartbeat` with the time during long turns, between two handlers."""
        self._heartbeat = heartbeat

    def _report_progress(self) -> float:
        """Send a heartbeat. Returns the time of the next one."""
        now = self.clock()
        if self._heartbeat is not None:
            self._heartbeat(now)
        return now + PHASE_TIME

    def call_after_turn(self, callback: Callable[[], None]) -> None:
        """Call `callback` once at the end of this turn, after all its events."""
        self._after_turn.append(callback)

    def close_all(self) -> None:
        """Close the poller and the wake-up pipe, and restore the signal handlers."""
        for fd in self._restore_signals():
            self.close(fd)
        self._close_pending()
        self._poller.close()

    def release_after_fork(self) -> None:
        """Release the loop of the parent process in a forked child.

        Both processes share the poller, so nothing may be unregistered.
        """
        self._closing += self._restore_signals()
        self._close_pending()
        self._poller.close()

    def _restore_signals(self) -> tuple[int, ...]:
        """Restore the previous signal handlers. Returns the wake-up pipe."""
        for number, (_, previous) in self._signal_handlers.items():
            signal.signal(number, previous)
        self._signal_handlers.clear()
        if self._wakeup_pipe is None:
            return ()
        signal.set_wakeup_fd(-1)
        wake, self._wakeup_pipe = self._wakeup_pipe, None
        return wake

    def _call_callbacks(self) -> None:
        callbacks, self._after_turn = self._after_turn, []
        for callback in callbacks:
            callback()

    def _poll_timeout(self) -> float:
        if self._closing or self._after_turn or self._runnable:
            return 0
        if self._first_tick == NO_TICK:
            return -1
        left = self._first_tick / TICKS - self.clock()
        return left if left > 0.0 else 0.0

    def _serve_runnable(self) -> None:
        """Call the handlers that have work left, each once and within PHASE_TIME."""
        runnable = self._runnable
        end = self._report_progress()
        for _ in range(len(runnable)):
            if not runnable:
                return  # a handler has cancelled others
            handler, _ = runnable.popitem(last=False)
            try:
                handler.on_turn()
            except Exception as error:  # noqa: BLE001 (its own owner answers)
                handler.on_error(error)
            if self.clock() >= end:
                self._report_progress()
                return

    def _serve_timers(self) -> None:
        """Serve the buckets that are due, within PHASE_TIME.

        HORIZON bounds their number. The rest of a bucket stays due.
        """
        now, end, served = self.now, self._report_progress(), 0
        while self._first_tick <= now * TICKS:
            tick = self._first_tick
            bucket = self._buckets.pop(tick)
            self._first_tick = min(self._buckets, default=NO_TICK)
            for index, handler in enumerate(bucket):
                self._serve_timer(handler, tick)
                served += 1
                if not served % TIMERS and self.clock() >= end:
                    self._keep_due(tick, bucket[index + 1 :])
                    return

    def _keep_due(self, tick: int, bucket: list[TimerHandler]) -> None:
        """Serve the rest of a bucket in the next turn."""
        if bucket:
            self._buckets[tick] = bucket
            self._first_tick = tick

    def _serve_timer(self, handler: TimerHandler, tick: int) -> None:
        if handler.armed != tick:
            return  # another handler of this bucket has cancelled it
        handler.armed = 0
        if handler.deadline > self.now:
            if handler.deadline != NEVER:
                self.set_timer(handler, handler.deadline)
            return
        try:
            handler.on_timer(self.now)
        except Exception as error:  # noqa: BLE001 (its own owner answers)
            handler.on_error(error)

    def _close_pending(self) -> None:
        closing, self._closing = self._closing, []
        for fd in closing:
            os.close(fd)


def best_poller() -> Poller:
    """Return an epoll object if available, otherwise the standard selector."""
    if hasattr(select, "epoll"):
        return select.epoll()
    from chimirror.io.selector_poller import SelectorPoller

    return SelectorPoller()


def _ignore_signal(number: int, frame: object) -> None:
    """Python-level handler of all signals. The wake-up pipe does the work."""
