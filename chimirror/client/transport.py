"""Moves bytes between a non-blocking socket, with or without TLS, and a WebSocket.

Never waits and decides nothing: reports the events to poll for, and moves the bytes
that can be moved now. Owned by a driver, which polls.
"""

from __future__ import annotations

import socket

from chimirror.client.dialer import error_text
from chimirror.client.tls_errors import reason_of, reason_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from chimirror.client.flow import Flow
    from chimirror.client.websocket import WebSocketProtocol

    class TransportProtocol(Protocol):
        """Protocol above a Transport."""

        websocket: WebSocketProtocol

        def data_received(self, data: bytes) -> None:
            """Called when bytes have arrived."""

        @property
        def wants_data(self) -> bool:
            """Whether the protocol accepts more data."""

        def wait_until_open(self) -> Flow[None]:
            """Wait until the connection is usable."""

        @property
        def timeout_cause(self) -> str:
            """Cause of a timeout in `wait_until_open`."""

        def abort(self) -> None:
            """Close at once."""


READ_SIZE = 64 * 1024


class Transport:
    """A socket and the protocol above it."""

    __slots__ = ("_sock", "_protocol", "_retry_errors", "_is_tls")

    def __init__(self, sock: socket.socket, protocol: TransportProtocol) -> None:
        self._sock = sock
        self._protocol = protocol
        self._retry_errors: tuple[type[OSError], ...] = (BlockingIOError,)
        self._is_tls = type(sock) is not socket.socket
        if self._is_tls:
            import ssl

            self._retry_errors += (ssl.SSLWantReadError, ssl.SSLWantWriteError)

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def wants_read(self) -> bool:
        """Whether to poll the socket for reading."""
        websocket = self._protocol.websocket
        return websocket.lost_reason is None and websocket.can_read(
            self._protocol.wants_data
        )

    @property
    def wants_write(self) -> bool:
        """Whether to poll the socket for writing."""
        return self._protocol.websocket.pending_bytes > 0

    def has_buffered_data(self) -> bool:
        """Whether there are received bytes, which polling does not report."""
        if self._protocol.websocket.has_received_data:
            return True
        return self._is_tls and self._sock.pending() > 0  # type: ignore[attr-defined]

    def receive(self) -> None:
        """Receive once, or pass on more of the bytes that were received before."""
        websocket = self._protocol.websocket
        if websocket.has_received_data:
            self._protocol.data_received(b"")
            return
        try:
            data = self._sock.recv(READ_SIZE)
        except self._retry_errors:
            return
        except OSError as error:
            tls_reason = reason_of(error)
            text = reason_text(tls_reason) if tls_reason else error_text(error)
            websocket.on_connection_lost(text, tls_reason)
            return
        if data:
            self._protocol.data_received(data)
        else:
            websocket.on_connection_lost("")

    def flush(self) -> bool:
        """Send all bytes that the kernel accepts now, and run the timers.

        Returns:
            Whether bytes were sent or the connection was lost.
        """
        websocket = self._protocol.websocket
        previous = websocket.pending_bytes, websocket.lost_reason
        try:
            while websocket.pending_bytes:
                websocket.on_sent(self._sock.send(websocket.next_data()))
        except self._retry_errors:
            pass
        except OSError:
            websocket.on_send_failed()  # the next read reports the cause
        websocket.tick()
        return (websocket.pending_bytes, websocket.lost_reason) != previous

    def close(self) -> None:
        self._sock.close()
