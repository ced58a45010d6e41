"""The event loop: reused descriptors, timers to the tick, signals, and a fork.

The rules for descriptors hold with both pollers.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.io.loop import (
    ERROR,
    EXCLUSIVE,
    HANGUP,
    NEVER,
    PEER_CLOSED,
    PHASE_TIME,
    READ,
    TICKS,
    TIMERS,
    WRITE,
    EventLoop,
    best_poller,
)
from chimirror.io.selector_poller import SelectorPoller
from loops import (
    BOTH_POLLERS,
    FakeTime,
    FakeTimeWithPoller,
    Timer,
    event_loop,
    fake_time_loop,
    turn_until,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.io.loop import Poller

    Make = Callable[[], Poller]

TICK = 1 / TICKS


class Watcher:
    """Handler that records its events, and may act on them."""

    def __init__(self, act: Callable[[int], None] | None = None) -> None:
        self.events: list[tuple[int, int]] = []
        self.faults: list[Exception] = []
        self.act = act

    def on_event(self, fd: int, events: int) -> None:
        self.events.append((fd, events))
        if self.act is not None:
            self.act(fd)

    def on_error(self, error: Exception) -> None:
        self.faults.append(error)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_the_masks_are_those_of_epoll() -> None:
    assert (READ, WRITE, ERROR, HANGUP, PEER_CLOSED, EXCLUSIVE) == (
        select.EPOLLIN,
        select.EPOLLOUT,
        select.EPOLLERR,
        select.EPOLLHUP,
        select.EPOLLRDHUP,
        select.EPOLLEXCLUSIVE,
    )


# Descriptors


@BOTH_POLLERS
def test_watched_events_are_reported(
    poller: Make, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    watcher = Watcher()
    with event_loop(poller) as loop:
        loop.watch(ours.fileno(), watcher, READ)
        theirs.send(b"x")
        loop.run_once()
        assert watcher.events == [(ours.fileno(), READ)]
        loop.watch(ours.fileno(), watcher, READ | WRITE)
        loop.run_once()
        assert watcher.events[1:] == [(ours.fileno(), READ | WRITE)]
        loop.watch(ours.fileno(), watcher, WRITE)
        loop.run_once()
        assert watcher.events[2:] == [(ours.fileno(), WRITE)]


@BOTH_POLLERS
def test_other_events_are_not_reported(
    poller: Make, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    watcher, timer_watcher = Watcher(), Watcher()
    reader, writer = os.pipe()
    with event_loop(poller) as loop:
        loop.watch(ours.fileno(), watcher, READ)
        loop.watch(ours.fileno(), watcher, 0)
        loop.watch(ours.fileno(), watcher, 0)
        theirs.close()  # not even the end
        loop.watch(reader, timer_watcher, READ)
        os.write(writer, b"x")
        loop.run_once()
        assert (watcher.events, len(timer_watcher.events)) == ([], 1)
        loop.close(reader)
        loop.close(writer)


@BOTH_POLLERS
def test_a_descriptor_may_change_its_handler(
    poller: Make, pair: tuple[socket.socket, socket.socket]
) -> None:
    first, second = Watcher(), Watcher()
    with event_loop(poller) as loop:
        loop.watch(pair[0].fileno(), first, WRITE)
        loop.watch(pair[0].fileno(), second, WRITE)
        loop.run_once()
    assert (first.events, len(second.events)) == ([], 1)


@BOTH_POLLERS
def test_a_number_is_not_reused_within_a_turn(poller: Make) -> None:
    """The first handler served closes all others and opens as many."""
    with event_loop(poller) as loop, ExitStack() as stack:
        pipes = [os.pipe() for _ in range(8)]
        opened: list[int] = []

        def close_the_others(fd: int) -> None:
            for reader, _ in pipes:
                if reader != fd:
                    loop.close(reader)
                    opened.append(os.dup(pipes[0][1]))
                    loop.watch(opened[-1], newcomer, WRITE)

        owner, newcomer = Watcher(close_the_others), Watcher()
        for reader, writer in pipes:
            stack.callback(os.close, writer)
            os.write(writer, b"x")
            loop.watch(reader, owner, READ)
        loop.run_once()
        assert len(owner.events) == 1
        assert newcomer.events == []
        assert not {reader for reader, _ in pipes} & set(opened)
        survivor = owner.events[0][0]
        for reader, _ in pipes:
            if reader != survivor:
                with pytest.raises(OSError, match="Bad file descriptor"):
                    os.fstat(reader)
        loop.close(survivor)
        for fd in opened:
            loop.close(fd)


@BOTH_POLLERS
def test_a_reused_number_is_reported_to_its_new_handler(poller: Make) -> None:
    former, latter = Watcher(), Watcher()
    with event_loop(poller) as loop:
        reader, writer = os.pipe()
        loop.watch(reader, former, READ)
        os.write(writer, b"x")
        loop.close(reader)
        loop.run_once()  # closes it, and waits for nothing
        again = os.dup(writer)
        assert again == reader
        loop.watch(again, latter, WRITE)
        loop.run_once()
        assert (former.events, [fd for fd, _ in latter.events]) == ([], [again])
        loop.close(again)
        loop.close(writer)


def test_a_closed_descriptor_leaves_the_poller_despite_copies() -> None:
    """A copy in another process keeps the epoll entry alive (epoll(7), questions)."""
    watcher, other = Watcher(), Watcher()
    with event_loop() as loop:
        reader, writer = os.pipe()
        copy = os.dup(reader)
        loop.watch(reader, watcher, READ)
        loop.close(reader)
        loop.run_once()
        os.write(writer, b"x")
        loop.watch(writer, other, WRITE)
        loop.run_once()
        assert (watcher.events, len(other.events)) == ([], 1)
        loop.close(writer)
        loop.close(copy)


@pytest.mark.parametrize("first", [READ, READ | EXCLUSIVE])
@pytest.mark.parametrize("second", [READ, WRITE, READ | EXCLUSIVE, 0])
def test_exclusive_is_registered_anew(first: int, second: int) -> None:
    """EPOLL_CTL_MOD refuses it either way (EINVAL)."""
    watcher = Watcher()
    with socket.create_server(("127.0.0.1", 0)) as listener, event_loop() as loop:
        fd = listener.fileno()
        for mask in (first, second, first):
            loop.watch(fd, watcher, mask)
        with socket.create_connection(listener.getsockname()):
            loop.run_once()
        assert watcher.events == [(fd, READ)]
        loop.watch(fd, watcher, 0)


@BOTH_POLLERS
def test_an_error_of_one_handler_affects_no_other(
    poller: Make, pair: tuple[socket.socket, socket.socket]
) -> None:
    def fail(fd: int) -> None:
        raise LookupError(fd)

    broken, sound = Watcher(fail), Watcher()
    with event_loop(poller) as loop:
        loop.watch(pair[0].fileno(), broken, WRITE)
        loop.watch(pair[1].fileno(), sound, WRITE)
        loop.run_once()
    assert [type(error) for error in broken.faults] == [LookupError]
    assert len(sound.events) == 1


def test_unpollable_descriptors_are_rejected() -> None:
    with event_loop() as loop, open(__file__) as file:
        with pytest.raises(PermissionError):
            loop.watch(file.fileno(), Watcher(), READ)
        loop.watch(file.fileno(), Watcher(), 0)


def test_any_number_may_be_closed() -> None:
    with event_loop() as loop:
        far = os.open(os.devnull, os.O_RDONLY)
        loop.close(far)  # never watched, and beyond the tables
        loop.run_once()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(far)


def test_run_until_running_is_false() -> None:
    calls = []

    class Last(Timer):
        def on_timer(self, now: float) -> None:
            calls.append(now)
            self.loop.running = False

    with fake_time_loop() as loop:
        loop.set_timer(Last(loop), loop.now + 5)
        loop.run()
    assert len(calls) == 1


def test_a_callback_is_called_once_after_its_turn() -> None:
    story: list[str] = []

    class Busy(Timer):
        def on_timer(self, now: float) -> None:
            self.loop.call_after_turn(lambda: story.append("first"))
            self.loop.call_after_turn(
                lambda: self.loop.call_after_turn(lambda: story.append("next"))
            )
            story.append("timer")

    with fake_time_loop() as loop:
        loop.set_timer(Busy(loop), loop.now)
        while not story:
            loop.run_once()
        assert story == ["timer", "first"]
        before = loop.clock()
        loop.run_once()  # work left by a callback delays no turn
        assert story == ["timer", "first", "next"]
        assert loop.clock() == before
        loop.set_timer(Timer(loop), loop.now)
        loop.run_once()
        assert len(story) == 3


# Order and length of a turn


class Heavy:
    """Handler with much work: each item takes a millisecond."""

    def __init__(
        self, loop: EventLoop, story: list[str], name: str, items: int
    ) -> None:
        self.loop = loop
        self.story = story
        self.name = name
        self.items = items
        self.faults: list[Exception] = []

    def on_turn(self) -> None:
        self.story.append(self.name)
        assert isinstance(self.loop.clock, FakeTime)
        self.loop.clock.now += 0.001
        self.items -= 1
        if self.items:
            self.loop.call_soon(self)

    def on_event(self, fd: int, events: int) -> None:
        self.loop.watch(fd, self, 0)
        self.on_turn()

    def on_error(self, error: Exception) -> None:
        self.faults.append(error)


def test_handlers_with_work_left_take_turns() -> None:
    """A handler with less work is done while the others still wait."""
    story: list[str] = []
    with fake_time_loop() as loop:
        for name, items in (("a", 5), ("b", 2), ("c", 4)):
            loop.call_soon(Heavy(loop, story, name, items))
        while loop._runnable:
            loop.run_once()
    assert "".join(story) == "abcabcacaca"[:11]


def test_events_are_served_between_handlers_with_work_left(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """A turn ends after PHASE_TIME, although 50 handlers wait."""
    story: list[str] = []
    clock = FakeTimeWithPoller()
    with event_loop(lambda: clock, clock) as loop:
        for number in range(50):
            loop.call_soon(Heavy(loop, story, str(number), 2))
        loop.run_once()
        served = len(story)
        assert served <= PHASE_TIME / 0.001 + 1
        pair[1].send(b"x")
        loop.watch(pair[0].fileno(), Heavy(loop, story, "light", 1), READ)
        loop.run_once()
        assert story[served] == "light"
        while loop._runnable:
            loop.run_once()
        assert [name for name in story if name != "light"] == [
            str(number) for number in range(50)
        ] * 2


def test_a_handler_waits_once() -> None:
    story: list[str] = []
    with fake_time_loop() as loop:
        twice, cancelled = Heavy(loop, story, "a", 1), Heavy(loop, story, "b", 1)
        for handler in (twice, cancelled, twice):
            loop.call_soon(handler)
        loop.cancel_soon(cancelled)
        loop.cancel_soon(cancelled)
        loop.run_once()
        assert story == ["a"]


def test_a_handler_may_cancel_the_others() -> None:
    story: list[str] = []
    with fake_time_loop() as loop:
        first, second = Heavy(loop, story, "a", 1), Heavy(loop, story, "b", 1)
        first.loop.call_soon(first)
        loop.call_soon(second)
        first.on_turn = lambda: loop.cancel_soon(second)  # type: ignore[method-assign]
        loop.run_once()
        assert story == []


def test_an_error_of_a_handler_with_work_left_affects_no_other() -> None:
    def fail() -> None:
        raise LookupError

    story: list[str] = []
    with fake_time_loop() as loop:
        broken, sound = Heavy(loop, story, "a", 1), Heavy(loop, story, "b", 1)
        broken.on_turn = fail  # type: ignore[method-assign]
        loop.call_soon(broken)
        loop.call_soon(sound)
        loop.run_once()
        assert (len(broken.faults), story) == (1, ["b"])


def test_due_timers_are_served_in_several_turns() -> None:
    """Thousands of timers of one bucket: none is lost, and events come between."""

    class Slow(Timer):
        def on_timer(self, now: float) -> None:
            super().on_timer(now)
            order.append(self)
            assert isinstance(self.loop.clock, FakeTime)
            self.loop.clock.now += 0.001

    order: list[Timer] = []
    with fake_time_loop() as loop:
        timers = [Slow(loop) for _ in range(200)]
        for timer in timers:
            loop.set_timer(timer, loop.now + 1)
        loop.run_once()
        assert TIMERS <= len(order) <= TIMERS + PHASE_TIME / 0.001
        loop.cancel_timer(timers[100])
        loop.set_timer(timers[101], loop.now + 1)
        turn_until(loop, lambda: timers[101].calls)
        assert order == [*timers[:100], *timers[102:], timers[101]]


def test_a_turn_becomes_late(pair: tuple[socket.socket, socket.socket]) -> None:
    """Heartbeats show that a long turn makes progress."""
    late: list[bool] = []
    beats: list[float] = []
    clock = FakeTimeWithPoller()

    def work(fd: int) -> None:
        late.append(loop.is_late)
        clock.now += 10

    with event_loop(lambda: clock, clock) as loop:
        loop.set_heartbeat(beats.append)
        for end in pair:
            loop.watch(end.fileno(), Watcher(work), WRITE)
        loop.run_once()
        assert late == [False, True]
        assert beats == [1010.0, 1020.0]
        for end in pair:
            loop.watch(end.fileno(), Watcher(), 0)
        loop.call_soon(Heavy(loop, [], "", 1))
        loop.run_once()
        assert not loop.is_late
        assert len(beats) > 2


@pytest.mark.parametrize(("work", "busy"), [(0.1, True), (0.001, False)])
def test_a_loop_that_hardly_waits_is_busy(work: float, *, busy: bool) -> None:
    """A timer is served up to 1/32 s after its deadline."""
    clock = FakeTime()

    class Work(Timer):
        def on_timer(self, now: float) -> None:
            clock.now += work
            loop.set_timer(self, clock.now)

    with event_loop(lambda: clock, clock) as loop:
        assert not loop.is_busy
        timer = Work(loop)
        loop.set_timer(timer, clock.now)
        for _ in range(20):
            loop.run_once()
        assert loop.is_busy == busy
        clock.now += 100 * work
        loop.run_once()
        assert loop.is_busy


# The fallback


def test_the_fallback_reports_every_ready_descriptor() -> None:
    """A bound would starve the last descriptors of the table."""
    poller = SelectorPoller()
    pipes = [os.pipe() for _ in range(6)]
    for _, writer in pipes:
        poller.register(writer, WRITE)
    assert len(poller.poll(0, 2)) == 6
    poller.close()
    for fds in pipes:
        for fd in fds:
            os.close(fd)


def test_peer_closed_alone_waits_in_the_fallback(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    poller = SelectorPoller()
    fd = pair[0].fileno()
    poller.register(fd, PEER_CLOSED)
    pair[1].close()
    assert poller.poll(0, 9) == []
    poller.modify(fd, READ)
    assert poller.poll(-1, 9) == [(fd, READ)]
    poller.modify(fd, PEER_CLOSED)
    poller.unregister(fd)
    poller.close()


def test_without_epoll_the_fallback_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "epoll")
    poller = best_poller()
    assert isinstance(poller, SelectorPoller)
    poller.close()


# Time


@given(st.lists(st.floats(0, 100), min_size=1, max_size=9))
def test_timers_are_never_early_and_at_most_two_ticks_late(delays: list[float]) -> None:
    """Each call replaces the earlier deadline, whether earlier or later."""
    with fake_time_loop() as loop:
        timer = Timer(loop)
        for delay in delays:
            loop.set_timer(timer, loop.now + delay)
        deadline = loop.now + delays[-1]
        turn_until(loop, lambda: timer.calls)
        assert deadline <= timer.calls[0] <= deadline + 2 * TICK
        witness = Timer(loop)
        loop.set_timer(witness, loop.now + 101)
        turn_until(loop, lambda: witness.calls)
        assert len(timer.calls) == 1


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.none() | st.floats(0, 50), st.floats(0, 20)),
        max_size=30,
    )
)
def test_many_timers_keep_their_times(
    steps: list[tuple[int, float | None, float]],
) -> None:
    """Timers are set, replaced and cancelled while time passes and others are due."""
    with fake_time_loop() as loop:
        timers = [Timer(loop) for _ in range(4)]
        due: list[float | None] = [None] * 4
        seen = [0] * 4

        def check() -> None:
            for index, timer in enumerate(timers):
                new = timer.calls[seen[index] :]
                seen[index] += len(new)
                expected = due[index]
                if new:
                    assert expected is not None
                    assert len(new) == 1
                    assert expected <= new[0] <= expected + 2 * TICK
                    due[index] = None
                elif expected is not None:
                    assert loop.now <= expected + 2 * TICK

        for index, delay, pause in steps:
            if delay is None:
                loop.cancel_timer(timers[index])
                due[index] = None
            else:
                due[index] = loop.now + delay
                loop.set_timer(timers[index], loop.now + delay)
            pauser = Timer(loop)
            loop.set_timer(pauser, loop.now + pause)
            while not pauser.calls:
                loop.run_once()
                check()


def test_a_later_deadline_costs_nothing() -> None:
    with fake_time_loop() as loop:
        timer = Timer(loop)
        loop.set_timer(timer, loop.now + 1)
        for delay in range(2, 1000):
            loop.set_timer(timer, loop.now + delay)
        assert sum(map(len, loop._buckets.values())) == 1


def test_a_far_deadline_comes() -> None:
    with fake_time_loop() as loop:
        timer = Timer(loop)
        deadline = loop.now + 3600
        loop.set_timer(timer, deadline)
        turn_until(loop, lambda: timer.calls)
        assert deadline <= timer.calls[0] <= deadline + 2 * TICK


@pytest.mark.parametrize("deadline", [3600.0, NEVER])
def test_a_cancelled_handler_is_released(deadline: float) -> None:
    with fake_time_loop() as loop:
        timer = Timer(loop)
        loop.set_timer(timer, loop.now + deadline)
        loop.cancel_timer(timer)
        gone = weakref.ref(timer)
        del timer
        assert gone() is None


def test_a_replaced_timer_leaves_its_bucket() -> None:
    with fake_time_loop() as loop:
        timer = Timer(loop)
        loop.set_timer(timer, loop.now + 10)
        loop.set_timer(timer, loop.now + 1)
        calls, gone = timer.calls, weakref.ref(timer)
        del timer
        turn_until(loop, lambda: calls)
        assert gone() is None


def test_a_timer_may_cancel_another_of_its_bucket() -> None:
    class Rival(Timer):
        other: Timer

        def on_timer(self, now: float) -> None:
            super().on_timer(now)
            self.loop.cancel_timer(self.other)

    with fake_time_loop() as loop:
        first, second = Rival(loop), Rival(loop)
        first.other, second.other = second, first
        for rival in (first, second):
            loop.set_timer(rival, loop.now + 1)
        last = Timer(loop)
        loop.set_timer(last, loop.now + 2)
        turn_until(loop, lambda: last.calls)
        assert (first.calls != []) + (second.calls != []) == 1


def test_a_timer_may_be_armed_by_its_own_call() -> None:
    class Again(Timer):
        def on_timer(self, now: float) -> None:
            super().on_timer(now)
            self.loop.set_timer(self, now + 1)

    with fake_time_loop() as loop:
        timer = Again(loop)
        loop.set_timer(timer, loop.now)
        turn_until(loop, lambda: len(timer.calls) == 5)
        gaps = [b - a for a, b in pairwise(timer.calls)]
        assert all(1 <= gap <= 1 + 2 * TICK for gap in gaps)


def test_an_error_of_one_timer_affects_no_other() -> None:
    class Broken(Timer):
        def on_timer(self, now: float) -> None:
            raise LookupError

    with fake_time_loop() as loop:
        broken, sound = Broken(loop), Timer(loop)
        loop.set_timer(broken, loop.now)
        loop.set_timer(sound, loop.now)
        turn_until(loop, lambda: sound.calls)
        assert [type(error) for error in broken.faults] == [LookupError]


def test_without_timers_poll_has_no_timeout() -> None:
    class Patient(FakeTime):
        def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
            timeouts.append(timeout)
            return []

    timeouts: list[float] = []
    clock = Patient()
    with event_loop(lambda: clock, clock) as loop:
        loop.run_once()
    assert timeouts == [-1]


# Signals


@BOTH_POLLERS
def test_a_signal_is_served_by_the_loop(poller: Make) -> None:
    served: list[str] = []
    with event_loop(poller) as loop:
        loop.add_signal_handler(signal.SIGUSR1, lambda: served.append("wrong"))
        loop.add_signal_handler(signal.SIGUSR1, lambda: served.append("usr1"))
        loop.add_signal_handler(signal.SIGUSR2, lambda: served.append("usr2"))
        for number in (signal.SIGUSR2, signal.SIGUSR1, signal.SIGUSR1):
            os.kill(os.getpid(), number)
        assert served == []
        turn_until(loop, lambda: len(served) >= 2)
        assert served == ["usr1", "usr2"]


def test_a_blocked_signal_is_unblocked() -> None:
    """The signal mask is inherited over fork and exec from the parent process."""
    served: list[int] = []
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    with event_loop() as loop:
        loop.add_signal_handler(signal.SIGUSR1, lambda: served.append(1))
        os.kill(os.getpid(), signal.SIGUSR1)
        turn_until(loop, lambda: served)


def test_other_signals_are_ignored() -> None:
    served: list[int] = []
    with event_loop() as loop:
        loop.add_signal_handler(signal.SIGUSR1, lambda: served.append(1))
        previous = signal.signal(signal.SIGUSR2, lambda number, frame: None)
        os.kill(os.getpid(), signal.SIGUSR2)
        os.kill(os.getpid(), signal.SIGUSR1)
        turn_until(loop, lambda: served)
        signal.signal(signal.SIGUSR2, previous)


def test_an_error_of_a_signal_handler_is_raised() -> None:
    def fail() -> None:
        raise LookupError

    with event_loop() as loop:
        loop.add_signal_handler(signal.SIGUSR1, fail)
        os.kill(os.getpid(), signal.SIGUSR1)
        with pytest.raises(LookupError):
            turn_until(loop, lambda: False)


@BOTH_POLLERS
def test_a_forked_child_does_not_change_the_parents_loop(poller: Make) -> None:
    watcher = Watcher()
    served: list[int] = []
    with event_loop(poller) as loop:
        reader, writer = os.pipe()
        loop.watch(reader, watcher, READ)
        loop.add_signal_handler(signal.SIGUSR1, lambda: served.append(1))
        spare = os.dup(reader)
        loop.close(spare)
        pid = os.fork()
        if pid == 0:
            os._exit(_released(loop, spare))
        assert os.waitpid(pid, 0)[1] == 0
        os.write(writer, b"x")
        os.kill(os.getpid(), signal.SIGUSR1)
        turn_until(loop, lambda: watcher.events and served)
        loop.close(reader)
        loop.close(writer)


def _released(loop: EventLoop, spare: int) -> int:
    """In the child: return the number of errors."""
    loop.release_after_fork()
    wrong = int(signal.getsignal(signal.SIGUSR1) != signal.SIG_DFL)
    try:
        os.fstat(spare)
    except OSError:
        return wrong
    return wrong + 2


def test_a_loop_without_signals_is_released_too() -> None:
    loop = EventLoop()
    loop.release_after_fork()


def test_a_deadline_that_has_passed_is_served_in_a_later_turn() -> None:
    class Late(Timer):
        def on_timer(self, now: float) -> None:
            super().on_timer(now)
            self.loop.set_timer(self, now - 5)

    with fake_time_loop() as loop:
        late = Late(loop)
        loop.set_timer(late, loop.now)
        for served in range(1, 4):
            loop.run_once()
            assert len(late.calls) == served
