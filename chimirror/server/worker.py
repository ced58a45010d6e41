"""A worker of the server: accepts connections and runs sessions in one event loop.

All workers share the listeners and the limit tables, and nothing else. So a worker that
dies takes only its own sessions with it. Knows no other worker.
"""

from __future__ import annotations

from sys import intern

from chimirror import program
from chimirror.apps import cgroup_limits, limit_option
from chimirror.builtin_modules import environ_dict, os, signal, socket
from chimirror.control import ControlRegistry
from chimirror.io.acceptor import Acceptor
from chimirror.io.activation import peer_uid
from chimirror.io.loop import NEVER, FatalErrorHandler
from chimirror.io.pending_connections import PendingConnections
from chimirror.protocol import DRAIN, OUT_OF_MEMORY
from chimirror.protocol.addresses import plain_address
from chimirror.server import free_memory
from chimirror.server.admission import DrainingAdmission, source_key
from chimirror.server.control_socket import WorkerControlSocket
from chimirror.server.evictions import Evictions
from chimirror.server.spares import Spares
from chimirror.session import Peer, SessionContext, new_session_id, session_secret
from chimirror.session.session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from chimirror.apps import Application
    from chimirror.config import Config
    from chimirror.io.listener import Listener
    from chimirror.io.loop import EventLoop
    from chimirror.log.records import EventLog
    from chimirror.server.admission import WorkerAdmission
    from chimirror.server.capacity import Room
    from chimirror.server.retired_spares import TransferringSpawner
    from chimirror.server.session_cgroups import SessionCgroups
    from chimirror.server.spare_table import SpareTable
    from chimirror.session import SessionEntry

# connections per listener and turn, so that sessions are served in between
ACCEPT_BATCH = 16
MAX_STARTING = 512  # admitted sessions whose application does not run yet
CLOSE_TIMEOUT = 1.0  # seconds for clients to read the close frames of an abort
# from the supervisor only: systemd may send SIGTERM to every process of the unit
ABORT = signal.SIGUSR1
# instead of SIGTERM, if no process will accept from the listeners later
DRAIN_AND_REJECT = signal.SIGUSR2
# Signals that a worker handles, or ignores because the supervisor handles them.
_SUPERVISOR_SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
SIGNALS = (signal.SIGTERM, ABORT, DRAIN_AND_REJECT, *_SUPERVISOR_SIGNALS)
# seconds for sessions to end, in addition to the timeouts of their applications
STOP_MARGIN = 5.0


class ProxyPeer(Peer):
    """A peer in front of the client, which it has not named yet."""

    __slots__ = ()


