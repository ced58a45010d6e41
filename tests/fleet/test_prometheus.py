"""A real Prometheus scrapes 10,000 sessions while two workers are killed.

Its sums equal the records of the server, and the alert about restarts fires.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import competitors
from client_pool import ClientPool, Failure
from competitors import Competitor
from load_client import LINES
from metrics_client import endpoint, recorded_ends
from processes import descendants, name_of, until
from serve import Service, reserved, server

pytestmark = pytest.mark.timeout(900)

SESSIONS = 10_000
WORKERS = 4
PATIENCE = 200.0  # seconds
RULES = Path(__file__).parents[2] / "examples" / "monitoring" / "alerts.yml"
CONFIGURATION = """\
global: {{ scrape_interval: 1s, evaluation_interval: 1s }}
rule_files: [alerts.yml]
scrape_configs:
  - job_name: chimirror
    static_configs: [{{ targets: ["{target}"] }}]
"""
ENDED = "sum by (reason) (chimirror_sessions_ended_total)"


class Prometheus:
    """A Prometheus that runs, and its HTTP interface."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}/api/v1"

    def ask(self, path: str, **fields: str) -> Any:
        url = f"{self.base}/{path}?{urllib.parse.urlencode(fields)}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return json.load(answer)["data"]

    def answers(self) -> bool:
        try:
            return bool(self.ask("targets"))
        except OSError:
            return False

    def query(self, expression: str) -> dict[str, float]:
        """Return the values by their only label, or by the empty string."""
        found = self.ask("query", query=expression)["result"]
        return {
            next(iter(one["metric"].values()), ""): float(one["value"][1])
            for one in found
        }

    def alerts(self) -> set[str]:
        """Return the names of the alerts that fire."""
        return {
            one["labels"]["alertname"]
            for one in self.ask("alerts")["alerts"]
            if one["state"] == "firing"
        }


@contextmanager
def prometheus(directory: Path, service: Service) -> Iterator[Prometheus]:
    """Run Prometheus, which scrapes a server each second."""
    shutil.copy(RULES, directory)
    host, port = endpoint(service, "metrics")
    configuration = directory / "prometheus.yml"
    configuration.write_text(CONFIGURATION.format(target=f"{host}:{port}"))
    with reserved() as own, (directory / "prometheus.log").open("w") as log:
        argv = ["prometheus", f"--config.file={configuration}"]
        argv += [f"--storage.tsdb.path={directory}/data"]
        argv += [f"--web.listen-address=127.0.0.1:{own}"]
        with subprocess.Popen(argv, stdout=log, stderr=log) as process:
            found = Prometheus(own)
            until(found.answers, "an answer of Prometheus", PATIENCE)
            try:
                yield found
            finally:
                process.terminate()


def workers(service: Service) -> dict[int, int]:
    """Return the workers of a server, with the number of their applications."""
    pids = [child.pid for child in descendants(service.pid)]
    return {
        pid: len(descendants(pid)) for pid in pids if " worker " in f"{name_of(pid)} "
    }


def test_sums_are_exact_over_the_death_of_workers(tmp_path: Path) -> None:
    programs = competitors.compiled(tmp_path)
    assert programs is not None
    options = ["--framing=lines", "--metrics=127.0.0.1:0", f"--workers={WORKERS}"]
    options += ["--max-sessions=12000", "--max-handshakes-per-source=off"]
    competitor = Competitor("", LINES, server, "")
    with ExitStack() as stack:
        service = stack.enter_context(server(tmp_path, [programs.tiny], *options))
        seen = stack.enter_context(prometheus(tmp_path, service))
        pool = ClientPool(stack, competitor, service, SESSIONS)
        pool.open(SESSIONS)
        now = "sum(chimirror_sessions)"
        until(lambda: seen.query(now) == {"": SESSIONS}, "all sessions", PATIENCE)
        assert seen.query("sum(chimirror_capacity_sessions)") == {"": 12_000}

        held = workers(service)
        assert (len(held), sum(held.values())) == (WORKERS, SESSIONS)
        victims = sorted(held)[:2]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        lost = sum(held[pid] for pid in victims)
        wanted: dict[str, float] = {"lost": lost}
        until(lambda: seen.query(ENDED) == wanted, "the lost sessions", PATIENCE)
        assert seen.query(now) == {"": SESSIONS - lost}
        restarts = 'sum(chimirror_restarts_total{process="worker"})'
        assert seen.query(restarts) == {"": 2}
        until(lambda: "ChimirrorRestarts" in seen.alerts(), "the alert", PATIENCE)
        with pytest.raises(Failure, match="lost"):
            pool.all("report")

        pool.all("drop")
        until(lambda: seen.query(now) == {"": 0}, "no session", PATIENCE)
        reasons, sums = recorded_ends(service.log)
        wanted.update(reasons)
        until(lambda: seen.query(ENDED) == wanted, "the recorded ends", PATIENCE)
        assert sum(wanted.values()) == SESSIONS
        # Each application has written the same word, also those of a lost session.
        each = sums["BYTES_OUT"] / reasons.total()
        moved = seen.query("sum by (direction) (chimirror_bytes_total)")
        assert moved == {"in": 0, "out": SESSIONS * each}
        assert seen.query("sum(chimirror_start_seconds_count)") == {"": SESSIONS}
