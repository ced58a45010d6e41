"""Keepalive decisions with a fake transport and an injected clock.

tests/programs/test_liveness.py does the same with real peers and real cables.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.session.keepalive import ALIVE, DEAD, PING, Keepalive

TIMINGS = INTERVAL, TIMEOUT = 20.0, 10.0
START = 1000.0


class FakeTransport:
    """TCP state set by the test. By default all data is acknowledged."""

    def __init__(self) -> None:
        self.stalls = False
        self.unanswered = 0.0
        self.bytes = 0

    def is_retransmitting(self) -> bool:
        return self.stalls

    def seconds_since_ack(self) -> float:
        return self.unanswered

    def unacked_bytes(self) -> int:
        return self.bytes


class Simulation:
    """One connection, checked at the times that it asks for."""

    def __init__(self) -> None:
        self.now = START
        self.transport = FakeTransport()
        self.keepalive = Keepalive(START)
        self.reading = True
        self.blocked = False
        self.checks = 0

    def check(self) -> int:
        self.checks += 1
        return self.keepalive.check(
            self.now,
            TIMINGS,
            self.transport,
            reading=self.reading,
            blocked=self.blocked,
        )

    def next_check(self) -> float:
        by_transport = self.blocked or not self.reading
        return self.keepalive.next_check(TIMINGS, by_transport=by_transport)

    def watch(self, seconds: float) -> list[tuple[float, int]]:
        """Run checks for some seconds, or until the connection is dead.

        Returns:
            Time and result of each check, except for ALIVE.
        """
        end = self.now + seconds
        results: list[tuple[float, int]] = []
        result = ALIVE
        while result != DEAD and (check := self.next_check()) <= end:
            assert check > self.now, "it asks without a pause"
            self.now = check
            result = self.check()
            if result != ALIVE:
                results.append((self.now - START, result))
        return results


@pytest.fixture
def simulation() -> Simulation:
    return Simulation()


def test_silent_client_is_pinged_then_dead(simulation: Simulation) -> None:
    assert simulation.watch(999) == [(INTERVAL, PING), (INTERVAL + TIMEOUT, DEAD)]


def test_early_checks_change_nothing(simulation: Simulation) -> None:
    simulation.now += INTERVAL - 1
    assert simulation.check() == ALIVE
    simulation.now += 1
    assert simulation.check() == PING
    simulation.now += TIMEOUT - 1
    assert simulation.check() == ALIVE


def test_any_received_byte_counts(simulation: Simulation) -> None:
    assert simulation.watch(INTERVAL) == [(INTERVAL, PING)]
    simulation.now += TIMEOUT - 1
    simulation.keepalive.on_data_received(simulation.now)
    heard = simulation.now - START
    assert simulation.watch(INTERVAL) == [(heard + INTERVAL, PING)]


@given(st.lists(st.floats(0.01, INTERVAL + TIMEOUT - 0.1), max_size=20))
def test_client_that_sends_in_time_stays_alive(pauses: list[float]) -> None:
    simulation = Simulation()
    for pause in pauses:
        received_at = simulation.now + pause
        assert DEAD not in [result for _, result in simulation.watch(pause)]
        simulation.now = received_at
        simulation.keepalive.on_data_received(simulation.now)


@pytest.mark.parametrize("reading", [True, False])
def test_client_that_does_not_read_lives_as_long_as_tcp(
    simulation: Simulation, reading: bool
) -> None:
    simulation.blocked, simulation.reading = True, reading
    assert simulation.watch(1000) == []
    simulation.transport.stalls = True
    stalled = simulation.now - START
    [(died, result)] = simulation.watch(1000)
    assert result == DEAD
    assert TIMEOUT <= died - stalled <= 2 * TIMEOUT


def test_passing_stall_is_forgotten(simulation: Simulation) -> None:
    simulation.blocked = True
    for _ in range(20):
        simulation.transport.stalls = not simulation.transport.stalls
        assert simulation.watch(TIMEOUT * 0.7) == []


def test_tcp_decides_while_reading_is_paused(simulation: Simulation) -> None:
    """Pings need no pong here: TCP acknowledges them."""
    simulation.reading = False
    pings = simulation.watch(10 * INTERVAL)
    assert [result for _, result in pings] == [PING] * len(pings)
    gaps = [b - a for (a, _), (b, _) in pairwise(pings)]
    assert all(INTERVAL <= gap <= INTERVAL + TIMEOUT / 4 for gap in gaps)
    assert simulation.checks <= 10 * INTERVAL / (TIMEOUT / 4)


def test_dead_peer_is_found_while_reading_is_paused(simulation: Simulation) -> None:
    simulation.reading = False
    simulation.watch(INTERVAL)
    simulation.transport.stalls = True
    assert simulation.watch(2 * TIMEOUT)[-1][1] == DEAD


def test_resumed_reading_restarts_the_interval(simulation: Simulation) -> None:
    simulation.reading = False
    simulation.watch(100)
    simulation.reading = True
    simulation.keepalive.on_data_received(simulation.now)
    assert simulation.watch(INTERVAL - 1) == []
    assert [result for _, result in simulation.watch(INTERVAL + TIMEOUT)] == [
        PING,
        DEAD,
    ]


def test_ping_behind_unread_output(simulation: Simulation) -> None:
    """The ping waits in the kernel's buffer, and the client reads slowly."""
    simulation.transport.bytes = 9000
    results = [result for _, result in simulation.watch(1000)]
    assert results == [PING] * len(results)
    simulation.transport.bytes = 0  # all output is acknowledged
    assert [result for _, result in simulation.watch(1000)] == [PING, DEAD]