class Worker(SessionContext, FatalErrorHandler):
    """The context of the sessions of one worker, and its accept control.

    Args:
        config: the command line.
        loop: event loop of this process.
        spawner: starts the applications.
        event_log: records of this worker.
        worker_admission: the limits of the whole server.
        number: number of this worker.
        room: numbers of connections that the descriptors of this process allow.
        spare_table: the numbers of spares of all workers.
        control_directory: directory of the control sockets of all workers. None if
            there is no control.
        set_stop_deadline: called with the time by which this worker will have ended.
        cgroups: the cgroups of sessions, or None.

    Attributes:
        accepted_at: time of the last turn in which a client was accepted.
    """

    __slots__ = (
        "_aborting",
        "_acceptor",
        "_cgroups",
        "_draining",
        "_expired",
        "_listeners",
        "_number",
        "_control_directory",
        "_control_socket",
        "_worker_admission",
        "_rejecting",
        "_room",
        "_trusted",
        "_set_stop_deadline",
        "_spare_table",
        "_spares",
        "accepted_at",
        "armed",
        "deadline",
    )
    _acceptor: Acceptor
    _listeners: list[Listener]

    def __init__(
        self,
        config: Config,
        loop: EventLoop,
        spawner: TransferringSpawner,
        event_log: EventLog,
        worker_admission: WorkerAdmission,
        number: int,
        room: Room,
        spare_table: SpareTable,
        control_directory: str | None = None,
        set_stop_deadline: Callable[[float], None] = lambda _: None,
        cgroups: SessionCgroups | None = None,
    ) -> None:
        self._cgroups = cgroups
        catalog = program.open_catalog(config, environ_dict(), self._check_limits)
        self._spares = Spares(self, loop, spawner, spare_table, number)
        self._spare_table = spare_table
        self.accepted_at = NEVER
        super().__init__(
            config,
            catalog,
            loop,
            self._spares,
            lambda: event_log,
            ControlRegistry,
            worker_admission,
        )
        self._worker_admission = worker_admission
        self._number = number
        self._room = room
        self._trusted = catalog.default.policy.trusted
        limit, share = room.pending, room.pending_per_source
        evictions = Evictions(event_log, self.log_internal_error)
        self.handshakes = PendingConnections(limit, share, evictions.on_handshake)
        self.responses = PendingConnections(limit, share, evictions.on_response)
        self._control_directory = control_directory
        self._control_socket: WorkerControlSocket | None = None
        if control_directory is not None:
            self._control_socket = WorkerControlSocket(self, control_directory, number)
        self._set_stop_deadline = set_stop_deadline
        self._draining = self._expired = self._aborting = False
        self._rejecting = False  # new clients get a 503 during the drain
        self.armed = 0
        self.deadline = NEVER
        loop.add_signal_handler(signal.SIGTERM, self.drain)
        loop.add_signal_handler(ABORT, self.abort)
        loop.add_signal_handler(DRAIN_AND_REJECT, self.drain_and_reject)
        for ignored in (signal.SIGINT, signal.SIGHUP):  # the supervisor handles them
            loop.add_signal_handler(ignored, lambda: None)

    def serve(self, listeners: list[Listener]) -> None:
        """Accept connections and run sessions until drained."""
        self._listeners = listeners
        listen_fds = [listener.fd for listener in listeners]
        self._acceptor = Acceptor(self.loop, listen_fds, self, batch=ACCEPT_BATCH)
        self.supports_control()  # opens the socket, for chimirror-ctl
        self._update_accepting()
        self._spares.begin()
        self.loop.run()
        while self._rejecting and self._accept_last():
            self.loop.running = True
            self.loop.run()
        if self._control_socket is not None:
            self._control_socket.close()

    def _accept_last(self) -> bool:
        """Accept the connections that were queued since the last session ended.

        Shrinks the accept backlog if no worker has a session any more. Otherwise
        another worker accepts the clients that come later.

        Returns:
            True if any connection was accepted.
        """
        if not self._worker_admission.sessions:
            self._acceptor.shrink_backlog()
        self._acceptor.accept_queued()
        return not self.is_idle

    # Control

    @property
    def worker_number(self) -> int:
        """The number of this worker within the server."""
        return self._number

    def supports_control(self) -> bool:
        """Return True if clients can reach the control sockets of the workers."""
        return self._control_socket is not None and self._control_socket.is_reachable()

    def control_path(self, session_id: str, secret: str) -> str | None:
        """Return the control socket of the worker that made this secret.

        The secret contains the number of the worker, which may be this one. Returns
        None if there is no such number.
        """
        number = session_secret.worker_number(secret)
        return None if number < 0 else f"{self._control_directory}/{number}"

    # Accepting

    def on_connection(self, fd: int, address: object) -> None:
        """Called when a client has connected. Starts a session."""
        self.accepted_at = self.loop.now
        try:
            os.set_blocking(fd, False)
            peer = self._peer_of(fd, address)
            session = Session(self, peer, fd, fd, new_session_id())
        except Exception:
            os.close(fd)
            raise
        session.connection.start()

    def _peer_of(self, fd: int, address: object) -> Peer:
        """Return the peer of a new connection.

        A PROXY header, or a trusted proxy, will name the client later.
        """
        if isinstance(address, tuple):
            # All sessions of an address share one string: behind a proxy, all sessions.
            peer = self.peer_at(intern(plain_address(address[0])), address[1])
        else:
            handle = socket.socket(-1, -1, -1, fd)
            try:
                peer = self.peer_at("", 0, peer_uid(handle))
            finally:
                handle.detach()
        if self.config.proxy_protocol:
            return ProxyPeer(peer.address, peer.port, peer.uid)
        return peer

    def peer_at(self, address: str, port: int, uid: int = -1) -> Peer:
        """Return the peer at an address. A trusted proxy names the client later."""
        is_proxy = self._trusted is not None and self._trusted(address)
        return (ProxyPeer if is_proxy else Peer)(address, port, uid)

    def source_of(self, peer: Peer) -> bytes | None:
        """Return the key of a source, None for a proxy that has named no client."""
        if isinstance(peer, ProxyPeer):
            return None
        return source_key(peer.address, peer.uid)

    # Room

    def _update_accepting(self) -> None:
        """Poll the listeners while there is room for one more session.

        Otherwise another worker accepts. Handshakes never stop the accept loop: the
        oldest gives way. Starts do, because clients cannot prolong them.
        """
        starting = self.connecting - len(self.handshakes)
        room = (
            (self._rejecting or not self._draining)
            and len(self.sessions) < self._room.sessions
            and starting < MAX_STARTING
        )
        self._acceptor.enable(room)

    def on_handshake_finished(self) -> None:
        """Called when a handshake has ended, or an application has been started."""
        super().on_handshake_finished()
        if not self._acceptor.open:
            self._update_accepting()

    def admit(self, peer: Peer, app: Application, user: str) -> str | None:
        """Count one session, or return the name of the limit that forbids it."""
        if not self._room.has_session(len(self.sessions), len(self.gateways)):
            return "max-sessions"
        return super().admit(peer, app, user)

    def on_session_admitted(self, session: SessionEntry) -> None:
        """Called when a handshake has become a session. It may get a spare."""
        self._spares.reserve(session)
        super().on_session_admitted(session)
        self._update_accepting()
        if self._spares.count and not self._have_room(0):
            self._spares.evict()

    def on_session_ended(self, session_id: str) -> None:
        """Called when both sides of a session have ended. Removes the session."""
        self._spares.on_session_ended(session_id)
        super().on_session_ended(session_id)

    # Spares

    def has_spare_room(self) -> bool:
        """Return True if one more spare is within the limits of this worker."""
        return self._have_room(1) and self.has_free_memory()

    def _have_room(self, more: int) -> bool:
        """Return True if descriptors and processes allow these further spares."""
        table, own = self._spare_table, len(self.sessions) + self._spares.count
        processes = self._worker_admission.sessions + table.total() + more
        return processes <= table.max_processes and self._room.has_session(
            own + more - 1, len(self.gateways)
        )

    def has_free_memory(self) -> bool:
        """Return True if there is memory for one more spare."""
        return free_memory.is_available()

    def on_spare_ended(self) -> None:
        """Called when a retired spare has ended, or a start has failed."""
        self._stop_if_idle()

    def spares(self) -> list[dict[str, str | int]]:
        """Return the fields of the spares that wait for a client."""
        return self._spares.summarize()

    def has_gateway_room(self) -> bool:
        """Return True if the descriptors allow one more control connection."""
        own = len(self.sessions) + self._spares.count
        return self._room.has_control(own, len(self.gateways))

    def on_accept_failed(self, error: Exception, shortage: bool) -> None:
        """Called when accepting pauses. Writes a warning.

        Neither an internal error nor a broken listener ends the accept loop.
        """
        self.event_log.message(4, f"cannot accept connections just now: {error}")

    # Limits of each session

    def _check_limits(self, config: Config) -> None:
        """Check that the limits of an application file can be enforced.

        Raises:
            ValueError: They cannot. The text begins with an option.
        """
        limits = cgroup_limits(config)
        if limits and self._cgroups is None:
            raise ValueError(
                f"{limit_option(next(iter(limits)))}: sessions of this server have no "
                "cgroup; start it in a unit with Delegate=yes, or with "
                "--session-cgroup on"
            )
        if self._cgroups is not None:
            self._cgroups.enable(limits)

    def reason_for(self, status: int, session_id: str) -> str:
        """Return the close reason for the end of an application.

        `session_cgroups` has looked at its group just before.
        """
        cgroups = self._cgroups
        ended = cgroups.out_of_memory if cgroups is not None else ""
        if status == -signal.SIGKILL and ended == session_id:
            return OUT_OF_MEMORY.text
        return super().reason_for(status, session_id)

    def cgroup_of(self, session_id: str) -> str:
        """Return the cgroup that counts only this session, if it has limits."""
        return "" if self._cgroups is None else self._cgroups.limited_path(session_id)

    # Draining

    @property
    def rejects_sessions(self) -> bool:
        """Whether a drain rejects all new sessions."""
        return self._rejecting or self._worker_admission.draining

    def set_draining(self, draining: bool) -> bool:
        """Reject new sessions of all workers, or admit them again.

        The listeners stay open. Workers that are forked later do the same.

        Returns:
            True if new sessions are rejected now: a server that stops admits none.
        """
        if self._worker_admission.set_draining(draining):
            text = "no new sessions until chimirror-ctl undrain"
            self.event_log.message(5, text if draining else "new sessions again")
        self._spares.check_soon()
        return draining or self._draining

    def drain_and_reject(self) -> None:
        """Drain, and reject new clients with a 503 meanwhile.

        Called when no other process will accept from the listeners later. When they
        are closed, the kernel resets the connections in their queues.
        """
        if not self._draining:
            self._rejecting = True
            self.admission = DrainingAdmission(self.admission)
            self.drain()

    def drain(self) -> None:
        """Stop accepting and let sessions end.

        Sessions that outlast the drain timeout are closed with 1001.
        """
        if self._draining:
            return
        self._draining = True
        if self._rejecting:
            self._update_accepting()
        else:
            self._close_acceptors()
        self.loop.set_timer(self, self.loop.now + self.config.drain_timeout)
        self._spares.drain()
        self._stop_if_idle()

    def _close_acceptors(self) -> None:
        """Close the listeners in this process. New clients are not even rejected."""
        self._rejecting = False
        self._update_accepting()
        self._acceptor.close()
        for listener in self._listeners:
            listener.close()

    def abort(self) -> None:
        """End all sessions at once."""
        self.drain()
        self._close_acceptors()
        self._aborting = True
        for entry in self.all_connections():
            entry.abort(DRAIN)
        self._spares.kill()
        self.loop.set_timer(self, self.loop.now + CLOSE_TIMEOUT)

    def on_timer(self, now: float) -> None:
        """Called when a timeout of the drain is over."""
        if self._aborting:
            for entry in self.all_connections():
                entry.connection.abort()
            self.loop.running = False
        elif self._expired:
            self.abort()
        else:
            self._expire()

    def _expire(self) -> None:
        """Close the sessions that have outlasted the drain timeout."""
        self._expired = True
        self._close_acceptors()
        for entry in self.all_connections():
            entry.close(DRAIN)
        configs = [
            self.config,
            *self._spares.ending_configs,
            *(session.application.config for session in self.sessions.values()),
        ]
        timeout = max(config.stop_grace + config.kill_grace for config in configs)
        deadline = self.loop.now + timeout + STOP_MARGIN
        self._set_stop_deadline(deadline + CLOSE_TIMEOUT)
        self.loop.set_timer(self, deadline)

    def on_capacity_freed(self) -> None:
        """Called at the end of a connection. Accepts again if accepting had stopped."""
        if not self._acceptor.open:
            self._update_accepting()
        self._stop_if_idle()

    def _stop_if_idle(self) -> None:
        if self._draining and self.is_idle and self._spares.is_empty:
            self.loop.running = False
