"""Session limits, as one worker applies them: of server, source, user, application.

Maps peers, users and applications to the keys of the shared limit tables. Knows neither
sockets nor HTTP.
"""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_pton

from chimirror.server.limit_table import MAX_SESSIONS_PER_SOURCE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.apps import Application
    from chimirror.server.limit_table import LimitTable
    from chimirror.session import Admission, Peer

MAX_SESSIONS_PER_APPLICATION = "max-sessions-per-application"
MAX_SESSIONS_PER_USER = "max-sessions-per-user"


def source_key(address: str, uid: int = -1) -> bytes:
    """Return the key of a source: an IPv4 address, an IPv6 /64 or a local user.

    One subscriber gets a whole /64 (RFC 6177). A limit on single addresses of it would
    have no effect.

    Args:
        address: in the form of `addresses.plain_address`, empty for a peer on a Unix
            socket.
        uid: the user of a Unix peer (SO_PEERCRED).
    """
    if not address:
        return b"u%d" % uid
    try:
        return b"4" + inet_pton(AF_INET, address)
    except (OSError, ValueError):
        pass
    try:
        packed = inet_pton(AF_INET6, address)
    except (OSError, ValueError):
        # For example a name from a proxy. It counts as a source: an exception here
        # would stop accepting connections.
        return b"?" + address.encode("utf-8", "backslashreplace")
    return b"6" + packed[:8]


class WorkerAdmission:
    """The limits of the whole server, applied by one worker.

    Args:
        table: counts the sessions of all workers, and of each source.
        by_name: counts the sessions of each application. None if applications have no
            names.
        by_user: counts the sessions of each known user. None for no limit.
        number: the number of this worker.
    """

    __slots__ = ("_by_name", "_by_user", "_number", "_table")

    def __init__(
        self,
        table: LimitTable,
        by_name: LimitTable | None,
        by_user: LimitTable | None,
        number: int,
    ) -> None:
        self._table = table
        self._by_name = by_name
        self._by_user = by_user
        self._number = number

    def acquire(self, peer: Peer, app: Application, user: str = "") -> str | None:
        """Count a new session.

        Args:
            peer: its client.
            app: its application.
            user: name of its user. Anonymous sessions ("") count for no user.

        Returns:
            None if the session is admitted, otherwise the name of the limit that
            rejects it, as in `session.CAPACITY_MESSAGES`.
        """
        number, name = self._number, app.name.encode()
        named = self._by_name if app.max_sessions else None
        if named:
            cause = named.acquire(number, name, app.max_sessions)
            if cause is not None:
                return _rename(cause, MAX_SESSIONS_PER_APPLICATION)
        if user and self._by_user is not None:
            cause = self._acquire_for_user(self._by_user, user.encode(), peer)
        else:
            cause = self._table.acquire(number, self._source(peer))
        if cause is not None and named:
            named.release(number, name)
        return cause

    def _acquire_for_user(
        self, by_user: LimitTable, user: bytes, peer: Peer
    ) -> str | None:
        cause = by_user.acquire(self._number, user)
        if cause is not None:
            return _rename(cause, MAX_SESSIONS_PER_USER)
        cause = self._table.acquire(self._number, self._source(peer))
        if cause is not None:
            by_user.release(self._number, user)
        return cause

    def find_exceeded(self, peer: Peer, app: Application, user: str = "") -> str | None:
        """Return what `acquire` would return. Counts nothing."""
        named = self._by_name if app.max_sessions else None
        if named:
            cause = named.find_exceeded(app.name.encode(), app.max_sessions)
            if cause is not None:
                return _rename(cause, MAX_SESSIONS_PER_APPLICATION)
        if user and self._by_user is not None:
            cause = self._by_user.find_exceeded(user.encode())
            if cause is not None:
                return _rename(cause, MAX_SESSIONS_PER_USER)
        return self._table.find_exceeded(self._source(peer))

    def release(self, peer: Peer, app: Application, user: str = "") -> None:
        """Stop counting a session that `acquire` admitted."""
        self._table.release(self._number, self._source(peer))
        if user and self._by_user is not None:
            self._by_user.release(self._number, user.encode())
        if app.max_sessions and self._by_name:
            self._by_name.release(self._number, app.name.encode())

    def _source(self, peer: Peer) -> bytes:
        if not self._table.by_source:
            return b""  # sources are not counted
        return source_key(peer.address, peer.uid)

    def retry_after(self, cause: str) -> int:
        """Return the seconds for Retry-After when `cause` rejected a session."""
        return self._table.retry_after(cause)

    @property
    def draining(self) -> bool:
        """True while every new session of the server is rejected."""
        return self._table.draining

    def set_draining(self, draining: bool) -> bool:
        """Reject all new sessions of the server, or admit them again.

        Returns:
            True if that is a change.
        """
        return self._table.set_draining(draining)

    @property
    def sessions(self) -> int:
        """Number of sessions of all workers."""
        return self._table.total()


def _rename(cause: str, share: str) -> str:
    """Return the cause of a rejection by a table whose sources are shares."""
    return share if cause == MAX_SESSIONS_PER_SOURCE else cause


class DrainingAdmission:
    """The limits of a worker that drains before its listeners are closed for good.

    Rejects every new session. Sessions that are open are counted as before.
    """

    __slots__ = ("_admission",)

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def acquire(self, peer: Peer, app: Application, user: str = "") -> str:
        """Reject the session with the cause "drain"."""
        return "drain"

    def find_exceeded(self, peer: Peer, app: Application, user: str = "") -> str:
        """Return "drain"."""
        return "drain"

    def release(self, peer: Peer, app: Application, user: str = "") -> None:
        """Stop counting a session that was admitted before the drain."""
        self._admission.release(peer, app, user)

    def retry_after(self, cause: str) -> int:
        """Return the seconds for Retry-After when `cause` rejected a session."""
        return self._admission.retry_after(cause)
