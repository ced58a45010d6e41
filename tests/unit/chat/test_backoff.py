"""Tests the delays between attempts of examples/chat to connect."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.backoff import ATTEMPTS, FIRST, LONGEST, Backoff


def delays(backoff: Backoff) -> list[float]:
    return list(iter(backoff.next_delay, None))


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_delays_double_up_to_a_limit(chance: float) -> None:
    found = delays(Backoff(lambda: chance))
    assert found[0] == FIRST * (1 + chance) / 2
    assert found[1] == 2 * found[0]
    assert found == sorted(found)
    assert found[-1] == LONGEST * (1 + chance) / 2
    assert len(found) == ATTEMPTS


@given(st.lists(st.floats(0, 1), min_size=ATTEMPTS, max_size=ATTEMPTS))
def test_the_sum_is_bounded(chances: list[float]) -> None:
    found = delays(Backoff(iter(chances).__next__))
    assert 90 < sum(found) < 240


def test_a_lasting_connection_begins_a_new_series() -> None:
    backoff = Backoff(lambda: 1.0)
    backoff.next_delay()
    backoff.next_delay()
    backoff.reset()
    assert backoff.next_delay() == FIRST
