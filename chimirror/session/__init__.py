"""Layer 5: one client's session with one application process.

Modules:
    session: Session, from the connection to the last record.
    relay: Relay, messages to standard input and output to messages.
    request_handler: RequestHandler, checks, admits and answers the request.
    identification: asks who the client of a request is.
    connection: Connection, frames, keepalive and orderly close of the socket.
    tls_connection: TlsConnection, the same over TLS.
    keepalive: Keepalive, decides when to ping and when to disconnect.
    summary: Fields of a session for status files and control requests.
    session_secret: Hash of the secret that authorizes control of a session.

This file holds `SessionContext`: applications, limits and event log of one process.
The bridge and each worker of the server build one. Sessions reach everything that
they share through it.

May import the layers below: access, apps, process, resources, log, io, framing, config
and protocol. Must not import bridge/, server/ or control/. The program provides control
as `load_control`. This file opens no descriptor.
"""

from __future__ import annotations

from chimirror.builtin_modules import os
from chimirror.process.children import describe
from chimirror.protocol import DRAIN, INTERNAL_ERROR
from chimirror.protocol.http import HTTPError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
    from typing import Protocol

    from chimirror.access import Identity
    from chimirror.access.access_control import AccessControl
    from chimirror.apps import Application, Catalog
    from chimirror.config import Config
    from chimirror.framing import Framing
    from chimirror.io.acceptor import ListeningSocket
    from chimirror.io.loop import EventLoop
    from chimirror.log.records import EventLog
    from chimirror.process.application_process import ApplicationProcess, SpawnBackend
    from chimirror.protocol import CloseReason
    from chimirror.protocol.request_cache import SessionRequest
    from chimirror.resources.responder import CatalogBuilder
    from chimirror.session.connection import Connection
    from chimirror.tls.certificates import Certificates

    class Admission(Protocol):
        """Limits on the number and rate of sessions."""

        def acquire(self, peer: Peer, app: Application, user: str = "") -> str | None:
            """Count one session, or return the name of the limit that forbids it."""

        def find_exceeded(
            self, peer: Peer, app: Application, user: str = ""
        ) -> str | None:
            """Return the limit that `acquire` would return. Counts nothing."""

        def release(self, peer: Peer, app: Application, user: str = "") -> None:
            """Stop counting one session."""

        def retry_after(self, cause: str) -> int:
            """Return the seconds after which the same peer may try again."""

    class ServedConnection(Protocol):
        """A client connection that a drain has to end."""

        connection: Connection
        peer: Peer

        def close(self, reason: CloseReason) -> None: ...

        def abort(self, reason: CloseReason) -> None:
            """End it at once. Writes the close frame once."""

        def give_way(self) -> None:
            """Called when a newer handshake needs the room of this one."""

    class SessionMetrics(Protocol):
        """Counters of the sessions of this process."""

        def on_admitted(self, application: str) -> None:
            """Called with each session whose application is being started."""

        def on_failed(self, application: str) -> None:
            """Called with each admitted session that ends before it has opened."""

        def on_opened(self, application: str, seconds: float) -> None:
            """Called with the time from the request to the running application."""

        def on_closing(self, application: str) -> None:
            """Called with each open session that begins to close."""

        def on_ended(self, application: str, reason: str) -> None:
            """Called with each end that is recorded, after on_closing."""

        def on_refused(self, cause: str) -> None:
            """Called with each refusal that is recorded."""

    class PendingPool(Protocol):
        """Connections without a session, such as io.PendingConnections."""

        def add(self, entry: ServedConnection, source: Hashable, /) -> None:
            """Add a connection. Others may be closed for it."""

        def discard(self, entry: ServedConnection, /) -> None:
            """Remove a connection, if it is there."""

        def __len__(self) -> int: ...

        def __iter__(self) -> Iterator[ServedConnection]: ...

        def __contains__(self, entry: object) -> bool: ...

    class SessionEntry(ServedConnection, Protocol):
        """A session in the registry, as other layers see it."""

        session_id: str
        application: Application
        identity: Identity | None
        framing: Framing
        process: ApplicationProcess
        opened_at: float
        bytes_in: int
        bytes_out: int
        messages_in: int
        messages_out: int
        status: int | None
        reason: str

        @property
        def user(self) -> str: ...

        def hash_secret(self) -> bytes: ...

    class Closable(Protocol):
        """A listening socket and its connections."""

        @property
        def is_finishing(self) -> bool:
            """Whether the last output of an ended session is still being sent."""

        def close(self) -> None: ...

    class ControlHost(Protocol):
        """Control of the sessions of this process, implemented by control/."""

        def listen(self, listener: ListeningSocket) -> Closable:
            """Serve a control socket until the returned object is closed."""

        def open_gateway(
            self,
            connection: Connection,
            peer: Peer,
            request: SessionRequest,
            early: bytes,
            finish_handshake: Callable[[], object],
            user: str | None,
        ) -> None:
            """Serve a control WebSocket.

            Args:
                connection: owned by the gateway from now on.
                early: bytes that followed the request head.
                finish_handshake: called once the client is authorized or disconnected.
                user: name of the client, who may control only own sessions. None:
                    nobody asks for it.
            """

        def on_control_channel(self, session: SessionEntry) -> None:
            """Called when the application first writes to its control channel."""

        def send_environment(
            self, session: SessionEntry, variables: Mapping[str, str]
        ) -> None:
            """Send the variables of the request over the control channel."""

        def on_session_ended(self, session_id: str) -> None:
            """Called when a session has ended. Disconnects its control peers."""


