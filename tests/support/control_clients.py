"""Clients that control a session, over a WebSocket or over a control socket.

Requests and responses follow JSON-RPC 2.0 directly. This file never imports chimirror.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from processes import until
from websocket_peer import Closed, Peer, text


def request(method: str, **params: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def outcome(answer: Any) -> Any:
    """Return the result, or the code of the error."""
    assert (answer["jsonrpc"], answer["id"]) == ("2.0", 1), answer
    return answer["result"] if "result" in answer else answer["error"]["code"]


class ControlWebSocket:
    """WebSocket client of chimirror.control.v1."""

    def __init__(self, connection: socket.socket, target: str = "/") -> None:
        self.peer = Peer(connection)
        try:
            reply = self.peer.open(target, framing="control")
            assert reply.status == 101
            assert reply.fields["sec-websocket-protocol"] == "chimirror.control.v1"
        except BaseException:
            self.peer.close()
            raise

    def __enter__(self) -> ControlWebSocket:
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


def authorized(
    connect: Callable[[], socket.socket], hello: dict[str, Any], target: str = "/"
) -> ControlWebSocket:
    """Open an authorized control WebSocket.

    Args:
        connect: opens a connection to the service.
        hello: first message of the session to control.
        target: request target.
    """
    client = ControlWebSocket(connect(), target)
    credentials = {"session": hello["id"], "secret": hello["secret"]}
    try:
        answer = client.ask("authorize", **credentials)
        assert answer == {}, answer
    except BaseException:
        client.peer.close()
        raise
    return client


class ControlSocketClient:
    """Client of a control socket."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.file = connection.makefile("rb")

    def ask(self, method: str, **params: object) -> Any:
        call = request(method, **params)
        self.connection.sendall(json.dumps(call).encode() + b"\n")
        return outcome(json.loads(self.file.readline()))


@contextmanager
def control_socket_client(path: Path) -> Iterator[ControlSocketClient]:
    """Connect to the control socket at a path, once it exists."""
    until(path.exists, "the control socket")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(path))
        client = ControlSocketClient(connection)
        with client.file:
            yield client
