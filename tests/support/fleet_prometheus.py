"""Runs Prometheus with examples/monitoring/prometheus.yml in the network of a fleet.

Changed are the intervals. Figures are asked for by its HTTP API (query).
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote

from fleet_network import BALANCER, Network
from processes import until

EXAMPLES = Path(__file__).parents[2] / "examples" / "monitoring"
ADDRESS = f"{BALANCER}:9090"


class Prometheus:
    """A running Prometheus."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def _get(self, path: str) -> bytes:
        def ask() -> bytes:
            with closing(HTTPConnection(ADDRESS, timeout=200)) as link:
                link.request("GET", path)
                return link.getresponse().read()

        return self._network.call(ask)

    def is_ready(self) -> bool:
        try:
            return b"Ready" in self._get("/-/ready")
        except OSError:
            return False

    def query(self, text: str) -> dict[str, float]:
        """Return the values of a query by instance, "" if there is no instance."""
        return {host: value for (host,), value in self.by(text, "instance").items()}

    def by(self, text: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Return the values of a query by labels, "" for a label that is missing."""
        answer = json.loads(self._get(f"/api/v1/query?query={quote(text)}"))
        return {
            tuple(row["metric"].get(label, "") for label in labels): float(
                row["value"][1]
            )
            for row in answer["data"]["result"]
        }


@contextmanager
def prometheus(network: Network, directory: Path) -> Iterator[Prometheus]:
    """Run Prometheus, which asks the hosts each second."""
    content = (EXAMPLES / "prometheus.yml").read_text()
    assert "_interval: 15s" in content
    content = content.replace("_interval: 15s", "_interval: 1s")
    (directory / "prometheus.yml").write_text(content)
    (directory / "alerts.yml").write_text((EXAMPLES / "alerts.yml").read_text())
    argv = ["prometheus", f"--config.file={directory}/prometheus.yml"]
    argv += [f"--storage.tsdb.path={directory}/data"]
    argv += [f"--web.listen-address={ADDRESS}"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(network.argv(*argv), stdout=log, stderr=log)
    try:
        found = Prometheus(network)
        until(found.is_ready, "Prometheus")
        yield found
    finally:
        process.terminate()
        process.wait()