CAPACITY_MESSAGES = {
    "max-sessions": "all sessions are taken",
    "max-sessions-per-source": "all sessions of this address are taken",
    "max-sessions-per-user": "all sessions of this user are taken",
    "max-sessions-per-application": "all sessions of this application are taken",
    "max-rate": "too many new sessions just now",
    "start-shortage": "no application can be started just now",
    "drain": "this service is going down",
}


class Peer:
    """Address of the other end of a connection.

    Attributes:
        address: IPv4 or IPv6 text. Empty on a Unix socket.
        port: 0 where there is none.
        uid: user of the peer's process on a Unix socket. Otherwise -1.
    """

    __slots__ = ("address", "port", "uid")

    def __init__(self, address: str, port: int, uid: int = -1) -> None:
        self.address = address
        self.port = port
        self.uid = uid

    @property
    def endpoint(self) -> tuple[str, int]:
        """Address and port."""
        return self.address, self.port

    @property
    def text(self) -> str:
        """Text form in records: `127.0.0.1:4711`, `[::1]:4711`, `unix:1000`."""
        if not self.address:
            return f"unix:{self.uid}" if self.uid >= 0 else "unix"
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}" if self.port else host


class NoLimits:
    """Admission of a process that serves one session."""

    __slots__ = ()

    def acquire(self, peer: Peer, app: Application, user: str = "") -> None:
        """Admit every session."""

    def find_exceeded(self, peer: Peer, app: Application, user: str = "") -> None:
        """Return None: there are no limits."""

    def release(self, peer: Peer, app: Application, user: str = "") -> None:
        """Do nothing: nothing was counted."""

    def retry_after(self, cause: str) -> int:
        """Return one second."""
        return 1


class UnlimitedPool(dict["ServedConnection", "Hashable"]):
    """PendingPool of a process that serves one connection."""

    __slots__ = ()

    add = dict.__setitem__

    def discard(self, entry: ServedConnection) -> None:
        """Remove a connection, if it is there."""
        self.pop(entry, None)


