"""Who is judged dead: with a transport and a clock that say what the test says.

The same with real peers, real cables and real time is in tests/test_liveness.py.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.liveness import ALIVE, DEAD, PING, Liveness

TIMINGS = INTERVAL, TIMEOUT = 20.0, 10.0
START = 1000.0


class Wire:
    """A transport; by default one whose peer is fine."""

    def __init__(self) -> None:
        self.stalls = False
        self.unanswered = 0.0
        self.bytes = 0

    def stalled(self) -> bool:
        return self.stalls

    def unanswered_for(self) -> float:
        return self.unanswered

    def unsent(self) -> int:
        return self.bytes


class Case:
    """One connection that is judged when it asks for it."""

    def __init__(self) -> None:
        self.now = START
        self.wire = Wire()
        self.life = Liveness(START)
        self.reading = True
        self.blocked = False
        self.checks = 0

    def judge(self) -> int:
        self.checks += 1
        return self.life.judge(
            self.now, TIMINGS, self.wire, reading=self.reading, blocked=self.blocked
        )

    def next_check(self) -> float:
        by_transport = self.blocked or not self.reading
        return self.life.next_check(TIMINGS, by_transport=by_transport)

    def watch(self, seconds: float) -> list[tuple[float, int]]:
        """What is judged in so many seconds, but that it lives; to its death."""
        end = self.now + seconds
        verdicts: list[tuple[float, int]] = []
        verdict = ALIVE
        while verdict != DEAD and (check := self.next_check()) <= end:
            assert check > self.now, "it asks without a pause"
            self.now = check
            verdict = self.judge()
            if verdict != ALIVE:
                verdicts.append((self.now - START, verdict))
        return verdicts


@pytest.fixture
def case() -> Case:
    return Case()


def test_silence_is_asked_and_then_dead(case: Case) -> None:
    assert case.watch(999) == [(INTERVAL, PING), (INTERVAL + TIMEOUT, DEAD)]


def test_too_early_is_alive(case: Case) -> None:
    case.now += INTERVAL - 1
    assert case.judge() == ALIVE
    case.now += 1
    assert case.judge() == PING
    case.now += TIMEOUT - 1
    assert case.judge() == ALIVE


def test_any_byte_is_life(case: Case) -> None:
    assert case.watch(INTERVAL) == [(INTERVAL, PING)]
    case.now += TIMEOUT - 1
    case.life.hear(case.now)
    heard = case.now - START
    assert case.watch(INTERVAL) == [(heard + INTERVAL, PING)]


@given(st.lists(st.floats(0.01, INTERVAL + TIMEOUT - 0.1), max_size=20))
def test_whoever_speaks_in_time_lives(pauses: list[float]) -> None:
    case = Case()
    for pause in pauses:
        spoken = case.now + pause
        assert DEAD not in [verdict for _, verdict in case.watch(pause)]
        case.now = spoken
        case.life.hear(case.now)


@pytest.mark.parametrize("reading", [True, False])
def test_who_does_not_read_lives_as_long_as_its_tcp(case: Case, reading: bool) -> None:
    case.blocked, case.reading = True, reading
    assert case.watch(1000) == []
    case.wire.stalls = True
    stalled = case.now - START
    [(died, verdict)] = case.watch(1000)
    assert verdict == DEAD
    assert TIMEOUT <= died - stalled <= 2 * TIMEOUT


def test_a_stall_that_passes_is_forgotten(case: Case) -> None:
    case.blocked = True
    for _ in range(20):
        case.wire.stalls = not case.wire.stalls
        assert case.watch(TIMEOUT * 0.7) == []


def test_while_we_do_not_read_tcp_is_asked(case: Case) -> None:
    """With pings that nobody has to answer: TCP acknowledges them."""
    case.reading = False
    pings = case.watch(10 * INTERVAL)
    assert [verdict for _, verdict in pings] == [PING] * len(pings)
    gaps = [b - a for (a, _), (b, _) in pairwise(pings)]
    assert all(INTERVAL <= gap <= INTERVAL + TIMEOUT / 4 for gap in gaps)
    assert case.checks <= 10 * INTERVAL / (TIMEOUT / 4)


def test_while_we_do_not_read_a_dead_peer_is_noticed(case: Case) -> None:
    case.reading = False
    case.watch(INTERVAL)
    case.wire.stalls = True
    assert case.watch(2 * TIMEOUT)[-1][1] == DEAD


def test_reading_on_begins_anew(case: Case) -> None:
    case.reading = False
    case.watch(100)
    case.reading = True
    case.life.hear(case.now)
    assert case.watch(INTERVAL - 1) == []
    assert [verdict for _, verdict in case.watch(INTERVAL + TIMEOUT)] == [PING, DEAD]


def test_a_ping_that_waits_behind_unread_output(case: Case) -> None:
    """It is in the kernel's buffer, and the client reads slowly."""
    case.wire.bytes = 9000
    verdicts = [verdict for _, verdict in case.watch(1000)]
    assert verdicts == [PING] * len(verdicts)
    case.wire.bytes = 0  # it has everything now
    assert [verdict for _, verdict in case.watch(1000)] == [PING, DEAD]


def test_a_ping_that_nobody_acknowledges(case: Case) -> None:
    case.wire.bytes = 9000
    case.wire.unanswered = TIMEOUT
    assert case.watch(999) == [(INTERVAL, PING), (INTERVAL + TIMEOUT, DEAD)]


def test_a_ping_behind_the_closed_window_of_a_dead_peer(case: Case) -> None:
    """TCP repeats nothing, it probes the window, and nobody answers."""
    case.wire.bytes = 9000
    case.watch(INTERVAL)
    case.wire.stalls = True
    [(died, verdict)] = case.watch(999)
    assert verdict == DEAD
    assert died <= INTERVAL + 3 * TIMEOUT


def test_a_stall_that_ends_while_we_read_begins_anew(case: Case) -> None:
    case.wire.bytes = 9000
    case.watch(INTERVAL)
    case.wire.stalls = True
    assert case.watch(TIMEOUT + 1) == []
    case.wire.stalls = False
    case.wire.bytes = 0
    assert [verdict for _, verdict in case.watch(1000)] == [PING, DEAD]


def test_an_interval_shorter_than_the_timeout_is_kept() -> None:
    timings, answer = (1.0, 20.0), 0.25
    life = Liveness(START)
    asked: list[float] = []
    while len(asked) < 4:
        now = life.next_check(timings, by_transport=False)
        if life.judge(now, timings, Wire(), reading=True, blocked=False) == PING:
            asked.append(now)
            life.hear(now + answer)
    assert [later - sooner for sooner, later in pairwise(asked)] == [1 + answer] * 3


def test_an_answer_sets_no_timer() -> None:
    """The check that was due for the ping finds the answer, and looks ahead."""
    timings = (1.0, 20.0)
    life = Liveness(START)
    ping = life.next_check(timings, by_transport=False)
    assert life.judge(ping, timings, Wire(), reading=True, blocked=False) == PING
    check = life.next_check(timings, by_transport=False)
    assert check == ping + 1
    life.hear(ping + 0.25)
    assert life.judge(check, timings, Wire(), reading=True, blocked=False) == ALIVE
    assert life.next_check(timings, by_transport=False) == ping + 1.25
