"""Serves clients that get one answer each: probes, scrapers and agents of balancers.

The supervisor serves them, which outlives the workers. So nothing here blocks, and all
is bounded: the number of connections, of which the oldest gives way, and the time of
each. After the answer the connection is shut down and its input is discarded until the
client closes. Otherwise the kernel could reset the connection and lose the answer.
Knows no protocol.
"""

from __future__ import annotations

from chimirror.builtin_modules import os
from chimirror.io.acceptor import Acceptor
from chimirror.io.loop import NEVER
from chimirror.io.pending_connections import PendingConnections
from chimirror.io.stream import Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chimirror.io.listener import Listener
    from chimirror.io.loop import EventLoop

MAX_CONNECTIONS = 64
TIMEOUT = 10.0  # seconds of a connection, from the first to the last byte
LINGER = 2.0  # seconds for the client to close after the answer
ACCEPT_BATCH = 16
READ_SIZE = 4096


class ShortConnection(Stream):
    """A connection that ends with its answer. A subclass decides on the answer.

    Args:
        server: gets the end and the errors of the connection.
        loop: reports readiness.
        fd: owned by the connection from now on.
    """

    __slots__ = ("_is_answered", "_server", "armed", "deadline")
    read_size = READ_SIZE

    def __init__(self, server: ShortServer, loop: EventLoop, fd: int) -> None:
        super().__init__(loop, fd, fd)
        self._server = server
        self._is_answered = False
        self.armed = 0
        self.deadline = NEVER
        loop.set_timer(self, loop.now + TIMEOUT)

    # For the subclass to define

    def begin(self) -> None:
        """Called once the connection is registered."""

    def on_request_data(self, data: bytes) -> None:
        """Called with input before the answer."""

    # The answer

    def answer(self, data: bytes) -> None:
        """Send the answer and close. Input is ignored from now on."""
        self._is_answered = True
        self.write([data])
        if self.write_buffer is None:
            self._finish()

    def on_write_buffer_empty(self) -> None:
        """Called when the kernel has taken the whole answer."""
        if self._is_answered:
            self._finish()

    def _finish(self) -> None:
        if self.eof_received or self.write_fd < 0:
            self.disconnect()
            return
        self.shutdown_write()
        self._loop.set_timer(self, min(self.deadline, self._loop.now + LINGER))

    def disconnect(self) -> None:
        """Close the connection now. May be called again."""
        self._loop.cancel_timer(self)
        self.abort()
        self._server.on_disconnected(self)

    # Events

    def on_data(self, data: bytes) -> None:
        """Called when data has arrived."""
        if not self._is_answered:
            self.on_request_data(data)

    def on_eof(self) -> None:
        """Called at the end of input. The rest of the answer is still sent."""
        if self._is_answered and self.write_buffer is not None:
            self.stop_reading()
        else:
            self.disconnect()

    def on_held_input(self) -> None:
        """No input is held."""

    def on_write_buffer_low(self) -> None:
        """Nothing waits for that."""

    def on_peer_closing(self) -> None:
        """Called when the client reads no more."""
        self.disconnect()

    def on_timer(self, now: float) -> None:
        """Called when the time is over."""
        self.disconnect()

    def on_error(self, error: Exception) -> None:
        """Called with an internal error. Only this connection ends."""
        self._server.on_error(error)
        self.disconnect()


class ShortServer:
    """Accepts connections of one kind.

    Args:
        loop: reports readiness.
        listeners: their owner closes them.
        connect: makes a connection of this server from a descriptor.
        log: called with the text of a warning.
    """

    def __init__(
        self,
        loop: EventLoop,
        listeners: Sequence[Listener],
        connect: Callable[[ShortServer, EventLoop, int], ShortConnection],
        log: Callable[[str], object],
    ) -> None:
        self._loop = loop
        self._listeners = listeners
        self._connect = connect
        self._log = log
        self._connections = PendingConnections(
            MAX_CONNECTIONS, MAX_CONNECTIONS, ShortConnection.disconnect
        )
        fds = [listener.fd for listener in listeners]
        self._acceptor = Acceptor(loop, fds, self, batch=ACCEPT_BATCH)
        self._acceptor.enable()

    def on_connection(self, fd: int, address: object) -> None:
        """Called with an accepted connection."""
        try:
            os.set_blocking(fd, False)
            connection = self._connect(self, self._loop, fd)
        except Exception:
            os.close(fd)
            raise
        self._connections.add(connection, None)
        connection.begin()

    def on_disconnected(self, connection: ShortConnection) -> None:
        """Called when a connection has ended."""
        self._connections.discard(connection)

    def on_accept_failed(self, error: Exception, shortage: bool) -> None:
        """Called when accepting pauses, which leaves the server unharmed."""
        if not shortage:
            self.on_error(error)

    def on_error(self, error: Exception) -> None:
        """Called with an internal error."""
        self._log(f"internal error in a connection for metrics: {error!r}")

    def close(self) -> None:
        """Stop serving, and close all connections."""
        self._acceptor.close()
        for connection in list(self._connections):
            connection.disconnect()

    def release_after_fork(self) -> None:
        """Close all descriptors in a forked child. The parent goes on."""
        for listener in self._listeners:
            listener.close()
        for connection in self._connections:
            os.close(connection.read_fd)
