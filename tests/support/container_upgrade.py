"""Two containers behind HAProxy, and clients that connect all the time.

HAProxy has the backend of chimirror-fleet(7), in the network namespace of podman. It
listens on a Unix socket, which clients outside of the namespace reach too.
"""

from __future__ import annotations

import csv
import os
import re
import socket
import subprocess
import threading
from pathlib import Path

from kubernetes_pod import Podman
from processes import until
from websocket_peer import Closed, Peer

PAGE = Path(__file__).parents[2] / "man/chimirror-fleet.7"
PORTS = {"one": 30748, "two": 30749}
BEFORE = """\
global
    stats socket {directory}/admin.sock level admin
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout tunnel 1h
frontend clients
    bind unix@{directory}/clients.sock
    default_backend containers
"""


def publish(podman: Podman, name: str, image: str, *words: str) -> None:
    """Run a container with a port of its own, by the options of the page."""
    options = ("--detach", "--read-only", f"--name={name}")
    port = f"--publish=127.0.0.1:{PORTS[name]}:30747"
    podman.call("run", *options, port, image, *words)


def backend() -> str:
    """Return the lines of HAProxy in the page."""
    found = re.search(r"(?ms)^(backend containers\n.*?)^\.Ed$", PAGE.read_text())
    assert found is not None
    return found[1]


class Balancer:
    """A running HAProxy."""

    def __init__(self, podman: Podman, directory: Path) -> None:
        self._directory = directory
        config = directory / "haproxy.cfg"
        config.write_text(BEFORE.format(directory=directory) + backend())
        enter = ("nsenter", f"--net=/run/netns/{podman.namespace}")
        with (directory / "haproxy.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*enter, "haproxy", "-db", "-f", config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Balancer:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()

    def _connect(self, name: str) -> socket.socket:
        link = socket.socket(socket.AF_UNIX)
        try:
            link.connect(os.fspath(self._directory / name))
        except OSError:
            link.close()
            raise
        return link

    def open(self) -> Peer:
        """Open a session."""
        peer = Peer(self._connect("clients.sock"))
        status = peer.open().status
        if status != 101:
            peer.close()
            raise ConnectionError(f"status {status}")
        return peer

    def await_server(self, name: str) -> None:
        """Wait until the checks of HAProxy have found that a container listens."""
        until(lambda: self._checks(name) == ("UP", "L4OK"), f"{name} is up")

    def _checks(self, name: str) -> tuple[str, str]:
        try:
            with self._connect("admin.sock") as link:
                link.sendall(b"show stat\n")
                text = b"".join(iter(lambda: link.recv(1 << 16), b"")).decode()
        except OSError:
            return "", ""
        rows = csv.DictReader(text.removeprefix("# ").splitlines())
        (row,) = [row for row in rows if row["svname"] == name]
        return row["status"], row["check_status"]


class Clients:
    """Threads that open one session after the other, until they are stopped.

    Attributes:
        named: the containers of the sessions, in the order of their starts.
        failures: handshakes that failed, and sessions with another end than theirs.
    """

    def __init__(self, balancer: Balancer, count: int = 4) -> None:
        self._balancer = balancer
        self._stopping = threading.Event()
        self.named: list[str] = []
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._work) for _ in range(count)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Let the current sessions end."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def await_sessions(self, name: str, count: int) -> None:
        """Wait until a container has had this number of sessions."""
        until(lambda: self.named.count(name) >= count, f"sessions of {name}")

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                self._run_session()
            except OSError as error:
                self.failures.append(repr(error))

    def _run_session(self) -> None:
        with self._balancer.open() as peer:
            self.named.append(peer.output(4).decode().strip())
            peer.send_close()
            # On a Unix socket, the answer of Peer to the close frame can meet a reset.
            closed = peer.transcript(wait=False).closed
            if closed != Closed(1000, ""):
                self.failures.append(repr(closed))
