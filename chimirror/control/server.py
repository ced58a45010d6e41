"""Control socket of one process: accepts clients and decides on their trust.

A worker has its Unix socket in a private directory, a bridge beside its status file.
The mode of the directory restricts the clients. Root and the user of this process are
trusted (SO_PEERCRED). Other clients must know the secret of a session.
ControlConnection serves the requests and is loaded with the first client.
"""

from __future__ import annotations

from chimirror.builtin_modules import os, socket
from chimirror.io.acceptor import Acceptor
from chimirror.io.activation import peer_uid
from chimirror.io.pending_connections import PendingConnections

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from chimirror.control.connection import ControlConnection
    from chimirror.control.peer import Controller
    from chimirror.io.acceptor import ListeningSocket
    from chimirror.session import SessionContext, SessionEntry


# Connections that have not authorized: of all clients, and of one user that is not
# trusted. Beyond them, the oldest one is closed.
MAX_UNAUTHORIZED = 64
MAX_UNAUTHORIZED_PER_USER = 16


class ControlServer:
    """Accepts clients of one control socket.

    Args:
        context: shared by all sessions of this process.
        listener: the listening socket, owned by the server from now on.
        controller_for: returns the controller of a session.
    """

    def __init__(
        self,
        context: SessionContext,
        listener: ListeningSocket,
        controller_for: Callable[[SessionEntry], Controller],
    ) -> None:
        self.context = context
        self.controller_for = controller_for
        self.connections: set[ControlConnection] = set()
        self._unauthorized = PendingConnections(
            MAX_UNAUTHORIZED, MAX_UNAUTHORIZED_PER_USER, lambda each: each.disconnect()
        )
        self._trusted = {0, os.geteuid()}
        self._listener = listener
        self._acceptor = Acceptor(context.loop, [listener.fd], self)
        self._acceptor.enable()

    def on_connection(self, fd: int, address: object) -> None:
        """Called with an accepted connection."""
        from chimirror.control.connection import ControlConnection

        handle = socket.socket(-1, -1, -1, fd)
        uid = peer_uid(handle)
        handle.setblocking(False)
        trusted = uid in self._trusted
        fd = handle.detach()
        connection = ControlConnection(self, fd, uid=uid, trusted=trusted)
        self.connections.add(connection)
        self._unauthorized.add(connection, None if trusted else uid)

    def on_authorized(self, connection: ControlConnection) -> None:
        """Called when a client has become a peer of a session, which limits them."""
        self._unauthorized.discard(connection)

    def on_disconnected(self, connection: ControlConnection) -> None:
        """Called when a client is disconnected."""
        self.connections.discard(connection)
        self._unauthorized.discard(connection)

    def on_accept_failed(self, error: Exception, shortage: bool) -> None:
        """Called when accepting pauses; logs an internal error, not a shortage."""
        if not shortage:
            self.on_error(error)

    def on_error(self, error: Exception) -> None:
        """Called with an internal error. Writes it to the log."""
        self.context.log_internal_error(error, part="a control connection")

    @property
    def is_finishing(self) -> bool:
        """Whether a client still gets the last output of a session, for a second."""
        return any(connection.is_finishing for connection in self.connections)

    def close(self) -> None:
        """Close the socket and disconnect all clients."""
        self._acceptor.close()
        self._listener.remove()
        for connection in list(self.connections):
            connection.disconnect()
