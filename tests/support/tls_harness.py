"""One connection over TLS with a real loop, fake time, and a client in memory.

The handler only records its calls.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trustme

from chimirror.config import parser
from chimirror.io.loop import NEVER, EventLoop
from chimirror.protocol.http import HTTPError
from chimirror.session.tls_connection import TlsConnection
from chimirror.tls.certificates import Certificates
from session_harness import FakeClock
from tls_peers import TlsClient, client_context, one, write_certificate

if TYPE_CHECKING:
    from chimirror.protocol.frame_reader import Event

AUTHORITY = trustme.CA()
RESPONSE = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
REFUSAL = b"HTTP/1.1 500 no\r\n\r\n"


class Handler:
    """Handler that records its calls, and answers a failure."""

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.head = b""
        self.size = 0  # bytes of frames
        self.connection: TlsConnection | None = None

    def on_head(self, data: bytes) -> None:
        self.head += data

    def on_head_eof(self) -> None:
        self.calls.append("head eof")

    def on_head_timeout(self) -> None:
        self.calls.append("head timeout")

    def on_tls_failed(self, error: HTTPError) -> None:
        self.calls.append(error.text)
        assert self.connection is not None
        self.connection.send_response(REFUSAL)

    def on_frames(self, events: list[Event], size: int) -> None:
        self.size += size

    def on_output_buffer_low(self) -> None:
        """Nothing was paused."""

    def on_peer_closing(self) -> None:
        self.calls.append("closing")

    def on_peer_lost(self, reason: str) -> None:
        self.calls.append(reason)

    def on_connection_closed(self) -> None:
        self.calls.append("closed")

    def next_timeout(self, now: float) -> float:
        return NEVER

    def on_error(self, error: Exception) -> None:
        raise error


class Harness:
    """A connection, its handler, its loop and the client's end."""

    def __init__(
        self,
        certificates: Certificates,
        version: ssl.TLSVersion | None,
        *arguments: str,
        pair: tuple[socket.socket, socket.socket] | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.loop = EventLoop(self.clock, self.clock)
        self.handler = Handler()
        self.socket, server_end = pair or socket.socketpair()
        self.client = TlsClient(
            client_context(AUTHORITY, version), connection=self.socket
        )
        if server_end.family == socket.AF_INET:  # as a listener does
            server_end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        fd = server_end.detach()
        os.set_blocking(fd, False)
        config = parser.parse_bridge([*arguments, "--", "program"])
        self.connection = TlsConnection(
            self.handler, self.loop, config, fd, fd, certificates
        )
        self.handler.connection = self.connection
        self.connection.start()

    def wait(self, seconds: float = 0) -> None:
        self.clock.limit = self.clock.now + seconds
        self.loop.run_once()
        while not self.clock.idle or self.clock.now < self.clock.limit:
            self.loop.run_once()

    def shake_hands(self) -> None:
        while not self.client.is_established:
            self.client.shake_hands()
            self.wait()

    def open(self) -> None:
        self.shake_hands()
        self.connection.open(RESPONSE, b"")
        self.wait()
        assert self.client.read() == RESPONSE

    def say(self, data: bytes) -> None:
        """Send bytes that are no TLS."""
        self.socket.sendall(data)
        self.wait()

    def heard(self) -> bytes:
        """Receive all bytes to the end, without TLS."""
        self.wait()
        found = b""
        while data := self.socket.recv(1 << 16, socket.MSG_DONTWAIT):
            found += data
        return found

    def read_all(self) -> bytes:
        """Read as the client until nothing more comes."""
        found = self.client.read()
        self.wait()
        while data := self.client.read():
            found += data
            self.wait()
        return found

    @property
    def state(self) -> int:
        return self.connection.state


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    return Certificates(one(write_certificate(path, AUTHORITY, "localhost")))


@contextmanager
def connected(
    certificates: Certificates,
    *arguments: str,
    version: ssl.TLSVersion | None = None,
    pair: tuple[socket.socket, socket.socket] | None = None,
) -> Iterator[Harness]:
    harness = Harness(certificates, version, *arguments, pair=pair)
    try:
        yield harness
    finally:
        harness.socket.close()
        harness.connection.abort()
        harness.loop.close_all()
