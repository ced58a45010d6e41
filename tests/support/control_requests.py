"""Client of a control socket in one loop with a SessionHarness."""

from __future__ import annotations

import json
import socket
from typing import Any

from session_harness import SessionHarness


class ControlSocketClient:
    """Client of the control socket of a harness."""

    def __init__(self, harness: SessionHarness, connection: socket.socket) -> None:
        self.harness = harness
        self.connection = connection
        self.rest = b""
        connection.setblocking(False)

    def say(self, data: bytes) -> None:
        self.connection.send(data)
        self.harness.settle()

    def say_all(self, data: bytes) -> None:
        """Send more than the socket holds at once."""
        while data:
            data = data[self.connection.send(data) :]
            self.harness.settle()

    def read(self) -> list[Any]:
        """Return all received messages. None at the end stands for the end of input."""
        return [line and json.loads(line) for line in self.read_lines()]

    def read_lines(self) -> list[bytes | None]:
        """Return all received lines. None at the end stands for the end of input."""
        self.harness.settle()
        lines: list[bytes | None] = []
        try:
            while data := self.connection.recv(1 << 20):
                self.rest += data
                self.harness.settle()
            lines.append(None)
        except BlockingIOError:
            pass
        except ConnectionResetError:
            lines.append(None)
        *whole, self.rest = self.rest.split(b"\n")
        return [*whole, *lines]

    def ask(self, method: str, **params: object) -> Any:
        """Return the result, or the code of the error."""
        self.say(request(method, **params))
        answer = self.read()[0]
        assert (answer["jsonrpc"], answer["id"]) == ("2.0", 1)
        return answer["result"] if "result" in answer else answer["error"]["code"]


def request(method: str, **params: object) -> bytes:
    call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return json.dumps(call).encode() + b"\n"
