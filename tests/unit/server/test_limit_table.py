"""Tests that limits hold exactly over real processes, even when processes die.

A process may die at any store, before or after it.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from fcntl import LOCK_EX, LOCK_UN

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chimirror.server import limit_table
from chimirror.server.admission import source_key
from chimirror.server.limit_table import FAR, SECOND, LimitTable
from killing_view import KillingView, child, reap

SOURCES = [source_key(f"10.0.0.{i}") for i in range(40)]
VIEWS = ["_words", "_keys", "_sessions", "_heads", "_next", "_counts"]
TableMaker = Callable[..., LimitTable]


class Clock:
    """A clock in nanoseconds that a test advances."""

    def __init__(self) -> None:
        self.now = 1000 * SECOND

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def make() -> Iterator[TableMaker]:
    made: list[LimitTable] = []

    def maker(
        max_sessions: int = 1000,
        per_source: int | None = None,
        rate: float | None = None,
        workers: int = 3,
        clock: Callable[[], int] | None = None,
    ) -> LimitTable:
        table = LimitTable(max_sessions, per_source, rate, workers, clock or Clock())
        made.append(table)
        return table

    yield maker
    for table in made:
        table.close()


def test_a_drain_holds_in_all_workers(make: TableMaker) -> None:
    table = make(per_source=2)
    assert table.acquire(0, b"a") is None
    assert table.set_draining(True)
    assert not table.set_draining(True)

    def work() -> None:
        assert table.draining
        assert table.acquire(1, b"a") == limit_table.DRAIN

    assert reap(child(work)) == 0
    table.release(0, b"a")
    assert table.set_draining(False)
    assert table.acquire(1, b"a") is None
    assert (table.total(), table.draining) == (1, False)


def full(table: LimitTable, worker: int, source: bytes) -> int:
    """Return how many sessions of `source` are admitted. All are released again."""
    taken = 0
    while table.acquire(worker, source) is None:
        taken += 1
    for _ in range(taken):
        table.release(worker, source)
    return taken


# Limits in one process


def test_the_total_is_over_all_workers(make: TableMaker) -> None:
    table = make(max_sessions=3)
    assert [table.acquire(w, b"s") for w in (0, 1, 2)] == [None] * 3
    assert table.acquire(0, b"s") == "max-sessions"
    assert (table.total(), table.count(1)) == (3, 1)
    table.release(1, b"s")
    assert table.acquire(2, b"t") is None
    assert (table.total(), table.count(1), table.count(2)) == (3, 0, 2)


@pytest.mark.parametrize(
    ("others", "locks"), [(0, 0), (1000 - 3 * FAR, 0), (1001 - 3 * FAR, 1)]
)
def test_the_lock_is_taken_near_the_limit(
    others: int, locks: int, make: TableMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    monkeypatch.setattr(limit_table, "lockf", lambda _, how: taken.append(how))
    table = make()
    table._sessions[1] = others
    assert table.acquire(0, b"") is None
    assert taken == [LOCK_EX, LOCK_UN] * locks
    assert table.total() == others + 1


@pytest.mark.parametrize("limit", [{"per_source": 900}, {"rate": 900.0}])
def test_other_limits_take_the_lock(
    limit: dict[str, float], make: TableMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    monkeypatch.setattr(limit_table, "lockf", lambda _, how: taken.append(how))
    assert make(**limit).acquire(0, b"a") is None
    assert taken == [LOCK_EX, LOCK_UN]


@pytest.mark.parametrize(("others", "cause"), [(999, None), (1000, "max-sessions")])
def test_admissions_of_others_between_the_two_looks(
    others: int, cause: str | None, make: TableMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock decides, and what was counted without it is taken back."""
    table = make()
    sums = iter([0])

    def look(words: memoryview) -> int:
        words[1] = next(sums, others)
        return sum(words)

    monkeypatch.setattr(limit_table, "sum", look, raising=False)
    assert table.acquire(0, b"") == cause
    assert table.count(0) == (cause is None)


def test_limit_of_each_source(make: TableMaker) -> None:
    table = make(per_source=2)
    assert table.acquire(0, b"a") is None
    assert table.acquire(1, b"a") is None
    assert table.acquire(2, b"a") == "max-sessions-per-source"
    assert table.acquire(2, b"b") is None
    table.release(0, b"a")
    assert table.acquire(2, b"a") is None
    assert table.total() == 3


