"""Counts the sessions of one worker in its region of the MetricsTable.

A session goes through stages: admitted, opened, closing, ended. A session that is never
opened has failed instead. Each stage of each application has a counter that only grows,
and the numbers of sessions that run are differences. So the death of a worker between
two stores costs nothing: `settle` counts what was open as lost.

Knows no connection. The supervisor reads the same counters: `metrics_report`.
"""

from __future__ import annotations

from chimirror.metrics.families import START_BUCKETS, bucket_of
from chimirror.metrics.labels import LOST, reason_label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from chimirror.server.metrics_table import Region

# Kinds of keys.
APPLICATION, ENDED, REFUSAL, STARTS = b"a", b"e", b"r", b"s"
# Counters of an application. The last one has ends without room for their reason.
ADMITTED, FAILED, OPENED, CLOSING, ENDED_OTHER, STAGES = range(6)
# Counters of starts: each bucket, and the sum in nanoseconds.
BUCKETS = len(START_BUCKETS) + 1
# Stands for names that no longer fit. No application has such a name.
OTHER = "(other)"
_SECOND = 1_000_000_000


class SessionCounters:
    """Counters of sessions, refusals and traffic, as the sessions of a worker see them.

    Args:
        region: of this worker. Counters of former workers are in it.

    Attributes:
        traffic: bytes in, bytes out, messages in and messages out.
    """

    __slots__ = (
        "_applications",
        "_ended",
        "_refusals",
        "_region",
        "_starts",
        "traffic",
    )

    def __init__(self, region: Region) -> None:
        self._region = region
        self.traffic = region.traffic()
        self._applications: dict[str, int] = {}
        self._ended: dict[tuple[str, str], int] = {}
        self._refusals: dict[str, int] = {}
        # First, so that there is always room for these.
        self._starts = region.find_or_add(STARTS, BUCKETS + 1)
        self._refusals[OTHER] = region.find_or_add(REFUSAL + OTHER.encode(), 1)
        self._applications[OTHER] = region.find_or_add(
            APPLICATION + OTHER.encode(), STAGES
        )

    def add_application(self, name: str) -> None:
        """Report an application before its first session."""
        self._stages(name)

    def on_admitted(self, application: str) -> None:
        """Count a session whose application is being started."""
        self._region.words[self._stages(application) + ADMITTED] += 1

    def on_failed(self, application: str) -> None:
        """Count the end of a session that was never opened."""
        self._region.words[self._stages(application) + FAILED] += 1

    def on_opened(self, application: str, seconds: float) -> None:
        """Count a session that has opened, and the time that took."""
        words = self._region.words
        words[self._stages(application) + OPENED] += 1
        words[self._starts + bucket_of(seconds)] += 1
        words[self._starts + BUCKETS] += max(0, int(seconds * _SECOND))

    def on_closing(self, application: str) -> None:
        """Count an open session that has begun to close."""
        self._region.words[self._stages(application) + CLOSING] += 1

    def on_ended(self, application: str, reason: str) -> None:
        """Count a session that has ended after it was closing."""
        key = application, reason_label(reason)
        index = self._ended.get(key)
        if index is None:
            index = self._ended[key] = self._add_ended(*key)
        self._region.words[index] += 1

    def on_refused(self, cause: str) -> None:
        """Count a refused request."""
        index = self._refusals.get(cause)
        if index is None:
            index = self._region.find_or_add(REFUSAL + cause.encode(), 1)
            index = self._refusals[cause] = index or self._refusals[OTHER]
        self._region.words[index] += 1

    def _stages(self, application: str) -> int:
        index = self._applications.get(application)
        if index is None:
            key = APPLICATION + application.encode()
            index = self._region.find_or_add(key, STAGES)
            index = index or self._applications[OTHER]
            self._applications[application] = index
        return index

    def _add_ended(self, application: str, label: str) -> int:
        stages = self._stages(application)
        if stages == self._applications[OTHER]:
            application = OTHER
        return _ended(self._region, application, label) or stages + ENDED_OTHER


def _ended(region: Region, application: str, label: str) -> int:
    """Return the index of the counter for ends with a label, 0 without room."""
    return region.find_or_add(ENDED + f"{application}\0{label}".encode(), 1)


def read_stages(region: Region) -> Iterator[tuple[str, list[int]]]:
    """Return the name and the STAGES of each application."""
    for key, index in region.entries():
        if key[:1] == APPLICATION:
            yield key[1:].decode(), region.words[index : index + STAGES].tolist()


def read_ended(region: Region) -> Iterator[tuple[tuple[str, str], int]]:
    """Return application, label and number of the sessions that have ended."""
    for key, index in region.entries():
        if key[:1] == ENDED:
            application, _, label = key[1:].decode().partition("\0")
            yield (application, label), region.words[index]
        elif key[:1] == APPLICATION and region.words[index + ENDED_OTHER]:
            yield (key[1:].decode(), OTHER), region.words[index + ENDED_OTHER]


def read_refusals(region: Region) -> Iterator[tuple[str, int]]:
    """Return the causes of refusals with their numbers."""
    for key, index in region.entries():
        if key[:1] == REFUSAL and region.words[index]:
            yield key[1:].decode(), region.words[index]


def read_starts(region: Region) -> tuple[list[int], float]:
    """Return the counts of all buckets, and the sum of the times in seconds."""
    index = region.index_of(STARTS)
    if not index:
        return [0] * BUCKETS, 0.0
    words = region.words
    return words[index : index + BUCKETS].tolist(), words[index + BUCKETS] / _SECOND


def settle(region: Region) -> None:
    """End all sessions of a dead worker: those that were open are lost."""
    ended: dict[str, int] = {}
    for (application, _), count in read_ended(region):
        ended[application] = ended.get(application, 0) + count
    for application, stages in [*read_stages(region)]:
        index = region.index_of(APPLICATION + application.encode())
        opened = stages[OPENED]
        lost = opened - ended.get(application, 0)
        if lost:
            place = _ended(region, application, LOST) or index + ENDED_OTHER
            region.words[place] += lost
        region.words[index + CLOSING] = opened
        region.words[index + FAILED] = stages[ADMITTED] - opened
