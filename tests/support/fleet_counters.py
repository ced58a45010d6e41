"""Sums over the ended sessions of a host: of its records, and of its metrics."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from chimirror.metrics.labels import reason_label
from fleet_hosts import Host
from fleet_prometheus import Prometheus
from processes import until

TRAFFIC = ("bytes_in", "bytes_out", "messages_in", "messages_out")
ENDED = "chimirror_sessions_ended_total"


class Sums(NamedTuple):
    """Sums of one host.

    Attributes:
        ends: sessions, by the label of the reason of their end.
        traffic: bytes in, bytes out, messages in and messages out.
    """

    ends: dict[str, float]
    traffic: list[float]


def recorded(host: Host, since: int, live: Sequence[dict[str, Any]] = ()) -> Sums:
    """Return the sums of `chimirror-ctl history`.

    Args:
        host: the host.
        since: microseconds since 1970. Sessions that ended before do not count.
        live: rows of `chimirror-ctl sessions` about sessions that were lost since. A
            lost session has no record of its traffic.
    """
    host.machine.do("journalctl", "--sync")
    argv = ("chimirror-ctl", "history", "--json", "--lines", "all")
    rows = [row for row in json.loads(host.machine.do(*argv)) if row["ended"] >= since]
    ids = {row["id"] for row in live}
    assert ids == {row["id"] for row in rows if row["bytes_in"] is None}
    moved = [row for row in rows if row["id"] not in ids] + list(live)
    return Sums(
        dict(Counter(reason_label(row["reason"]) for row in rows)),
        [float(sum(row[name] for row in moved)) for name in TRAFFIC],
    )


def scraped(asked: Prometheus, host: Host) -> Sums:
    """Return the sums that Prometheus has of a host."""
    chosen = f'{{instance="10.0.0.{host.number}:30757"}}'
    ends = asked.by(f"sum by (reason) ({ENDED}{chosen})", "reason")
    traffic = [
        asked.by(f"sum by (direction) (chimirror_{name}_total{chosen})", "direction")
        for name in ("bytes", "messages")
    ]
    return Sums(
        {reason: number for (reason,), number in ends.items() if number},
        [found.get((way,), 0.0) for found in traffic for way in ("in", "out")],
    )


def await_scraped(asked: Prometheus, host: Host, sums: Sums) -> None:
    """Wait until Prometheus has these sums of a host."""
    until(lambda: scraped(asked, host) == sums, f"{sums}, as {host.name} has records")


def written(host: Host) -> Sums:
    """Return the sums of `chimirror-ctl metrics`, for bridges."""
    text = host.machine.do("chimirror-ctl", "metrics")
    ends: dict[str, float] = {}
    traffic: list[float] = []
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == ENDED and sample.value:
                ends[sample.labels["reason"]] = sample.value
            elif "direction" in sample.labels:
                traffic.append(sample.value)
    return Sums(ends, traffic)