@pytest.mark.parametrize("per_source", [None, 5])
def test_release_without_acquire_is_an_error(
    make: TableMaker, per_source: int | None
) -> None:
    table = make(per_source=per_source)
    assert table.acquire(0, b"a") is None
    with pytest.raises(ValueError, match="no such session"):
        table.release(1, b"a")
    if per_source:
        with pytest.raises(ValueError, match="no such session"):
            table.release(0, b"b")
    table.release(0, b"a")
    with pytest.raises(ValueError, match="no such session"):
        table.release(0, b"a")
    assert table.total() == 0


def test_the_rate_is_a_bucket_of_one_second(make: TableMaker) -> None:
    clock = Clock()
    table = make(rate=3, clock=clock)
    assert [table.acquire(0, b"") for _ in range(3)] == [None] * 3
    assert table.acquire(1, b"") == "max-rate"
    clock.now += SECOND // 3
    assert table.acquire(1, b"") == "max-rate"  # a nanosecond short of 1/3 s
    clock.now += 1
    assert table.acquire(1, b"") is None
    assert table.acquire(2, b"") == "max-rate"
    clock.now += 3600 * SECOND
    assert [table.acquire(0, b"") for _ in range(4)] == [None] * 3 + ["max-rate"]


def test_a_refusal_spends_no_token(make: TableMaker) -> None:
    table = make(max_sessions=2, per_source=1, rate=2)
    assert table.acquire(0, b"a") is None
    for _ in range(5):
        assert table.acquire(0, b"a") == "max-sessions-per-source"
    assert table.acquire(0, b"b") is None
    assert table.acquire(0, b"c") == "max-sessions"
    table.release(0, b"a")
    assert table.acquire(0, b"a") == "max-rate"


@given(st.data())
def test_a_search_for_limits_counts_nothing(data: st.DataObject) -> None:
    """It finds what the next session would be refused for."""
    clock = Clock()
    limits = data.draw(st.tuples(st.integers(1, 4), st.sampled_from([None, 1, 2])))
    rate = data.draw(st.sampled_from([None, 0.5, 3.0]))
    steps = data.draw(st.lists(st.integers(0, 6), max_size=30))
    table = LimitTable(*limits, rate, 1, clock)
    admitted: list[bytes] = []
    for step in steps:
        if step == 6:
            clock.now += SECOND
        elif step > 3 and admitted:
            table.release(0, admitted.pop())
        else:
            source, limit = SOURCES[step], step % 2
            found = table.find_exceeded(source, limit)
            assert table.find_exceeded(source, limit) == found
            assert table.acquire(0, source, limit) == found
            admitted += [source] * (found is None)
        assert table.total() == len(admitted)
    table.set_draining(True)
    assert table.find_exceeded(b"") == "drain"
    table.close()


def test_a_rate_below_one_admits_one_at_a_time(make: TableMaker) -> None:
    clock = Clock()
    table = make(rate=0.25, clock=clock)
    assert table.acquire(0, b"") is None
    clock.now += 4 * SECOND - 1
    assert table.acquire(0, b"") == "max-rate"
    clock.now += 1
    assert table.acquire(0, b"") is None


@given(
    rate=st.floats(0.01, 5000),
    steps=st.lists(st.integers(0, 2 * SECOND), min_size=1, max_size=60),
)
@settings(max_examples=60)
def test_no_window_holds_more_than_the_rate(rate: float, steps: list[int]) -> None:
    clock = Clock()
    table = LimitTable(10_000, None, rate, 1, clock)
    admitted: list[int] = []
    for step in steps:
        clock.now += step
        got_in = [table.acquire(0, b"") for _ in range(3)].count(None)
        admitted += [clock.now] * got_in
    table.close()
    for i, first in enumerate(admitted):
        for j, last in enumerate(admitted[i:], 1):
            assert j <= max(1.0, rate) + rate * (last - first) / SECOND + 1e-6


def test_retry_after(make: TableMaker) -> None:
    clock = Clock()
    table = make(rate=0.25, clock=clock)
    assert table.retry_after("max-rate") == 1
    table.acquire(0, b"")
    assert table.retry_after("max-rate") == 4
    clock.now += SECOND // 2
    assert table.retry_after("max-rate") == 4
    clock.now += 3 * SECOND
    assert table.retry_after("max-rate") == 1
    assert table.retry_after("max-sessions") == 5


