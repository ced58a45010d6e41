"""The series that a host reports: names, types, help texts and labels.

chimirror-server(1) lists the same in its section METRICS. Names follow the rules of
Prometheus: base units, and `_total` at the end of a counter.
"""

from __future__ import annotations

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"

# Upper bounds of the buckets of chimirror_start_seconds, without the last: infinity.
# A warm copy starts in 1 ms, a large program on a busy host within seconds.
START_BUCKETS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)


class Family:
    """The series of one name.

    Attributes:
        name: The name, with `_total` for a counter.
        kind: COUNTER, GAUGE or HISTOGRAM.
        help: One line about the meaning.
        labels: Names of the labels, in the order of a sample's key.
    """

    __slots__ = ("help", "kind", "labels", "name")

    def __init__(
        self, name: str, kind: str, help_text: str, labels: tuple[str, ...] = ()
    ) -> None:
        self.name = name
        self.kind = kind
        self.help = help_text
        self.labels = labels


class Histogram:
    """Observed values, counted by START_BUCKETS.

    Attributes:
        counts: Number of values in each bucket, not added up. The last bucket, without
            an upper bound, makes it one longer than START_BUCKETS.
        sum: Sum of the values.
    """

    __slots__ = ("counts", "sum")

    def __init__(self, counts: list[int] | None = None, total: float = 0.0) -> None:
        self.counts = [0] * (len(START_BUCKETS) + 1) if counts is None else counts
        self.sum = total

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bucket_of(value)] += 1
        self.sum += value


def bucket_of(value: float) -> int:
    """Return the index of the bucket that counts this value."""
    for index, bound in enumerate(START_BUCKETS):
        if value <= bound:
            return index
    return len(START_BUCKETS)


FAMILIES = (
    SESSIONS := Family(
        "chimirror_sessions",
        GAUGE,
        "Sessions that run now: starting, open or closing.",
        ("application", "state"),
    ),
    SESSIONS_ENDED := Family(
        "chimirror_sessions_ended_total",
        COUNTER,
        "Sessions that have ended, by the reason of the close.",
        ("application", "reason"),
    ),
    REFUSALS := Family(
        "chimirror_refusals_total",
        COUNTER,
        "Refused requests, by the cause in their records.",
        ("cause",),
    ),
    BYTES := Family(
        "chimirror_bytes_total",
        COUNTER,
        "Bytes of messages from clients (in) and to clients (out).",
        ("direction",),
    ),
    MESSAGES := Family(
        "chimirror_messages_total",
        COUNTER,
        "Messages from clients (in) and to clients (out).",
        ("direction",),
    ),
    START_SECONDS := Family(
        "chimirror_start_seconds",
        HISTOGRAM,
        "Seconds from a complete request to its running application.",
    ),
    SPARES := Family(
        "chimirror_spares",
        GAUGE,
        "Applications that were started early and wait for a session.",
    ),
    CAPACITY := Family(
        "chimirror_capacity_sessions",
        GAUGE,
        "The most sessions that may run at once.",
    ),
    LOOP_LAG := Family(
        "chimirror_loop_lag_seconds",
        GAUGE,
        "Seconds for which the event loop of a process has not answered.",
        ("process",),
    ),
    RESTARTS := Family(
        "chimirror_restarts_total",
        COUNTER,
        "Processes that were started again after an unexpected end.",
        ("process",),
    ),
)