class SessionContext:
    """Objects shared by all sessions of one process.

    Args:
        config: options of the command line. Each application has its own.
        catalog: the applications that are served.
        loop: event loop of this process.
        spawner: starts application processes.
        open_event_log: called once, with the first record.
        load_control: called once, with the first control request.
        admission: limits on sessions. None for no limits.

    Attributes:
        certificates: of connections over TLS. None: they are in the clear.
        access: finds out who clients are. None: nobody asks.
        sessions: admitted sessions by their ids.
        gateways: authorized control WebSockets.
        handshakes: connections that are neither admitted nor authorized yet.
        responses: connections that end with a response, such as a refusal.
        catalog_builder: answers requests for the catalog, made with the first one.
        connecting: number of connections that were neither opened nor answered yet.
        metrics: counts the sessions. None: no process asks for them.
        traffic: bytes in, bytes out, messages in and messages out of all sessions. None
            without metrics.
    """

    __slots__ = (
        "_control",
        "_event_log",
        "_load_control",
        "_open_event_log",
        "access",
        "admission",
        "catalog",
        "catalog_builder",
        "certificates",
        "config",
        "connecting",
        "gateways",
        "handshakes",
        "loop",
        "metrics",
        "responses",
        "sessions",
        "spawner",
        "traffic",
    )

    def __init__(
        self,
        config: Config,
        catalog: Catalog,
        loop: EventLoop,
        spawner: SpawnBackend,
        open_event_log: Callable[[], EventLog],
        load_control: Callable[[SessionContext], ControlHost],
        admission: Admission | None = None,
    ) -> None:
        self.config = config
        self.catalog = catalog
        self.loop = loop
        self.spawner = spawner
        self._open_event_log = open_event_log
        self._event_log: EventLog | None = None
        self._load_control = load_control
        self._control: ControlHost | None = None
        self.admission: Admission = admission or NoLimits()
        self.certificates: Certificates | None = None
        self.access: AccessControl | None = None
        self.sessions: dict[str, SessionEntry] = {}
        self.gateways: set[ServedConnection] = set()
        self.handshakes: PendingPool = UnlimitedPool()
        self.responses: PendingPool = UnlimitedPool()
        self.catalog_builder: CatalogBuilder | None = None
        self.connecting = 0
        self.metrics: SessionMetrics | None = None
        self.traffic: memoryview | None = None

    @property
    def event_log(self) -> EventLog:
        """Event log of this process, opened with the first record."""
        if self._event_log is None:
            self._event_log = self._open_event_log()
        return self._event_log

    @property
    def has_event_log(self) -> bool:
        """Whether the event log has been opened."""
        return self._event_log is not None

    def record_refusal(
        self,
        peer: str,
        path: str | bytes,
        status: int,
        cause: str,
        detail: str,
        user: str,
    ) -> None:
        """Record and count a refused request. The arguments are those of the log."""
        if self.metrics is not None:
            self.metrics.on_refused(cause)
        self.event_log.request_rejected(peer, path, status, cause, detail, user)

    def capacity_error(self, cause: str) -> HTTPError:
        """Build the response for an exceeded limit or a draining service."""
        seconds = str(self.admission.retry_after(cause))
        text = f"{CAPACITY_MESSAGES[cause]}; try again later"
        return HTTPError(503, text, (("Retry-After", seconds),), cause=cause)

    def termination_error(self, reason: CloseReason) -> HTTPError:
        """Build the response to a request whose session ended while it started.

        Only after a drain is the client asked to try again.
        """
        if reason is DRAIN:
            return self.capacity_error(reason.text)
        if reason is INTERNAL_ERROR:
            return HTTPError(500, "an internal error", cause="internal")
        return HTTPError(503, f"the session was ended: {reason.text}", cause="ended")

    def reason_for(self, status: int, session_id: str) -> str:
        """Return the close reason for the end of an application.

        Subclasses may know more than its exit status.
        """
        return describe(status)

    def cgroup_of(self, session_id: str) -> str:
        """Return the cgroup that counts only this session, if any. For subclasses."""
        return ""

    # From the connection to its end

    def peer_at(self, address: str, port: int) -> Peer:
        """Return the peer that a PROXY header names. Subclasses may know more."""
        return Peer(address, port)

    def source_of(self, peer: Peer) -> Hashable:
        """Return the key of a source, None without shares. For subclasses."""
        return None

    def on_connected(self, entry: ServedConnection) -> None:
        """Called with a new connection. It counts as a handshake."""
        self.connecting += 1
        self.handshakes.add(entry, self.source_of(entry.peer))

    def on_peer_named(self, entry: ServedConnection) -> None:
        """Called when a proxy has named the client. It counts for its own source."""
        if entry in self.handshakes:
            self.handshakes.discard(entry)
            self.handshakes.add(entry, self.source_of(entry.peer))

    def on_handshake_finished(self) -> None:
        """Called when a handshake has succeeded or failed."""
        self.connecting -= 1

    def admit(self, peer: Peer, app: Application, user: str) -> str | None:
        """Count one session, or return the name of the limit that forbids it."""
        return self.admission.acquire(peer, app, user)

    def on_session_admitted(self, session: SessionEntry) -> None:
        """Called when a handshake has become a session."""
        self.handshakes.discard(session)
        self.sessions[session.session_id] = session

    def has_gateway_room(self) -> bool:
        """Return True if one more gateway may be authorized. For subclasses."""
        return True

    def on_gateway_authorized(self, gateway: ServedConnection) -> None:
        """Called when a handshake has become a control connection."""
        self.handshakes.discard(gateway)
        self.gateways.add(gateway)

    def on_response(self, entry: ServedConnection) -> None:
        """Called before the connection ends with a response."""
        if entry in self.responses:
            return
        self.handshakes.discard(entry)
        self.gateways.discard(entry)
        self.responses.add(entry, self.source_of(entry.peer))

    def on_connection_closed(self, entry: ServedConnection) -> None:
        """Called when the descriptors of a connection are closed."""
        self.handshakes.discard(entry)
        self.gateways.discard(entry)
        self.responses.discard(entry)
        self.on_capacity_freed()

    def on_session_ended(self, session_id: str) -> None:
        """Called when both sides of a session have ended. Removes the session."""
        del self.sessions[session_id]
        self.on_capacity_freed()
        if self._control is not None:
            self._control.on_session_ended(session_id)

    def on_capacity_freed(self) -> None:
        """Called when a connection or a session has been removed. For subclasses."""

    @property
    def is_idle(self) -> bool:
        """Whether no client is connected."""
        return not (self.sessions or self.gateways or self.handshakes or self.responses)

    def all_connections(self) -> Sequence[ServedConnection]:
        """Return all sessions, gateways, handshakes and ending connections."""
        admitted = (*self.sessions.values(), *self.gateways)
        # A session whose application still ends may have sent its response.
        return [*dict.fromkeys((*admitted, *self.handshakes, *self.responses))]

    # Control

    @property
    def control(self) -> ControlHost:
        """Control of the sessions of this process, loaded on first use."""
        if self._control is None:
            self._control = self._load_control(self)
        return self._control

    @property
    def worker_number(self) -> int:
        """Number of this worker within its server. For subclasses."""
        return 0

    def supports_control(self) -> bool:
        """Return True if clients can reach a control socket. For subclasses."""
        return False

    def spares(self) -> list[dict[str, str | int]]:
        """Return the fields of processes that wait for a session. For subclasses."""
        return []

    @property
    def rejects_sessions(self) -> bool:
        """Whether a drain rejects all new sessions. For subclasses."""
        return False

    def set_draining(self, draining: bool) -> bool | None:
        """Reject new sessions, or admit them again. For subclasses.

        Returns:
            True if new sessions are rejected now. None if that cannot be set.
        """
        return None

    def control_path(self, session_id: str, secret: str) -> str | None:
        """Return the path of the control socket of a session, if there is one."""
        return None

    def log_internal_error(
        self, error: Exception, session: str = "", user: str = "", *, part: str = ""
    ) -> None:
        """Log the traceback of an internal error.

        Args:
            error: the error.
            session: id of the session that met the error.
            user: name of the session's client, if it is known.
            part: the part of the program, for an error outside of a session.
        """
        import traceback

        from chimirror.log.records import session_name
        from chimirror.text import escape_name

        user = escape_name(user)
        place = session_name(session, user) if session else part
        summary = traceback.format_exception_only(error)[-1].strip()
        fields = {"session": session} if session else {}
        if user:
            fields["user"] = user
        detail = "".join(traceback.format_exception(error))
        text = f"internal error in {place}: {summary}"
        self.event_log.message(3, text, **fields, detail=detail)


def new_session_id() -> str:
    """Return 128 random bits in hexadecimal, the form of systemd's INVOCATION_ID."""
    return os.urandom(16).hex()
