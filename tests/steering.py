"""Clients that steer a session: over a second WebSocket, or over a control socket.

Law: requests are built and answers are read here, straight from JSON-RPC 2.0.
Ignorance: never imports chimirror; which session, and what is right, is the test's.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peers import Closed, Peer, text
from settling import until


def request(method: str, **params: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def outcome(answer: Any) -> Any:
    """The result, or the code of the error."""
    assert (answer["jsonrpc"], answer["id"]) == ("2.0", 1), answer
    return answer["result"] if "result" in answer else answer["error"]["code"]


class Steerer:
    """A WebSocket that speaks chimirror.control.v1."""

    def __init__(self, connection: socket.socket, target: str = "/") -> None:
        self.peer = Peer(connection)
        reply = self.peer.open(target, framing="control")
        assert reply.status == 101
        assert reply.fields["sec-websocket-protocol"] == "chimirror.control.v1"

    def __enter__(self) -> Steerer:
        return self

    def __exit__(self, *error: object) -> None:
        self.peer.close()

    def ask(self, method: str, **params: object) -> Any:
        self.peer.send_raw(text(request(method, **params)))
        return outcome(self.peer.message())

    def closed(self) -> Closed:
        end = self.peer.receive()
        assert isinstance(end, Closed), end
        return end


def steer(
    connect: Callable[[], socket.socket], hello: dict[str, Any], target: str = "/"
) -> Steerer:
    """One that is authorized; `hello` is the first message of the session."""
    steerer = Steerer(connect(), target)
    proof = {"session": hello["id"], "secret": hello["secret"]}
    assert steerer.ask("authorize", **proof) == {}
    return steerer


class Asker:
    """One client of a control socket."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.file = connection.makefile("rb")

    def ask(self, method: str, **params: object) -> Any:
        call = request(method, **params)
        self.connection.sendall(json.dumps(call).encode() + b"\n")
        return outcome(json.loads(self.file.readline()))


@contextmanager
def asking(path: Path) -> Iterator[Asker]:
    """A client of the control socket at a path, once it is there."""
    until(path.exists, "the control socket")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(path))
        asker = Asker(connection)
        with asker.file:
            yield asker