# The hash table compared with a plain counter


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["enter", "leave", "forget"]),
            st.integers(0, 2),
            st.sampled_from(SOURCES[:12]),
        ),
        max_size=150,
    )
)
@settings(max_examples=80)
def test_it_counts_as_a_plain_counter_does(steps: list[tuple[str, int, bytes]]) -> None:
    table = LimitTable(20, 3, None, 3)
    held: Counter[tuple[int, bytes]] = Counter()
    for verb, worker, source in steps:
        if verb == "enter":
            mine = sum(n for (_, key), n in held.items() if key == source)
            want = "max-sessions" if held.total() == 20 else None
            want = want or ("max-sessions-per-source" if mine == 3 else None)
            assert table.acquire(worker, source) == want
            held[worker, source] += want is None
        elif verb == "leave" and held[worker, source]:
            table.release(worker, source)
            held[worker, source] -= 1
        elif verb == "forget" and worker == 2:
            table.release_worker(worker)
            held = Counter({k: n for k, n in held.items() if k[0] != 2})
        assert table.total() == held.total()
    table.close()


def test_all_entries_are_reused(make: TableMaker) -> None:
    """No entry leaks, in whatever order sessions are released, in one chain or many."""
    table = make(max_sessions=200, per_source=1)
    sources = [b"%d" % i for i in range(200)]
    for _ in range(5):
        random.Random(1).shuffle(sources)
        assert {table.acquire(0, s) for s in sources} == {None}
        assert table.acquire(0, b"one more") == "max-sessions"
        random.Random(2).shuffle(sources)
        for source in sources:
            table.release(0, source)


def test_one_chain_holds_all(make: TableMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LimitTable, "_key", lambda _, source: int(source) << 32)
    table = make(max_sessions=50, per_source=2)
    for source in range(25):
        assert table.acquire(0, b"%d" % source) is None
    for source in [7, 24, 0, *range(8, 20)]:
        table.release(0, b"%d" % source)
    for source in range(25):
        gone = source in {7, 24, 0} or 8 <= source < 20
        assert full(table, 1, b"%d" % source) == (2 if gone else 1)


# Many processes


def hammer(table: LimitTable, worker: int, turns: int, held: list[bytes]) -> None:
    """Acquire and release at random. The total never exceeds the limit."""
    dice = random.Random(worker)
    for _ in range(turns):
        source = dice.choice(SOURCES)
        if dice.random() < 0.55:
            if table.acquire(worker, source) is None:
                held.append(source)
            assert table.total() <= 60
        elif held:
            table.release(worker, held.pop(dice.randrange(len(held))))


def test_workers_together_never_pass_a_limit(make: TableMaker) -> None:
    """Each admission holds one of its source's slots.

    A slot is a file created with O_EXCL. One admission too many would find all slots of
    its source taken.
    """
    table = make(max_sessions=60, per_source=2, workers=4)

    def work(worker: int) -> Callable[[], None]:
        def run() -> None:
            held: list[bytes] = []
            hammer(table, worker, 3000, held)
            for source in held:
                table.release(worker, source)

        return run

    assert [reap(pid) for pid in [child(work(w)) for w in range(4)]] == [0] * 4
    assert table.total() == 0
    assert [full(table, 0, source) for source in SOURCES] == [2] * len(SOURCES)


@pytest.mark.parametrize("limit", ["max_sessions", "per_source", "rate"])
def test_exactly_as_many_as_allowed_get_in(make: TableMaker, limit: str) -> None:
    """Four processes acquire at the same time. Together they get exactly the limit."""
    table = make(workers=4, **{limit: 500})
    for _ in range(3):
        before, after = os.pipe()

        def work(worker: int, ends: tuple[int, int]) -> Callable[[], None]:
            def run() -> None:
                os.close(ends[1])
                os.read(ends[0], 1)  # the end of file starts all processes
                while table.acquire(worker, b"x") is None:
                    pass

            return run

        pids = [child(work(w, (before, after))) for w in range(4)]
        os.close(before)
        os.close(after)
        assert [reap(pid) for pid in pids] == [0] * 4
        assert table.total() == 500
        for worker in range(4):
            table.release_worker(worker)
        table._words[0] = 0  # the bucket is full again


# Deaths


