"""The loop: numbers that are reused, timers to the tick, signals, and a fork.

Every rule about descriptors holds over both pollers.
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

from chimirror.system.loop import (
    ERROR,
    EXCLUSIVE,
    HANGUP,
    NEVER,
    PEER_CLOSED,
    READ,
    TICKS,
    WRITE,
    Loop,
    best_poller,
)
from chimirror.system.selecting import SelectorPoller
from looping import BOTH_POLLERS, Slumber, Timer, looping, slumbering, turn_until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.system.loop import Poller

    Make = Callable[[], Poller]

TICK = 1 / TICKS


class Watcher:
    """An owner that notes its events, and may do more."""

    def __init__(self, act: Callable[[int], None] | None = None) -> None:
        self.events: list[tuple[int, int]] = []
        self.faults: list[Exception] = []
        self.act = act

    def on_event(self, fd: int, events: int) -> None:
        self.events.append((fd, events))
        if self.act is not None:
            self.act(fd)

    def on_fault(self, error: Exception) -> None:
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
def test_what_is_watched_is_told(
    poller: Make, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    watcher = Watcher()
    with looping(poller) as loop:
        loop.watch(ours.fileno(), watcher, READ)
        theirs.send(b"x")
        loop.turn()
        assert watcher.events == [(ours.fileno(), READ)]
        loop.watch(ours.fileno(), watcher, READ | WRITE)
        loop.turn()
        assert watcher.events[1:] == [(ours.fileno(), READ | WRITE)]
        loop.watch(ours.fileno(), watcher, WRITE)
        loop.turn()
        assert watcher.events[2:] == [(ours.fileno(), WRITE)]


@BOTH_POLLERS
def test_what_is_not_watched_is_not_told(
    poller: Make, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    watcher, timer_watcher = Watcher(), Watcher()
    reader, writer = os.pipe()
    with looping(poller) as loop:
        loop.watch(ours.fileno(), watcher, READ)
        loop.watch(ours.fileno(), watcher, 0)
        loop.watch(ours.fileno(), watcher, 0)
        theirs.close()  # not even the end
        loop.watch(reader, timer_watcher, READ)
        os.write(writer, b"x")
        loop.turn()
        assert (watcher.events, len(timer_watcher.events)) == ([], 1)
        loop.close(reader)
        loop.close(writer)


@BOTH_POLLERS
def test_a_descriptor_may_change_its_owner(
    poller: Make, pair: tuple[socket.socket, socket.socket]
) -> None:
    first, second = Watcher(), Watcher()
    with looping(poller) as loop:
        loop.watch(pair[0].fileno(), first, WRITE)
        loop.watch(pair[0].fileno(), second, WRITE)
        loop.turn()
    assert (first.events, len(second.events)) == ([], 1)


@BOTH_POLLERS
def test_a_number_is_not_reused_within_a_turn(poller: Make) -> None:
    """The first that is served closes all others and opens as many."""
    with looping(poller) as loop, ExitStack() as stack:
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
        loop.turn()
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
def test_a_reused_number_is_told_to_its_new_owner(poller: Make) -> None:
    former, latter = Watcher(), Watcher()
    with looping(poller) as loop:
        reader, writer = os.pipe()
        loop.watch(reader, former, READ)
        os.write(writer, b"x")
        loop.close(reader)
        loop.turn()  # closes it, and waits for nothing
        again = os.dup(writer)
        assert again == reader
        loop.watch(again, latter, WRITE)
        loop.turn()
        assert (former.events, [fd for fd, _ in latter.events]) == ([], [again])
        loop.close(again)
        loop.close(writer)


def test_a_closed_descriptor_leaves_the_poller_even_if_it_lives_on() -> None:
    """A copy in another process keeps epoll's entry alive (epoll(7), questions)."""
    watcher, other = Watcher(), Watcher()
    with looping() as loop:
        reader, writer = os.pipe()
        copy = os.dup(reader)
        loop.watch(reader, watcher, READ)
        loop.close(reader)
        loop.turn()
        os.write(writer, b"x")
        loop.watch(writer, other, WRITE)
        loop.turn()
        assert (watcher.events, len(other.events)) == ([], 1)
        loop.close(writer)
        loop.close(copy)


@pytest.mark.parametrize("first", [READ, READ | EXCLUSIVE])
@pytest.mark.parametrize("second", [READ, WRITE, READ | EXCLUSIVE, 0])
def test_exclusive_is_registered_anew(first: int, second: int) -> None:
    """EPOLL_CTL_MOD refuses it either way (EINVAL)."""
    watcher = Watcher()
    with socket.create_server(("127.0.0.1", 0)) as listener, looping() as loop:
        fd = listener.fileno()
        for mask in (first, second, first):
            loop.watch(fd, watcher, mask)
        with socket.create_connection(listener.getsockname()):
            loop.turn()
        assert watcher.events == [(fd, READ)]
        loop.watch(fd, watcher, 0)


