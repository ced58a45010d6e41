"""Limits on the records of one kind: what passes, what is counted, when it is told."""

from __future__ import annotations

from chimirror.io.loop import EventLoop
from chimirror.log.rate_limit import MAX_LABELS, RateLimit
from loops import FakeTimeWithPoller, Timer, event_loop, turn_until


def pass_time(loop: EventLoop, seconds: float) -> None:
    timer = Timer(loop)
    loop.set_timer(timer, loop.now + seconds)
    turn_until(loop, lambda: timer.calls)


def test_counts_are_reported_at_the_end_of_the_period() -> None:
    """No further record is needed for the report."""
    fake_time = FakeTimeWithPoller()
    reports: list[tuple[str, int]] = []

    def report(label: str, count: int) -> None:
        reports.append((label, count))

    with event_loop(lambda: fake_time, fake_time) as loop:
        limit = RateLimit(2, 10.0, report, loop.clock, loop)
        for period in range(2):
            passed = [limit.allows(label) for label in "abcbb"]
            assert passed == [True, True, False, False, False]
            pass_time(loop, 9)
            assert len(reports) == 2 * period
            pass_time(loop, 2)
            assert reports[2 * period :] == [("c", 1), ("b", 2)]
        limit.finish()
    assert len(reports) == 4


def test_labels_are_bounded() -> None:
    """The labels of closed connections are addresses of clients."""
    reports: dict[str, int] = {}
    limit = RateLimit(0, 10.0, reports.__setitem__, lambda: 1.0, None)
    for number in range(MAX_LABELS + 100):
        limit.allows(str(number))
    limit.finish()
    assert (len(reports), reports["other"]) == (MAX_LABELS + 1, 100)
