"""How clients come into a worker: its listeners, and the limits of all workers."""

from __future__ import annotations

from errno import EMFILE, ENFILE, ENOBUFS, ENOMEM

from chimirror.system.admission import source_key
from chimirror.system.lean import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from chimirror.apps import App
    from chimirror.service import Admission, Peer
    from chimirror.system.admission import Table
    from chimirror.system.listen import Listener

    class Host(Protocol):
        """Who is told."""

        open: bool

        def on_connection(self, fd: int, address: object) -> None: ...

        def on_shortage(self, error: Exception) -> None: ...


ACCEPTS = 16  # per listener and turn, so that sessions are served in between
SHORTAGE = (EMFILE, ENFILE, ENOBUFS, ENOMEM)

_accept = socket.socket._accept  # type: ignore[attr-defined]  # noqa: SLF001


class Seats:
    """The limits over all workers, as one worker sees them.

    Args:
        by_name: counts the sessions of each application, where they have names.
    """

    __slots__ = ("_by_name", "_number", "_table")

    def __init__(self, table: Table, by_name: Table | None, number: int) -> None:
        self._table = table
        self._by_name = by_name
        self._number = number

    def enter(self, peer: Peer, app: App) -> str | None:
        """See admission.Table.enter."""
        number, name = self._number, app.name.encode()
        named = self._by_name if app.most else None
        if named and named.enter(number, name, app.most) is not None:
            return "max-sessions-per-application"
        cause = self._table.enter(number, self._source(peer))
        if cause is not None and named:
            named.leave(number, name)
        return cause

    def leave(self, peer: Peer, app: App) -> None:
        """See admission.Table.leave."""
        self._table.leave(self._number, self._source(peer))
        if app.most and self._by_name:
            self._by_name.leave(self._number, app.name.encode())

    def _source(self, peer: Peer) -> bytes:
        if not self._table.by_source:
            return b""  # nobody asks
        return source_key(peer.address, peer.uid)

    def retry_after(self, cause: str) -> int:
        """See admission.Table.retry_after."""
        return self._table.retry_after(cause)

    @property
    def are_empty(self) -> bool:
        """Whether no worker has a session."""
        return not self._table.total()


class Leaving:
    """The limits while a server goes for good: nobody new comes in."""

    __slots__ = ("_seats",)

    def __init__(self, seats: Admission) -> None:
        self._seats = seats

    def enter(self, peer: Peer, app: App) -> str:
        """They are told."""
        return "drain"

    def leave(self, peer: Peer, app: App) -> None:
        """Of those that came before."""
        self._seats.leave(peer, app)

    def retry_after(self, cause: str) -> int:
        """See admission.Table.retry_after."""
        return self._seats.retry_after(cause)


class Door:
    """One listener: hands each new connection to the worker."""

    __slots__ = ("_handle", "_listener", "_worker", "fd")

    def __init__(self, worker: Host, listener: Listener) -> None:
        self._worker = worker
        self._listener = listener
        self.fd = listener.fd
        self._handle = socket.socket(-1, -1, -1, listener.fd)
        self._handle.setblocking(False)

    def on_event(self, fd: int, events: int) -> None:
        """Connections wait."""
        for _ in range(ACCEPTS):
            if not self._worker.open:
                return
            try:
                connection, address = _accept(self._handle)
            except (BlockingIOError, ConnectionAbortedError, PermissionError):
                return
            except OSError as error:
                if error.errno not in SHORTAGE:
                    raise
                self._worker.on_shortage(error)
                return
            self._worker.on_connection(connection, address)

    def narrow(self) -> None:
        """From now on, one waits at most: of others the kernel drops the SYN.

        They try again after a second, and may find another listener then; who
        connects to a Unix socket would not.
        """
        if self._handle.family != socket.AF_UNIX:
            self._handle.listen(0)

    def on_fault(self, error: Exception) -> None:
        """A bug of ours, or a listener that is broken: never a dead accept loop."""
        self._worker.on_shortage(error)

    def close(self) -> None:
        """Let go of the listener."""
        self._handle.detach()
        self._listener.close()