@BOTH_POLLERS
def test_one_owners_bug_ends_no_other(
    poller: Make, pair: tuple[socket.socket, socket.socket]
) -> None:
    def fail(fd: int) -> None:
        raise LookupError(fd)

    broken, sound = Watcher(fail), Watcher()
    with looping(poller) as loop:
        loop.watch(pair[0].fileno(), broken, WRITE)
        loop.watch(pair[1].fileno(), sound, WRITE)
        loop.turn()
    assert [type(error) for error in broken.faults] == [LookupError]
    assert len(sound.events) == 1


def test_what_cannot_be_polled_is_refused_and_forgotten() -> None:
    with looping() as loop, open(__file__) as file:
        with pytest.raises(PermissionError):
            loop.watch(file.fileno(), Watcher(), READ)
        loop.watch(file.fileno(), Watcher(), 0)


def test_any_number_may_be_closed() -> None:
    with looping() as loop:
        far = os.open(os.devnull, os.O_RDONLY)
        loop.close(far)  # never watched, and beyond the tables
        loop.turn()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(far)


def test_run_serves_until_told() -> None:
    calls = []

    class Last(Timer):
        def on_timer(self, now: float) -> None:
            calls.append(now)
            self.loop.running = False

    with slumbering() as loop:
        loop.arm(Last(loop), loop.now + 5)
        loop.run()
    assert len(calls) == 1


def test_a_job_is_done_once_when_its_turn_ends() -> None:
    story: list[str] = []

    class Busy(Timer):
        def on_timer(self, now: float) -> None:
            self.loop.at_end(lambda: story.append("first"))
            self.loop.at_end(lambda: self.loop.at_end(lambda: story.append("next")))
            story.append("timer")

    with slumbering() as loop:
        loop.arm(Busy(loop), loop.now)
        while not story:
            loop.turn()
        assert story == ["timer", "first"]
        before = loop.clock()
        loop.turn()  # what a job leaves to do is not slept over
        assert story == ["timer", "first", "next"]
        assert loop.clock() == before
        loop.arm(Timer(loop), loop.now)
        loop.turn()
        assert len(story) == 3


# The fallback


def test_every_ready_descriptor_is_told_by_the_fallback() -> None:
    """A bound would starve what is last in the table."""
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
    """Each arm replaces the one before, whether it is earlier or later."""
    with slumbering() as loop:
        timer = Timer(loop)
        for delay in delays:
            loop.arm(timer, loop.now + delay)
        deadline = loop.now + delays[-1]
        turn_until(loop, lambda: timer.calls)
        assert deadline <= timer.calls[0] <= deadline + 2 * TICK
        witness = Timer(loop)
        loop.arm(witness, loop.now + 101)
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
    """Armed, armed again and disarmed while time passes and others come up."""
    with slumbering() as loop:
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
                loop.disarm(timers[index])
                due[index] = None
            else:
                due[index] = loop.now + delay
                loop.arm(timers[index], loop.now + delay)
            pauser = Timer(loop)
            loop.arm(pauser, loop.now + pause)
            while not pauser.calls:
                loop.turn()
                check()


def test_a_later_deadline_costs_nothing() -> None:
    with slumbering() as loop:
        timer = Timer(loop)
        loop.arm(timer, loop.now + 1)
        for delay in range(2, 1000):
            loop.arm(timer, loop.now + delay)
        assert sum(map(len, loop._buckets.values())) == 1


def test_a_far_deadline_comes() -> None:
    with slumbering() as loop:
        timer = Timer(loop)
        deadline = loop.now + 3600
        loop.arm(timer, deadline)
        turn_until(loop, lambda: timer.calls)
        assert deadline <= timer.calls[0] <= deadline + 2 * TICK


@pytest.mark.parametrize("deadline", [3600.0, NEVER])
def test_a_dead_owner_is_forgotten(deadline: float) -> None:
    with slumbering() as loop:
        timer = Timer(loop)
        loop.arm(timer, loop.now + deadline)
        loop.disarm(timer)
        gone = weakref.ref(timer)
        del timer
        assert gone() is None


def test_an_owner_that_moves_leaves_nothing_behind() -> None:
    with slumbering() as loop:
        timer = Timer(loop)
        loop.arm(timer, loop.now + 10)
        loop.arm(timer, loop.now + 1)
        calls, gone = timer.calls, weakref.ref(timer)
        del timer
        turn_until(loop, lambda: calls)
        assert gone() is None


def test_one_of_a_bucket_may_disarm_another() -> None:
    class Rival(Timer):
        other: Timer

        def on_timer(self, now: float) -> None:
            super().on_timer(now)
            self.loop.disarm(self.other)

    with slumbering() as loop:
        first, second = Rival(loop), Rival(loop)
        first.other, second.other = second, first
        for rival in (first, second):
            loop.arm(rival, loop.now + 1)
        last = Timer(loop)
        loop.arm(last, loop.now + 2)
        turn_until(loop, lambda: last.calls)
        assert (first.calls != []) + (second.calls != []) == 1


