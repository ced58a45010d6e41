"""Collects the samples of the whole server, from the counters of all its processes.

The supervisor calls this for each request of /metrics. Knows no connection and no text
format.
"""

from __future__ import annotations

from chimirror.metrics import families
from chimirror.metrics.families import Histogram
from chimirror.server import session_counters
from chimirror.server.metrics_table import LOOP_DUE, LOOP_LATE
from chimirror.server.session_counters import (
    ADMITTED,
    CLOSING,
    FAILED,
    OPENED,
    OTHER,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from chimirror.metrics.exposition import Samples, Value
    from chimirror.server.metrics_table import MetricsTable, Region

_SECOND = 1_000_000_000
DIRECTIONS = ("in", "out")


class MetricsReport:
    """The samples of one server.

    Args:
        table: counters of all workers.
        capacity: the most sessions that may run at once.

    Attributes:
        restarts: numbers of the processes that were replaced, by their kind.
    """

    def __init__(self, table: MetricsTable, capacity: int) -> None:
        self._table = table
        self._capacity = capacity
        self.restarts = {"worker": 0, "zygote": 0}

    def samples(self, spares: int, now: float) -> Samples:
        """Return all samples.

        Args:
            spares: number of spares now.
            now: time of CLOCK_MONOTONIC in seconds.
        """
        regions = self._table.regions
        traffic = [sum(column) for column in zip(*map(_traffic, regions), strict=True)]
        found: dict[str, Mapping[tuple[str, ...], Value]] = {
            families.SESSIONS.name: _sessions(regions),
            families.SESSIONS_ENDED.name: _all_ended(regions),
            families.REFUSALS.name: _refusals(regions),
            families.BYTES.name: _by_direction(traffic[:2]),
            families.MESSAGES.name: _by_direction(traffic[2:]),
            families.START_SECONDS.name: {(): _starts(regions)},
            families.SPARES.name: {(): spares},
            families.CAPACITY.name: {(): self._capacity},
            families.LOOP_LAG.name: _lags(regions, now),
            families.RESTARTS.name: {(kind,): n for kind, n in self.restarts.items()},
        }
        return found


def _traffic(region: Region) -> list[int]:
    return region.traffic().tolist()


def _by_direction(values: list[int]) -> dict[tuple[str, ...], Value]:
    return {(name,): value for name, value in zip(DIRECTIONS, values, strict=True)}


def _sessions(regions: list[Region]) -> dict[tuple[str, ...], Value]:
    """Return the sessions that run, by application and state.

    A worker may count while this reads: no difference becomes negative.
    """
    ended: dict[str, int] = {}
    for (application, _), count in _all_ended(regions).items():
        ended[application] = ended.get(application, 0) + count
    sums: dict[str, list[int]] = {}
    for region in regions:
        for application, stages in session_counters.read_stages(region):
            known = sums.setdefault(application, [0] * len(stages))
            sums[application] = [a + b for a, b in zip(known, stages, strict=True)]
    found: dict[tuple[str, ...], Value] = {}
    for application, stages in sums.items():
        if application == OTHER and not stages[ADMITTED]:
            continue
        starting = stages[ADMITTED] - stages[FAILED] - stages[OPENED]
        found[application, "starting"] = max(0, starting)
        found[application, "open"] = max(0, stages[OPENED] - stages[CLOSING])
        closing = stages[CLOSING] - ended.get(application, 0)
        found[application, "closing"] = max(0, closing)
    return found


def _all_ended(regions: list[Region]) -> dict[tuple[str, ...], int]:
    found: dict[tuple[str, ...], int] = {}
    for region in regions:
        for key, count in session_counters.read_ended(region):
            found[key] = found.get(key, 0) + count
    return found


def _refusals(regions: list[Region]) -> dict[tuple[str, ...], int]:
    found: dict[tuple[str, ...], int] = {}
    for region in regions:
        for cause, count in session_counters.read_refusals(region):
            found[cause,] = found.get((cause,), 0) + count
    return found


def _starts(regions: list[Region]) -> Histogram:
    total = Histogram()
    for region in regions:
        counts, seconds = session_counters.read_starts(region)
        total.counts = [a + b for a, b in zip(total.counts, counts, strict=True)]
        total.sum += seconds
    return total


def _lags(regions: list[Region], now: float) -> dict[tuple[str, ...], Value]:
    """Return for how long each loop was late, or is late by now."""
    found: dict[tuple[str, ...], Value] = {}
    for number, region in enumerate(regions):
        due = region.words[LOOP_DUE]
        if due:
            late = max(region.words[LOOP_LATE], int(now * _SECOND) - due, 0)
            is_worker = number < len(regions) - 1
            name = f"worker {number}" if is_worker else "supervisor"
            found[name,] = late / _SECOND
    return found
