"""Fixtures and servers for tests of applications that are served by name (--apps).

Runs a directory of application files behind bridges or behind one server, and opens
connections to either. Knows nothing of the content of the files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import serve
from serve import Bridge
from websocket_peer import Peer, Reply, upgrade


class AppServer:
    """Client connections to bridges or a server that serve a directory of applications.

    Args:
        connect: opens a connection.
        log: returns the log of the serving process.
    """

    def __init__(self, connect: Callable[[], Peer], log: Callable[[], str]) -> None:
        self.connect = connect
        self.log = log

    def ask(self, target: str) -> Reply:
        """Return the response to an upgrade request that is rejected."""
        with self.connect() as peer:
            peer.send_raw(upgrade(target, "lines", ()))
            return peer.refusal()

    def open(self, target: str, framing: str = "lines") -> Peer:
        peer = self.connect()
        assert peer.open(target, framing=framing).status == 101
        return peer

    def first(self, target: str) -> bytes:
        """Return the first line of output of an application."""
        with self.open(target) as peer:
            said = peer.receive()
            assert isinstance(said, bytes)
            return said


@contextmanager
def bridges(directory: Path, *options: str) -> Iterator[AppServer]:
    """Serve the directory by bridges, one for each connection."""
    with ExitStack() as stack:
        served: list[Bridge] = []
        said: dict[int, str] = {}

        def connect() -> Peer:
            arguments = ("--apps", str(directory), *options)
            served.append(stack.enter_context(Bridge([], *arguments)))
            return Peer(served[-1].socket)

        def log() -> str:
            bridge = served[-1]
            if bridge.pid not in said:
                said[bridge.pid] = bridge.finish()[1].decode()
            return said[bridge.pid]

        yield AppServer(connect, log)


@contextmanager
def servers(directory: Path, *options: str) -> Iterator[AppServer]:
    with serve.server(
        directory.parent, [], "--apps", str(directory), "--workers", "2", *options
    ) as service:

        def connect() -> Peer:
            return Peer(service.connect())

        yield AppServer(connect, service.log.read_text)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "apps"
    path.mkdir()
    return path