def test_a_timer_may_be_armed_by_its_own_call() -> None:
    class Again(Timer):
        def on_timer(self, now: float) -> None:
            super().on_timer(now)
            self.loop.arm(self, now + 1)

    with slumbering() as loop:
        timer = Again(loop)
        loop.arm(timer, loop.now)
        turn_until(loop, lambda: len(timer.calls) == 5)
        gaps = [b - a for a, b in pairwise(timer.calls)]
        assert all(1 <= gap <= 1 + 2 * TICK for gap in gaps)


def test_a_timers_bug_ends_no_other() -> None:
    class Broken(Timer):
        def on_timer(self, now: float) -> None:
            raise LookupError

    with slumbering() as loop:
        broken, sound = Broken(loop), Timer(loop)
        loop.arm(broken, loop.now)
        loop.arm(sound, loop.now)
        turn_until(loop, lambda: sound.calls)
        assert [type(error) for error in broken.faults] == [LookupError]


def test_with_nothing_to_do_it_waits_for_ever() -> None:
    class Patient(Slumber):
        def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
            timeouts.append(timeout)
            return []

    timeouts: list[float] = []
    clock = Patient()
    with looping(lambda: clock, clock) as loop:
        loop.turn()
    assert timeouts == [-1]


# Signals


@BOTH_POLLERS
def test_a_signal_is_served_by_the_loop(poller: Make) -> None:
    served: list[str] = []
    with looping(poller) as loop:
        loop.on_signal(signal.SIGUSR1, lambda: served.append("wrong"))
        loop.on_signal(signal.SIGUSR1, lambda: served.append("usr1"))
        loop.on_signal(signal.SIGUSR2, lambda: served.append("usr2"))
        for number in (signal.SIGUSR2, signal.SIGUSR1, signal.SIGUSR1):
            os.kill(os.getpid(), number)
        assert served == []
        turn_until(loop, lambda: len(served) >= 2)
        assert served == ["usr1", "usr2"]


def test_a_signal_that_is_blocked_comes_all_the_same() -> None:
    """The mask is inherited over fork and exec, from whoever started us."""
    served: list[int] = []
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    with looping() as loop:
        loop.on_signal(signal.SIGUSR1, lambda: served.append(1))
        os.kill(os.getpid(), signal.SIGUSR1)
        turn_until(loop, lambda: served)


def test_a_signal_of_somebody_else_is_let_pass() -> None:
    served: list[int] = []
    with looping() as loop:
        loop.on_signal(signal.SIGUSR1, lambda: served.append(1))
        previous = signal.signal(signal.SIGUSR2, lambda number, frame: None)
        os.kill(os.getpid(), signal.SIGUSR2)
        os.kill(os.getpid(), signal.SIGUSR1)
        turn_until(loop, lambda: served)
        signal.signal(signal.SIGUSR2, previous)


def test_a_handlers_bug_is_the_programs() -> None:
    def fail() -> None:
        raise LookupError

    with looping() as loop:
        loop.on_signal(signal.SIGUSR1, fail)
        os.kill(os.getpid(), signal.SIGUSR1)
        with pytest.raises(LookupError):
            turn_until(loop, lambda: False)


@BOTH_POLLERS
def test_a_forked_child_leaves_its_parents_loop_alone(poller: Make) -> None:
    watcher = Watcher()
    served: list[int] = []
    with looping(poller) as loop:
        reader, writer = os.pipe()
        loop.watch(reader, watcher, READ)
        loop.on_signal(signal.SIGUSR1, lambda: served.append(1))
        spare = os.dup(reader)
        loop.close(spare)
        pid = os.fork()
        if pid == 0:
            os._exit(_abandoned(loop, spare))
        assert os.waitpid(pid, 0)[1] == 0
        os.write(writer, b"x")
        os.kill(os.getpid(), signal.SIGUSR1)
        turn_until(loop, lambda: watcher.events and served)
        loop.close(reader)
        loop.close(writer)


def _abandoned(loop: Loop, spare: int) -> int:
    """In the child: the number of things that are wrong."""
    loop.abandon()
    wrong = int(signal.getsignal(signal.SIGUSR1) != signal.SIG_DFL)
    try:
        os.fstat(spare)
    except OSError:
        return wrong
    return wrong + 2


def test_a_loop_without_signals_is_abandoned_too() -> None:
    loop = Loop()
    loop.abandon()


def test_a_deadline_that_has_passed_is_served_in_a_later_turn() -> None:
    class Late(Timer):
        def on_timer(self, now: float) -> None:
            super().on_timer(now)
            self.loop.arm(self, now - 5)

    with slumbering() as loop:
        late = Late(loop)
        loop.arm(late, loop.now)
        for served in range(1, 4):
            loop.turn()
            assert len(late.calls) == served
