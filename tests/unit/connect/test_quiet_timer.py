"""Quiet after the end of input."""

from __future__ import annotations

from chimirror.connect.quiet_timer import QuietTimer


def test_quiet_counts_from_the_end_of_input_and_the_last_output() -> None:
    timer = QuietTimer(5.0)
    timer.restart(1.0)
    assert timer.left(100.0) is None
    timer.start(100.0)
    assert timer.left(101.0) == 4.0
    timer.restart(104.0)
    assert timer.left(108.0) == 1.0
    assert timer.left(200.0) == 0.0


def test_no_limit() -> None:
    timer = QuietTimer(None)
    timer.start(0.0)
    assert timer.left(1e9) is None
