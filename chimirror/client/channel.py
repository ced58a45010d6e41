"""One WebSocket over one non-blocking socket, TLS or not.

The protocol is the `websockets` library's, used sans-I/O (RFC 6455; no extension);
this file only moves its bytes and keeps the order of what waits to be sent. It
knows neither the framing nor the clock, never blocks and never decides to close.

Why not the library's own loops: its threads hold one lock around a blocking send
and need the same lock to receive, so that an echo (`chimirror-connect URL <big | less`)
stops for ever once both directions are full (measured: a reader that pauses for 4 s);
its asyncio client costs 45 ms more at every start.
"""

from __future__ import annotations

import ssl
from collections import deque

from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from socket import socket

    from websockets.client import ClientProtocol

READ = 64 * 1024

_AGAIN = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Ended(Exception):
    """Nothing more will be received: end of stream (no text), or why it was lost."""


class Channel:
    """A connected WebSocket.

    Attributes:
        waiting: bytes that have not been taken by the kernel yet.
    """

    __slots__ = (
        "_sock",
        "_protocol",
        "_urgent",
        "_queue",
        "_head",
        "_parts",
        "_closing",
        "waiting",
    )

    def __init__(self, sock: socket, protocol: ClientProtocol) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._protocol = protocol
        self._urgent: deque[bytes] = deque()  # whole frames that pass the others by
        self._queue: deque[bytes] = deque()
        self._head = memoryview(b"")  # what is left of the frame being sent
        self._parts: list[bytes] | None = None  # of a fragmented message
        self._closing = False
        self.waiting = 0

    def fileno(self) -> int:
        return self._sock.fileno()

    # Sending.

    def send(self, message: bytes, *, urgent: bool = False) -> None:
        """Queue a text message; an urgent one goes before all that waits."""
        if self._protocol.state is OPEN:
            self._protocol.send_text(message)
            self._collect(self._urgent if urgent else self._queue)

    def ping(self, payload: bytes) -> None:
        if self._protocol.state is OPEN:
            self._protocol.send_ping(payload)
            self._collect(self._urgent)

    def close(self, code: int, reason: str = "") -> None:
        """Start the closing handshake; what waits to be sent is dropped."""
        if self._protocol.state is OPEN:
            self._protocol.send_close(code, reason)
            self._collect(self._urgent)

    def _collect(self, queue: deque[bytes]) -> None:
        for data in self._protocol.data_to_send():
            if data:  # b"" asks for a half-close, which close(2) is about to do better
                queue.append(data)
                self.waiting += len(data)
        if self._protocol.state is not OPEN and not self._closing:
            self._closing = True  # nobody reads data after a close frame
            self.waiting -= sum(map(len, self._queue))
            self._queue.clear()

    def flush(self) -> None:
        """Send what the kernel takes now.

        Raises:
            Ended: the connection is broken.
        """
        try:
            while self.waiting:
                if not self._head:
                    queue = self._urgent or self._queue
                    self._head = memoryview(queue.popleft())
                sent = self._sock.send(self._head)
                self.waiting -= sent
                self._head = self._head[sent:]
        except _AGAIN:
            pass
        except OSError as error:
            raise Ended(error.strerror or str(error)) from None

    # Receiving.

    def buffered(self) -> bool:
        """Whether TLS holds bytes that poll(2) will not tell of."""
        return isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0

    def receive(self) -> list[bytes | Frame]:
        """Read once: text messages as bytes, pongs and binary messages as frames.

        Raises:
            Ended: there is nothing more to come.
        """
        try:
            data = self._sock.recv(READ)
        except _AGAIN:
            return []
        except OSError as error:
            self._protocol.receive_eof()
            raise Ended(error.strerror or str(error)) from None
        if not data:
            self._protocol.receive_eof()
            raise Ended("")
        self._protocol.receive_data(data)
        return self.received()

    def received(self) -> list[bytes | Frame]:
        """What the protocol has made of the bytes that were received."""
        messages: list[bytes | Frame] = []
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._assemble(event, messages)
        self._collect(self._urgent)
        return messages

    def _assemble(self, frame: Frame, messages: list[bytes | Frame]) -> None:
        if frame.opcode is Opcode.TEXT and frame.fin:
            messages.append(bytes(frame.data))
        elif frame.opcode is Opcode.TEXT:
            self._parts = [bytes(frame.data)]
        elif frame.opcode is Opcode.CONT and self._parts is not None:
            self._parts.append(bytes(frame.data))
            if frame.fin:
                messages.append(b"".join(self._parts))
                self._parts = None
        elif frame.opcode in (Opcode.PONG, Opcode.BINARY):
            messages.append(frame)

    # The end.

    @property
    def closed(self) -> bool:
        """Whether a close frame has come, or the protocol was broken by the peer."""
        return self.close_received is not None or self.broken is not None

    @property
    def close_received(self) -> tuple[int, str] | None:
        close = self._protocol.close_rcvd
        return (close.code, close.reason) if close is not None else None

    @property
    def broken(self) -> str | None:
        """How the server broke RFC 6455, if it did."""
        error = self._protocol.parser_exc
        if error is None or isinstance(error, EOFError):
            return None
        if isinstance(error, (WebSocketException, UnicodeDecodeError)):
            return str(error)
        return type(error).__name__

    def drop(self) -> None:
        self._sock.close()
