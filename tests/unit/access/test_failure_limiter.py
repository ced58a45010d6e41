"""Failed attempts of a source: a burst, then one in an interval, in bounded memory."""

from __future__ import annotations

from chimirror.access.failure_limiter import (
    BURST,
    INTERVAL,
    MAX_SOURCES,
    FailureLimiter,
)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def fail(limiter: FailureLimiter, source: str, times: int) -> None:
    for _ in range(times):
        limiter.on_failure(source)


def test_a_burst_is_allowed() -> None:
    limiter = FailureLimiter(Clock())
    fail(limiter, "a", BURST - 1)
    assert limiter.retry_after("a") == 0
    fail(limiter, "a", 1)
    assert limiter.retry_after("a") == INTERVAL
    assert limiter.retry_after("b") == 0


def test_one_more_is_allowed_after_each_interval() -> None:
    clock = Clock()
    limiter = FailureLimiter(clock)
    fail(limiter, "a", BURST)
    clock.now += INTERVAL - 0.5
    assert limiter.retry_after("a") == 1
    clock.now += 0.5
    assert limiter.retry_after("a") == 0
    fail(limiter, "a", 1)
    assert limiter.retry_after("a") == INTERVAL


def test_all_failures_are_forgotten_in_time() -> None:
    clock = Clock()
    limiter = FailureLimiter(clock)
    fail(limiter, "a", BURST)
    clock.now += BURST * INTERVAL
    fail(limiter, "a", BURST - 1)
    assert limiter.retry_after("a") == 0


def test_the_source_that_failed_first_is_forgotten() -> None:
    limiter = FailureLimiter(Clock())
    fail(limiter, "a", BURST)
    fail(limiter, "b", BURST)
    fail(limiter, "a", 1)  # the last one now
    for number in range(MAX_SOURCES - 1):
        fail(limiter, f"{number}", 1)
    assert limiter.retry_after("a") == 2 * INTERVAL
    assert limiter.retry_after("b") == 0
