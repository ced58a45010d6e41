"""A session with fake time and application, and a control server for its clients."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chimirror.control import server
from chimirror.io.session_socket import SessionSocket
from chimirror.session import session_secret
from control_requests import ControlSocketClient
from session_harness import SESSION_ID, SessionHarness

OTHER_USER = 4000  # uid of a client that needs the secret


class ControlledSession:
    """A session with a control server."""

    def __init__(self, harness: SessionHarness, path: Path) -> None:
        self.harness = harness
        self.path = path / "control"
        self.uid = os.geteuid()
        self.server = harness.control.listen(SessionSocket(str(self.path), 0o600))
        self.secret = "0." + "ab" * 16
        harness.session._secret = session_secret.hash_secret(self.secret)
        self.clients: list[ControlSocketClient] = []

    def connect(self, uid: int | None = None) -> ControlSocketClient:
        self.uid = os.geteuid() if uid is None else uid
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self.path))
        self.clients.append(ControlSocketClient(self.harness, connection))
        self.harness.settle()
        return self.clients[-1]

    def authorized_client(self) -> ControlSocketClient:
        """Connect a client and authorize it."""
        client = self.connect(OTHER_USER)
        credentials = {"session": SESSION_ID, "secret": self.secret}
        assert client.ask("authorize", **credentials) == {}
        return client


@contextmanager
def opened(
    path: Path, monkeypatch: pytest.MonkeyPatch, *options: str
) -> Iterator[ControlledSession]:
    with SessionHarness("--ping-interval=off", *options) as harness:
        controlled = ControlledSession(harness, path)
        monkeypatch.setattr(server, "peer_uid", lambda _handle: controlled.uid)
        try:
            harness.open("stdio")
            harness.peer.message()
            yield controlled
        finally:
            controlled.server.close()
            for client in controlled.clients:
                client.connection.close()
            harness.settle()
    assert not harness.control.controllers
    assert not controlled.server.connections