def test_a_killed_worker_is_forgotten_and_no_other(make: TableMaker) -> None:
    """Kill a process at any instant, several times, while another runs at full speed.

    Death at each store is tested below. A kill of a busy process takes a second.
    """
    table = make(max_sessions=60, per_source=2)
    stop_read, stop_write = os.pipe()
    os.set_blocking(stop_read, False)

    def steady() -> None:
        os.close(stop_write)
        held: list[bytes] = []
        while True:
            hammer(table, 0, 50, held)
            try:
                os.read(stop_read, 1)
            except BlockingIOError:
                continue
            break
        assert len(held) == table.count(0)
        for source in held:
            table.release(0, source)

    def endless(ready: int) -> None:
        held: list[bytes] = []
        hammer(table, 1, 20, held)
        os.write(ready, b"!")
        while True:
            hammer(table, 1, 1000, held)

    survivor = child(steady)
    try:
        for _ in range(8):
            ready_read, ready_write = os.pipe()
            victim = child(lambda ready=ready_write: endless(ready))  # type: ignore[misc]
            os.close(ready_write)
            os.read(ready_read, 1)
            os.close(ready_read)
            os.kill(victim, signal.SIGKILL)
            assert reap(victim) == -signal.SIGKILL
            table.release_worker(1)
            assert table.count(1) == 0
    finally:
        os.close(stop_read)
        os.close(stop_write)
        assert reap(survivor) == 0
    assert table.total() == 0
    assert [full(table, 2, source) for source in SOURCES] == [2] * len(SOURCES)


@pytest.mark.parametrize("before", [True, False])
def test_death_at_every_store_leaves_counts_correct(
    make: TableMaker, before: bool
) -> None:
    """Die before or after each store in turn, from the first to the last."""
    ended = deaths = 0
    while ended != 1:
        table = make(max_sessions=8, per_source=2, rate=1000, workers=2)
        for source in (b"a", b"b", b"a", b"c"):
            table.acquire(0, source)

        def work(table: LimitTable = table, deaths: int = deaths) -> None:
            budget = [deaths]
            for name in VIEWS:
                setattr(table, name, KillingView(getattr(table, name), budget, before))
            table.acquire(1, b"new")  # a new entry
            table.release(1, b"new")
            table.acquire(1, b"b")
            table.acquire(1, b"newer")  # an entry of the free list
            table.release(1, b"b")
            table.release(1, b"newer")

        status = reap(child(work))
        if status == 0:
            ended = 1
        else:
            assert status == -signal.SIGKILL
            deaths += 1
        # Other workers go on at once, before the supervisor has noticed the death.
        assert table.acquire(0, b"a") == "max-sessions-per-source"
        table.release(0, b"c")
        table.release_worker(1)
        assert (table.total(), table.count(0)) == (3, 3)
        room = [full(table, 1, source) for source in (b"a", b"b", b"c", b"new")]
        assert room == [0, 1, 2, 2]
        table.release(0, b"b")
        for i in range(6):
            assert table.acquire(0, b"%d" % i) is None  # no entry was lost
        assert table.acquire(0, b"more") == "max-sessions"
    assert deaths > 20


def test_death_of_its_owner_releases_the_lock(make: TableMaker) -> None:
    """A process killed by its own clock dies while it holds the lock."""
    clock = Clock()
    table = make(rate=10, clock=clock)

    def work() -> None:
        def die() -> int:
            os.kill(os.getpid(), signal.SIGKILL)
            return 0

        table._clock = die
        table.acquire(0, b"")

    assert reap(child(work)) == -signal.SIGKILL
    assert table.acquire(1, b"") is None


def test_the_lock_is_not_passed_on_and_works_without_memfd(
    make: TableMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "memfd_create")
    table = make(max_sessions=1)
    assert not os.get_inheritable(table._lock)
    assert table.acquire(0, b"") is None
    assert table.acquire(0, b"") == "max-sessions"


# Sources


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8::1", "2001:db8::ffff:2"),
        ("fe80::1", "fe80::2"),
    ],
)
def test_one_source(one: str, other: str) -> None:
    assert source_key(one) == source_key(other)


def test_many_sources() -> None:
    addresses = [
        "192.0.2.1",
        "192.0.2.2",
        "2001:db8::1",
        "2001:db8:0:1::1",
        "a",
        "\udc80",
    ]
    keys = [source_key(address) for address in addresses]
    keys += [source_key("", 0), source_key("", 1000), source_key("")]
    assert len(set(keys)) == len(keys)


def test_the_words_are_a_contract() -> None:
    causes = (
        limit_table.MAX_SESSIONS,
        limit_table.MAX_SESSIONS_PER_SOURCE,
        limit_table.MAX_RATE,
    )
    assert causes == ("max-sessions", "max-sessions-per-source", "max-rate")


@pytest.mark.parametrize("most", [None, 1])
def test_sources_are_counted_where_there_is_a_limit(most: int | None) -> None:
    table = LimitTable(2, most, None, 1)
    try:
        assert table.by_source == (most is not None)
    finally:
        table.close()
