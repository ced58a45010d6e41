"""The line for HAProxy's agent-check."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.metrics.agent_check import STOPPED, agent_line


@pytest.mark.parametrize(
    ("sessions", "capacity", "line"),
    [
        (0, 100, b"ready up 100%\n"),
        (27, 100, b"ready up 73%\n"),
        (0, 1, b"ready up 100%\n"),
        (9_999, 10_000, b"ready up 1%\n"),
        (1, 3, b"ready up 67%\n"),
        (100, 100, b"ready up 0%\n"),
        (101, 100, b"ready up 0%\n"),  # the limit was lowered
        (0, 0, b"ready up 0%\n"),
    ],
)
def test_capacity_left(sessions: int, capacity: int, line: bytes) -> None:
    assert agent_line(sessions, capacity, draining=False) == line


@pytest.mark.parametrize("sessions", [0, 50, 100])
def test_a_draining_host_gets_no_new_session(sessions: int) -> None:
    assert agent_line(sessions, 100, draining=True) == b"drain\n"


def test_a_host_without_a_service() -> None:
    assert STOPPED == b"stopped\n"


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_only_a_full_host_has_no_weight(sessions: int, capacity: int) -> None:
    line = agent_line(sessions, capacity, draining=False)
    percent = int(line.removeprefix(b"ready up ").removesuffix(b"%\n"))
    assert 0 <= percent <= 100
    assert (percent == 0) is (sessions >= capacity)
