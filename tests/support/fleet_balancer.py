"""Runs HAProxy with examples/fleet/haproxy.cfg in the network of a fleet.

Changed are the paths of files and, for load tests, the limits of one client. Its state
is read from its admin socket (HAProxy management guide, "show stat").
"""

from __future__ import annotations

import csv
import re
import resource
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fleet_network import BALANCER, Network
from processes import until
from tls_authority import Authority

EXAMPLE = Path(__file__).parents[2] / "examples" / "fleet" / "haproxy.cfg"
NAME = "chat.example.org"
HOSTS = ("one", "two", "three")
PORT = 8445
PLAIN_PORT = 8450
METRICS_PORT = 8404
SECOND = 1
MAX_CONNECTIONS = 100000
BEGIN = 30.0  # seconds until HAProxy is ready
RESERVED = 300  # descriptors of HAProxy that are no connections of clients


class Balancer:
    """A running HAProxy.

    Attributes:
        ca: the file with the authority of its certificate.
        process: HAProxy.
        log: the file with its standard output and error.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path, ca: Path) -> None:
        self.process = process
        self.ca = ca
        self.log = log
        self._admin = str(log.with_name("admin.sock"))

    def command(self, text: str) -> str:
        """Send a command to the admin socket. Returns the response."""
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(self._admin)
            link.sendall(f"{text}\n".encode())
            return b"".join(iter(lambda: link.recv(1 << 16), b"")).decode()

    def reload(self) -> None:
        """Replace the process by another one, and wait until that knows all sessions.

        Sessions stay with the former process. The new one asks the second balancer.
        """
        before = self._table_size()
        pid = self._pid()
        self.process.send_signal(signal.SIGUSR2)
        until(lambda: self._pid() != pid, "the new process of HAProxy")
        until(lambda: self._table_size() >= before, "the table of the new process")

    def _pid(self) -> int:
        return self._number(r"(?m)^Pid: (\d+)$", "show info")

    def _table_size(self) -> int:
        return self._number(r"used:(\d+)", "show table hosts")

    def _number(self, pattern: str, command: str) -> int:
        """Return a number of a response, -1 while the process is being replaced."""
        try:
            found = re.search(pattern, self.command(command))
        except OSError:
            found = None
        return int(found[1]) if found else -1

    def placed(self, *hosts: str) -> set[str]:
        """Return the ids of all sessions that these hosts have had."""
        text = self.command("show table hosts")
        found = re.findall(r"key=(\w+) .*server_key=(\w+)", text)
        return {session for session, host in found if host in hosts}

    def hosts(self) -> dict[str, dict[str, str]]:
        """Return the row of each host: status, weight, scur, stot and others."""
        lines = self.command("show stat").removeprefix("# ").splitlines()
        rows = [row for row in csv.DictReader(lines) if row["pxname"] == "hosts"]
        return {row["svname"]: row for row in rows if row["svname"] != "BACKEND"}

    def await_state(self, status: str, *hosts: str) -> None:
        """Wait until these hosts have this status, such as UP, DOWN or DRAIN."""

        def ask() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            rows = self.hosts()
            states = [rows[host]["status"].partition(" ")[0] for host in hosts]
            return states == [status] * len(hosts)

        until(ask, f"{hosts} {status}")

    def await_drained(self, host: str) -> None:
        """Wait until the agent of a host has said that it drains.

        A host of bridges has closed its listener, and so is down too.
        """

        def ask() -> bool:
            row = self.hosts()[host]
            state, agent = row["status"].partition(" ")[0], row["agent_status"]
            return state in ("DRAIN", "DOWN") and agent.lstrip("* ") == "CHECKED"

        until(ask, f"{host} drains")

    def await_weight(self, weight: str, host: str) -> None:
        """Wait until a host has this weight: its free capacity in percent."""
        until(lambda: self.hosts()[host]["weight"] == weight, f"{host} has {weight} %")

    def await_agents(self, *hosts: str) -> None:
        """Wait until the agents of these hosts have answered with free capacity.

        A server that has just started has none until its workers run.
        """

        def ask() -> bool:
            rows = self.hosts()
            agents = [rows[host]["agent_status"].lstrip("* ") for host in hosts]
            full = [host for host in hosts if rows[host]["weight"] == "0"]
            return agents == ["L7OK"] * len(hosts) and not full

        self.await_state("UP", *hosts)
        until(ask, f"the agents of {hosts}")


def adapted(directory: Path, *, limit: int | None = None, number: int = 0) -> str:
    """Return the example for the files in this directory.

    Args:
        limit: of the connections and requests of one client.
        number: of this balancer. One after 0 listens without TLS, at PLAIN_PORT and
            the ports after it. SECOND is the peer of the first one, others are alone.
    """
    content = EXAMPLE.read_text()
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min((descriptors - RESERVED) // 2, MAX_CONNECTIONS)
    assert f"maxconn {MAX_CONNECTIONS}\n" in content
    content = content.replace(f"maxconn {MAX_CONNECTIONS}\n", f"maxconn {most}\n")
    for place in ("/etc/haproxy/", "/run/haproxy/"):
        assert place in content
        content = content.replace(place, f"{directory}/")
    if limit is not None:
        content, count = re.subn(r" gt 200 ", f" gt {limit} ", content)
        assert count == 2
    if number:
        content = content.replace(f":{METRICS_PORT}\n", f":{METRICS_PORT + number}\n")
        line = f"    bind *:{PORT} ssl crt {directory}/chimirror.pem\n"
        assert line in content
        content = content.replace(line, f"    bind *:{PLAIN_PORT + number}\n")
    if number == SECOND:
        assert "    localpeer first\n" in content
        content = content.replace("    localpeer first\n", "    localpeer second\n")
    elif number:
        content, count = re.subn(r"    peer second .*\n", "", content)
        assert count == 1
        content = content.replace(f"first  {BALANCER}:", f"first 127.0.0.{number}:")
    return content


def make_certificate(directory: Path) -> Path:
    """Write the certificate of the balancer. Returns the file of its authority."""
    authority = Authority(directory / "authority")
    both = authority.issue(NAME, BALANCER).both
    (directory / "chimirror.pem").write_bytes(both.read_bytes())
    return authority.file


@contextmanager
def balancer(
    network: Network, directory: Path, *, limit: int | None = None, number: int = 0
) -> Iterator[Balancer]:
    """Run HAProxy. Arguments are those of `adapted`."""
    ca = make_certificate(directory)
    config, log = directory / "haproxy.cfg", directory / "haproxy.log"
    config.write_text(adapted(directory, limit=limit, number=number))
    argv = network.argv("haproxy", "-W", "-db", "-f", str(config))
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        until((directory / "admin.sock").exists, "the admin socket", BEGIN)
        yield Balancer(process, log, ca)
    finally:
        process.terminate()
        process.wait()
