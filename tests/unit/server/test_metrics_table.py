"""Counters in shared memory, which a worker can leave at any store."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.metrics.families import CAPACITY, RESTARTS, SESSIONS, SESSIONS_ENDED
from chimirror.server import session_counters
from chimirror.server.metrics_report import MetricsReport
from chimirror.server.metrics_table import FIXED, MetricsTable, Region
from chimirror.server.session_counters import OTHER, SessionCounters, settle
from killing_view import KillingView, child, reap

SMALL = 8192  # bytes: room for about a hundred keys


@pytest.fixture
def make() -> Iterator[Callable[..., MetricsTable]]:
    made: list[MetricsTable] = []

    def make_table(workers: int = 2, size: int = SMALL) -> MetricsTable:
        made.append(MetricsTable(workers, size))
        return made[-1]

    yield make_table
    for table in made:
        table.close()


@pytest.fixture
def table(make: Callable[..., MetricsTable]) -> MetricsTable:
    return make()


def values(table: MetricsTable, name: str) -> dict[tuple[str, ...], Any]:
    """Return the samples of a family that are not 0."""
    samples = MetricsReport(table, 100).samples(0, 0.0)[name]
    return {key: value for key, value in samples.items() if value}


def counters(table: MetricsTable, worker: int) -> SessionCounters:
    return SessionCounters(table.regions[worker])


def run_session(metrics: SessionCounters, application: str, reason: str) -> None:
    metrics.on_admitted(application)
    metrics.on_opened(application, 0.001)
    metrics.on_closing(application)
    metrics.on_ended(application, reason)


# Regions


@given(st.dictionaries(st.binary(max_size=40), st.integers(1, 5)))
def test_entries_of_a_region(keys: dict[bytes, int]) -> None:
    table = MetricsTable(0, 1 << 16)
    region, *_ = table.regions
    used = set(range(FIXED))
    for key, count in keys.items():
        index = region.find_or_add(key, count)
        places = set(range(index, index + count))
        assert not places & used
        used |= places
        assert region.find_or_add(key, count) == index
        region.words[index] = len(key)
    other = Region(region._bytes[:])  # of another process
    assert dict(other.entries()) == dict(region.entries())
    assert dict(other.entries()).keys() == keys.keys()
    for key, index in other.entries():
        assert other.words[index] == len(key)
    other.release()
    table.close()


def test_a_full_region_takes_no_more_keys(table: MetricsTable) -> None:
    region = table.regions[0]
    keys = [b"%d" % number for number in range(2000)]
    added = [key for key in keys if region.find_or_add(key, 1)]
    assert 100 < len(added) < len(keys)
    assert added == keys[: len(added)]
    assert [key for key, _ in region.entries()] == added
    assert region.find_or_add(added[-1], 1)


# Sessions


def test_states_of_sessions(table: MetricsTable) -> None:
    one, two = counters(table, 0), counters(table, 1)
    for metrics in (one, two):
        metrics.on_admitted("sh")
    assert values(table, SESSIONS.name) == {("sh", "starting"): 2}
    one.on_opened("sh", 0.5)
    two.on_failed("sh")
    assert values(table, SESSIONS.name) == {("sh", "open"): 1}
    one.on_closing("sh")
    assert values(table, SESSIONS.name) == {("sh", "closing"): 1}
    one.on_ended("sh", "client close 4321")
    assert not values(table, SESSIONS.name)
    ended = values(table, SESSIONS_ENDED.name)
    assert ended == {("sh", "client close 4xxx"): 1}
    starts = values(table, "chimirror_start_seconds")[()]
    assert (sum(starts.counts), starts.sum) == (1, 0.5)


def test_what_a_worker_counts_stays(table: MetricsTable) -> None:
    first = counters(table, 0)
    run_session(first, "sh", "exit 0")
    first.on_refused("host")
    first.traffic[0] += 7
    settle(table.regions[0])
    second = counters(table, 0)
    run_session(second, "sh", "exit 0")
    run_session(second, "cat", "exit 1")
    second.on_refused("host")
    second.traffic[0] += 5
    ended = values(table, SESSIONS_ENDED.name)
    assert ended == {("sh", "exit 0"): 2, ("cat", "exit 1"): 1}
    assert values(table, "chimirror_refusals_total") == {("host",): 2}
    assert values(table, "chimirror_bytes_total") == {("in",): 12}


def test_sessions_of_a_dead_worker_are_lost(table: MetricsTable) -> None:
    dead, alive = counters(table, 0), counters(table, 1)
    run_session(dead, "sh", "exit 0")
    for metrics in (dead, alive):
        metrics.on_admitted("sh")  # never opens
        metrics.on_admitted("sh")
        metrics.on_opened("sh", 1.0)
        metrics.on_admitted("cat")
        metrics.on_opened("cat", 1.0)
        metrics.on_closing("cat")
    settle(table.regions[0])
    expected = {("sh", "starting"): 1, ("sh", "open"): 1, ("cat", "closing"): 1}
    assert values(table, SESSIONS.name) == expected
    ended = {("sh", "exit 0"): 1, ("sh", "lost"): 1, ("cat", "lost"): 1}
    assert values(table, SESSIONS_ENDED.name) == ended
    settle(table.regions[0])  # nothing more is lost
    assert values(table, SESSIONS_ENDED.name) == ended


def test_more_names_than_fit(make: Callable[..., MetricsTable]) -> None:
    table = make(workers=1)
    metrics = counters(table, 0)
    for number in range(400):
        run_session(metrics, f"application{number}", f"exit {number % 200}")
        metrics.on_refused(f"cause{number}")
    metrics.on_admitted("last")
    metrics.on_opened("last", 0.1)
    settle(table.regions[0])
    ended = values(table, SESSIONS_ENDED.name)
    assert sum(ended.values()) == 401
    assert ended[OTHER, OTHER] > 100
    assert sum(values(table, "chimirror_refusals_total").values()) == 400
    assert not values(table, SESSIONS.name)
    again = counters(table, 0)
    run_session(again, "more", "exit 0")
    assert sum(values(table, SESSIONS_ENDED.name).values()) == 402


def test_room_for_an_application_but_not_for_its_reasons(table: MetricsTable) -> None:
    metrics = counters(table, 0)
    metrics.add_application("sh")
    number = 0
    while table.regions[0].find_or_add(b"x%d" % number, 1):
        number += 1
    run_session(metrics, "sh", "exit 0")
    assert values(table, SESSIONS_ENDED.name) == {("sh", OTHER): 1}


def test_fixed_samples(table: MetricsTable) -> None:
    report = MetricsReport(table, 100)
    report.restarts["worker"] += 1
    samples = report.samples(3, 0.0)
    assert samples[CAPACITY.name] == {(): 100}
    assert samples[RESTARTS.name] == {("worker",): 1, ("zygote",): 0}
    assert samples["chimirror_spares"] == {(): 3}


# Deaths


@pytest.mark.parametrize("before", [True, False])
def test_death_at_every_store_loses_nothing(
    make: Callable[..., MetricsTable], before: bool
) -> None:
    """Die before or after each store in turn, from the first to the last."""
    deaths, is_over = 0, False
    totals = []
    while not is_over:
        table = make(workers=1)
        run_session(counters(table, 0), "old", "exit 0")

        def work(table: MetricsTable = table, deaths: int = deaths) -> None:
            region = table.regions[0]
            budget = [deaths]
            for name in ("words", "_bytes"):
                view = getattr(region, name)
                setattr(region, name, KillingView(view, budget, before))
            metrics = SessionCounters(region)
            run_session(metrics, "old", "exit 0")
            run_session(metrics, "new", "exit 1")

        status = reap(child(work))
        is_over = status == 0
        assert is_over or status == -signal.SIGKILL
        deaths += 1
        region = table.regions[0]
        settle(region)
        assert not values(table, SESSIONS.name)
        opened = {
            name: stages[session_counters.OPENED]
            for name, stages in session_counters.read_stages(region)
        }
        ended = dict.fromkeys(opened, 0)
        for (name, _), count in session_counters.read_ended(region):
            ended[name] += count
        assert opened == ended
        totals.append(sum(ended.values()))
        run_session(counters(table, 0), "new", "exit 1")  # the next worker
        found = values(table, SESSIONS_ENDED.name)
        assert sum(found.values()) == totals[-1] + 1
        assert found["old", "exit 0"] >= 1
    assert deaths > 20
    assert totals == sorted(totals)
    assert totals[-1] == 3
