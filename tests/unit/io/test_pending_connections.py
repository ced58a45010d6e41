"""Connections without a session: who gives way, and in which order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chimirror.io.pending_connections import PendingConnections


class Pool:
    """A pool that records who gave way."""

    def __init__(self, limit: int, share: int) -> None:
        self.closed: list[str] = []
        self.pool = PendingConnections(limit, share, self.closed.append)

    def add(self, *entries: str) -> None:
        """Add entries such as `a1`, of the source `a`. `?` has no share."""
        for entry in entries:
            source = entry[0]
            self.pool.add(entry, None if source == "?" else source)


def test_share_of_a_source() -> None:
    pool = Pool(limit=9, share=2)
    pool.add("a1", "b1", "a2", "a3", "b2", "a4")
    assert pool.closed == ["a1", "a2"]
    assert list(pool.pool) == ["b1", "a3", "b2", "a4"]


def test_largest_source_gives_way() -> None:
    pool = Pool(limit=4, share=3)
    pool.add("a1", "b1", "b2", "c1", "d1")
    assert pool.closed == ["b1"]
    pool.add("e1")
    assert pool.closed == ["b1", "a1"], "of equal groups, the first"


def test_unknown_source_has_no_share() -> None:
    pool = Pool(limit=4, share=1)
    pool.add("?1", "?2", "?3", "a1")
    assert not pool.closed
    pool.add("b1")
    assert pool.closed == ["?1"]


def test_discarded_connection_leaves_room() -> None:
    pool = Pool(limit=2, share=2)
    pool.add("a1", "a2")
    for entry in ("a1", "a1", "b1"):
        pool.pool.discard(entry)
    assert "a1" not in pool.pool
    pool.add("a3")
    assert not pool.closed
    assert len(pool.pool) == 2


def test_connection_that_turns_into_another() -> None:
    """Each that gives way is replaced by another, which does not give way."""
    many = 2000
    closed: list[int] = []

    def close(entry: int) -> None:
        closed.append(entry)
        if entry < many:
            pool.add(entry + 10 * many, "a")

    pool = PendingConnections(2 * many, many, close)
    for entry in range(many + 1):
        pool.add(entry, "a")
    assert closed == [*range(many + 1)]
    assert list(pool) == [*range(10 * many, 11 * many)]


@given(st.lists(st.sampled_from("ab?")), st.integers(2, 5), st.integers(1, 5))
def test_bounds_hold_and_the_newest_stays(
    sources: list[str], limit: int, share: int
) -> None:
    pool = Pool(limit, share)
    for number, source in enumerate(sources):
        entry = f"{source}{number}"
        pool.add(entry)
        assert entry in pool.pool
        assert len(pool.pool) <= limit
        for each in "ab":
            assert sum(one[0] == each for one in pool.pool) <= share
