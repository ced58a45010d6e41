"""Reads the endpoints of --metrics and --agent, as Prometheus and HAProxy do."""

from __future__ import annotations

import http.client
import json
import socket
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from prometheus_client.openmetrics import parser as open_metrics_parser
from prometheus_client.parser import text_string_to_metric_families

from chimirror.log.records import SESSION_ENDED, SESSION_STARTED
from chimirror.metrics.exposition import OPEN_METRICS_TYPE
from chimirror.metrics.labels import reason_label
from serve import Service

Labels = frozenset[tuple[str, str]]
OPTIONS = ("--metrics=127.0.0.1:0", "--agent=127.0.0.1:0")
PATIENCE = 200.0  # seconds


class Answer(NamedTuple):
    """A response by HTTP."""

    status: int
    fields: dict[str, str]
    body: str


class Samples(dict[tuple[str, Labels], float]):
    """Samples by name and labels."""

    def sum(self, name: str, **labels: str) -> float:
        """Add the samples of a name that have these labels."""
        wanted = set(labels.items())
        return sum(
            value
            for (found, has), value in self.items()
            if found == name and wanted <= has
        )

    def by_label(self, name: str, label: str) -> Counter[str]:
        """Add the samples of a name, by the values of a label. Without zeros."""
        found: Counter[str] = Counter()
        for (sample, labels), value in self.items():
            if sample == name and value:
                found[dict(labels)[label]] += int(value)
        return found


def endpoint(service: Service, name: str) -> tuple[str, int]:
    """Return the address of an endpoint: `metrics` or `the agent`."""
    where = service.find(rf"serving {name} on ([^\s\"]+)")
    host, _, port = where.rpartition(":")
    return host, int(port)


def get(
    address: tuple[str, int], path: str, method: str = "GET", **fields: str
) -> Answer:
    """Send one request. Underscores in names of fields become hyphens."""
    connection = http.client.HTTPConnection(*address, timeout=PATIENCE)
    try:
        names = {name.replace("_", "-"): value for name, value in fields.items()}
        connection.request(method, path, headers=names)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read().decode())
    finally:
        connection.close()


def scrape(service: Service, *, open_metrics: bool = False) -> Samples:
    """Return the samples of a server, as the library of Prometheus reads them."""
    accept = {"Accept": OPEN_METRICS_TYPE} if open_metrics else {}
    answer = get(endpoint(service, "metrics"), "/metrics", **accept)
    assert answer.status == 200
    parse = text_string_to_metric_families
    if open_metrics:
        assert answer.fields["content-type"] == OPEN_METRICS_TYPE
        parse = open_metrics_parser.text_string_to_metric_families
    return Samples(
        {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in parse(answer.body)
            for sample in family.samples
        }
    )


def ready(service: Service) -> tuple[int, str]:
    """Return status and text of /ready."""
    answer = get(endpoint(service, "metrics"), "/ready")
    return answer.status, answer.body


def agent(service: Service) -> str:
    """Return the line for HAProxy."""
    address = endpoint(service, "the agent")
    with socket.create_connection(address, PATIENCE) as connection:
        connection.sendall(b"sent by agent-send\n")
        return connection.makefile("rb").read().decode()


def recorded_starts(log: Path) -> list[float]:
    """Return the seconds that each recorded start took."""
    records = map(json.loads, log.read_text().splitlines())
    return [
        int(record["CHIMIRROR_START_USEC"]) / 1e6
        for record in records
        if record["MESSAGE_ID"] == SESSION_STARTED
    ]


def recorded_ends(log: Path) -> tuple[Counter[str], Counter[str]]:
    """Return the recorded ends by the label of their reason, and their sums."""
    reasons: Counter[str] = Counter()
    sums: Counter[str] = Counter()
    for line in log.read_text().splitlines():
        record = json.loads(line)
        if record["MESSAGE_ID"] != SESSION_ENDED:
            continue
        reasons[reason_label(record["CHIMIRROR_REASON"])] += 1
        for name in ("BYTES_IN", "BYTES_OUT", "MESSAGES_IN", "MESSAGES_OUT"):
            sums[name] += int(record[f"CHIMIRROR_{name}"])
    return reasons, sums
