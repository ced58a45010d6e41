"""Servers that answer handshakes with a status, and clients in JavaScript for them."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from fake_server import SUBPROTOCOL, Remote, exited
from serve import reserved

REFUSAL = "HTTP/1.1 {} No\r\nConnection: close\r\nContent-Length: 5\r\n{}\r\nfull\n"


class StatusServer:
    """Answers each connection with a status, or with a session that exits at once."""

    def __init__(
        self,
        answers: list[int],
        retry_after: str = "",
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._answers = answers
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._field = f"Retry-After: {retry_after}\r\n" if retry_after else ""
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}/"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with self._listener:
            for answer in self._answers:
                connection, _ = self._listener.accept()
                with connection, suppress(OSError):
                    if self._context:
                        connection = self._context.wrap_socket(connection, True)
                    self._answer(connection, answer)

    def _answer(self, connection: socket.socket, answer: int) -> None:
        if answer != 101:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += connection.recv(65536)
            connection.sendall(REFUSAL.format(answer, self._field).encode())
            return
        remote = Remote(connection, SUBPROTOCOL)
        remote.send(json.dumps({"type": "session", "id": "x"}))
        remote.send(exited())
        remote.close(1000, "exit 0")

    def join(self) -> None:
        self._thread.join()


@pytest.fixture
def dead() -> Iterator[str]:
    """The URL of a port where nothing listens."""
    with reserved() as port:
        yield f"ws://127.0.0.1:{port}/"


def connect(runner: Any, *urls: str, **options: object) -> Any:
    with runner.run_case("failover", "", urls=urls, **options) as running_case:
        return running_case.result()
