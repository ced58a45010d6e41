"""A server of one session, written by the test: blocking, with `websockets`.

It uses one thread, one connection and no timer. The handler acts as the remote process.
Knows chimirror-protocol(7) and none of the package's own code.
"""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

SUBPROTOCOL = "chimirror.stdio.v1"
LONG = 200  # seconds: a longer wait fails the test


def output(data: bytes, stream: str = "stdout") -> str:
    payload = base64.b64encode(data).decode()
    return json.dumps({"type": stream, "payload": payload})


def exited(code: int = 0) -> str:
    return json.dumps({"type": "exit", "code": code})


class Remote:
    """Server side of a session. `request` is the request of the client."""

    def __init__(self, connection: socket.socket, *subprotocols: str) -> None:
        self._socket = connection
        self._unread: deque[str] = deque()
        self._is_over = False
        offer = [Subprotocol(name) for name in subprotocols]
        self._protocol = ServerProtocol(subprotocols=offer or None)
        request = next(iter(self._events()), None)
        if request is None:
            raise ConnectionResetError("the client left before its request")
        assert isinstance(request, Request)
        self.request = request
        self._protocol.send_response(self._protocol.accept(request))
        self._flush()

    def _events(self) -> list[object]:
        while True:
            data = self._socket.recv(1 << 16)
            if data:
                self._protocol.receive_data(data)
            else:
                self._protocol.receive_eof()
            events = self._protocol.events_received()
            self._flush()
            if events or not data:
                return list(events)

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._socket.sendall(data)
            else:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_WR)

    @property
    def subprotocol(self) -> str | None:
        return self._protocol.subprotocol

    @property
    def close_code(self) -> int | None:
        close = self._protocol.close_rcvd
        return close.code if close else None

    def send(self, message: str) -> None:
        self._protocol.send_text(message.encode())
        self._flush()

    def __iter__(self) -> Iterator[dict[str, str]]:
        """The messages of the client, up to its close frame."""
        return map(json.loads, self.texts())

    def texts(self) -> Iterator[str]:
        """The same messages as text. Those that are not consumed stay unread."""
        while self._unread or not self._is_over:
            if self._unread:
                yield self._unread.popleft()
                continue
            events = self._events()
            for event in events:
                assert isinstance(event, Frame)
                if event.opcode is Opcode.TEXT:
                    self._unread.append(bytes(event.data).decode())
            self._is_over = not events or self.close_code is not None

    def message(self) -> dict[str, str]:
        return next(iter(self))

    def close(self, code: int = 1000, reason: str = "") -> None:
        with suppress(OSError):
            if self._protocol.state is OPEN:
                self._protocol.send_close(code, reason)
                self._flush()
            while data := self._socket.recv(1 << 16):
                self._protocol.receive_data(data)
                self._flush()


Handler = Callable[[Remote], object]


class FakeServer(threading.Thread):
    """Thread that serves one session with the handler. `join` waits for its end."""

    def __init__(
        self,
        listener: socket.socket,
        handler: Handler,
        context: ssl.SSLContext | None,
        subprotocol: str | None,
    ) -> None:
        super().__init__()
        self.listener = listener
        self.handler = handler
        self.context = context
        self.subprotocol = subprotocol
        self.url = ""
        self.errors: list[BaseException] = []

    def run(self) -> None:
        try:
            connection, _ = self.listener.accept()
            with connection:
                connection.settimeout(LONG)
                self.serve(connection)
        except OSError:
            pass  # the client disconnected, and the test checks its report
        except BaseException as error:
            self.errors.append(error)
            raise

    def serve(self, connection: socket.socket) -> None:
        if self.context is not None:
            connection = self.context.wrap_socket(connection, server_side=True)
        with connection:
            remote = Remote(connection, *filter(None, [self.subprotocol]))
            self.handler(remote)
            remote.close()


@contextmanager
def fake(
    handler: Handler,
    *,
    path: str | None = None,
    context: ssl.SSLContext | None = None,
    subprotocol: str | None = SUBPROTOCOL,
) -> Iterator[FakeServer]:
    """A server that serves one session with the handler."""
    if path is None:
        listener = socket.create_server(("127.0.0.1", 0))
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
    with listener:
        listener.settimeout(LONG)
        server = FakeServer(listener, handler, context, subprotocol)
        if path is None:
            scheme, port = "wss" if context else "ws", listener.getsockname()[1]
            server.url = f"{scheme}://127.0.0.1:{port}/"
        else:
            server.url = f"ws+unix:{path}"
        server.start()
        try:
            yield server
        finally:
            server.join()
    assert not server.errors