def test_unacknowledged_ping(simulation: Simulation) -> None:
    simulation.transport.bytes = 9000
    simulation.transport.unanswered = TIMEOUT
    assert simulation.watch(999) == [(INTERVAL, PING), (INTERVAL + TIMEOUT, DEAD)]


def test_ping_behind_the_closed_window_of_a_dead_peer(simulation: Simulation) -> None:
    """TCP probes the closed window without an answer, and retransmits nothing."""
    simulation.transport.bytes = 9000
    simulation.watch(INTERVAL)
    simulation.transport.stalls = True
    [(died, result)] = simulation.watch(999)
    assert result == DEAD
    assert died <= INTERVAL + 3 * TIMEOUT


def test_ended_stall_restarts_the_interval(simulation: Simulation) -> None:
    simulation.transport.bytes = 9000
    simulation.watch(INTERVAL)
    simulation.transport.stalls = True
    assert simulation.watch(TIMEOUT + 1) == []
    simulation.transport.stalls = False
    simulation.transport.bytes = 0
    assert [result for _, result in simulation.watch(1000)] == [PING, DEAD]


def test_interval_may_be_shorter_than_the_timeout() -> None:
    timings, answer = (1.0, 20.0), 0.25
    life = Keepalive(START)
    asked: list[float] = []
    while len(asked) < 4:
        now = life.next_check(timings, by_transport=False)
        if (
            life.check(now, timings, FakeTransport(), reading=True, blocked=False)
            == PING
        ):
            asked.append(now)
            life.on_data_received(now + answer)
    assert [later - sooner for sooner, later in pairwise(asked)] == [1 + answer] * 3


def test_pong_sets_no_timer() -> None:
    """The check due for the ping finds the pong and schedules the next interval."""
    timings = (1.0, 20.0)
    life = Keepalive(START)
    ping = life.next_check(timings, by_transport=False)
    assert (
        life.check(ping, timings, FakeTransport(), reading=True, blocked=False) == PING
    )
    check = life.next_check(timings, by_transport=False)
    assert check == ping + 1
    life.on_data_received(ping + 0.25)
    assert (
        life.check(check, timings, FakeTransport(), reading=True, blocked=False)
        == ALIVE
    )
    assert life.next_check(timings, by_transport=False) == ping + 1.25
