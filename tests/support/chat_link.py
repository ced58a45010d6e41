"""A chat server in the test, for one client at a time: it sends the messages of a test.

Listens on a bare socket. Reads and writes frames of chat.proto, or raw bytes.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from chat.framing import HEADER, decode_message, encode_frame
from chat_pb2 import FromClient, FromServer, LoggedIn
from processes import PATIENCE

INTERVAL = 60_000  # ms
TOKEN = b"token"


class ChatLink:
    """The server's end of the connection of a client."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.public_key = b""  # of the client

    def send(self, **message: object) -> None:
        """Send a FromServer with this field."""
        self.send_raw(encode_frame(FromServer(**message)))  # type: ignore[arg-type]

    def send_raw(self, data: bytes) -> None:
        self._connection.sendall(data)

    def receive(self) -> FromClient:
        """Return the next message that is no KeepAlive."""
        while (message := self.receive_any()).HasField("keep_alive"):
            pass
        return message

    def receive_any(self) -> FromClient:
        size = int.from_bytes(self._exactly(HEADER), "big")
        return decode_message(FromClient, self._exactly(size))

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self._connection.recv(size - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def log_in(self, token: bytes = TOKEN, interval: int = INTERVAL) -> FromClient:
        """Accept the login of the client. Returns it."""
        login = self.receive()
        self.public_key = login.login.public_key
        answer = LoggedIn(
            name=login.login.name,
            resume_token=token,
            interval=interval,
            answer_timeout=30_000,
        )
        self.send(logged_in=answer)
        return login

    def writable(self, timeout: float) -> bool:
        """Return False if the client takes no bytes for `timeout` seconds."""
        return bool(select.select([], [self._connection], [], timeout)[1])

    def end_output(self) -> None:
        self._connection.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close the connection with a reset (SO_LINGER of socket(7))."""
        linger = struct.pack("ii", 1, 0)
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._connection.close()

    def await_end(self) -> None:
        """Wait until the client has closed the connection."""
        try:
            while self._connection.recv(4096):
                pass
        except ConnectionResetError:
            pass


class ChatListener:
    """The address of a server, and the connections of its clients."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.port: int = listener.getsockname()[1]

    @contextmanager
    def accept(self) -> Iterator[ChatLink]:
        connection, _ = self._listener.accept()
        with connection:
            connection.settimeout(PATIENCE)
            yield ChatLink(connection)


@contextmanager
def chat_listener(port: int = 0) -> Iterator[ChatListener]:
    with socket.create_server(("127.0.0.1", port)) as listener:
        listener.settimeout(PATIENCE)
        yield ChatListener(listener)
