"""Control methods of one session (chimirror-protocol(7)).

The methods are the same for all peers: a local process, a client with a second
WebSocket, the application itself. A controller exists while at least one control peer
is connected. Control never touches the data of a session, except for paused streams.
"""

from __future__ import annotations

from chimirror.control.application_channel import ApplicationChannel
from chimirror.control.output_watcher import output_line
from chimirror.framing.json_framing import SIGNALS
from chimirror.process.children import describe
from chimirror.process.pipes import STDERR, STDIN, STDOUT
from chimirror.protocol import CLOSED_BY_CONTROL
from chimirror.protocol.jsonrpc import (
    BUSY,
    INVALID_PARAMS,
    NOT_AUTHORIZED,
    RPCError,
    UnknownMethod,
    notification,
)
from chimirror.session import summary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chimirror.control.output_watcher import OutputWatcher
    from chimirror.control.peer import ControlPeer
    from chimirror.protocol.jsonrpc import Object, RPCRequest
    from chimirror.session import SessionContext, SessionEntry

# Method of the notification with the variables of a request.
ENVIRONMENT = "session.environment"
MAX_PEERS = 4  # with a secret, and as many trusted ones
STREAMS = {"stdin": STDIN, "stdout": STDOUT, "stderr": STDERR}
MIN_INTERVAL, MAX_INTERVAL = 0.1, 3600.0  # seconds between two notifications
# Fields of summary.summarize that a client must not see, and times of day.
PRIVATE_FIELDS = (
    *("pid", "application_pid", "peer", "command", "started", "updated", "cgroup"),
)


class SessionController:
    """Controller of one session and its control peers.

    Args:
        context: shared by all sessions of this process.
        session: the session to control.
        on_unused: called with the session id when the last peer has disconnected.
    """

    __slots__ = (
        "_application_channel",
        "_context",
        "_on_unused",
        "_watchers",
        "peers",
        "session",
    )

    def __init__(
        self,
        context: SessionContext,
        session: SessionEntry,
        on_unused: Callable[[str], object],
    ) -> None:
        self._context = context
        self.session = session
        self._on_unused = on_unused
        self.peers: set[ControlPeer] = set()
        self._watchers: dict[ControlPeer, OutputWatcher] = {}
        # None if the application has no control channel, or has closed it.
        self._application_channel: ApplicationChannel | None = None

    def open_application_channel(self) -> None:
        """Serve the control channel of the application, if this has not begun yet."""
        fd = self.session.process.detach_control_fd()
        if fd >= 0:
            loop = self._context.loop
            self._application_channel = ApplicationChannel(self, loop, fd)

    def send_environment(self, variables: Mapping[str, str]) -> None:
        """Send the variables of the request to the application, before all else."""
        if self._application_channel is not None:
            line = notification(ENVIRONMENT, dict(variables))
            self._application_channel.write([line])

    def add_peer(self, peer: ControlPeer) -> None:
        """Add a control peer.

        Raises:
            RPCError: the limit of MAX_PEERS is reached.
        """
        if sum(other.trusted == peer.trusted for other in self.peers) >= MAX_PEERS:
            raise RPCError(BUSY, f"{MAX_PEERS} control connections are there already")
        self.peers.add(peer)

    def remove_peer(self, peer: ControlPeer) -> None:
        """Remove a control peer. The controller ends with its last peer."""
        self.peers.discard(peer)
        if self._watchers.pop(peer, None) and not self._watchers:
            self.session.process.output_observer = None
        if peer is self._application_channel:
            self._application_channel = None
        elif self._application_channel is not None:
            self._application_channel.forget(peer)
        if not self.peers and self._application_channel is None:
            self._on_unused(self.session.session_id)

    def end(self) -> None:
        """Disconnect all peers at the end of the session."""
        self._end_watchers()
        for peer in (*self.peers, *filter(None, (self._application_channel,))):
            peer.on_session_ended()

    def on_error(self, error: Exception) -> None:
        """Called with an internal error. Writes it to the log."""
        session = self.session
        self._context.log_internal_error(error, session.session_id, session.user)

    # Output

    def add_watcher(self, peer: ControlPeer, watcher: OutputWatcher, uid: int) -> None:
        """Send output to a peer from now on, and record the user of the peer."""
        self._watchers[peer] = watcher
        self.session.process.output_observer = self.on_output
        session = self.session
        self._context.event_log.output_followed(session.session_id, uid, session.user)

    def on_output(self, stream: str, chunk: bytes) -> None:
        """Called with output of the application. Never affects the session."""
        line = b""
        for peer, watcher in list(self._watchers.items()):
            try:
                if watcher.is_skipping:
                    watcher.skip(len(chunk))
                else:
                    line = line or output_line(stream, chunk)
                    watcher.send(line)
            except Exception as error:  # noqa: BLE001 (ends one control connection)
                peer.on_error(error)

    def _end_watchers(self) -> None:
        """Report the end of the session, with the texts of its last record."""
        self.session.process.output_observer = None
        status = self.session.status
        exit_text = "" if status is None else describe(status)
        ended = {"exit": exit_text, "reason": self.session.reason}
        for watcher in list(self._watchers.values()):
            watcher.finish(notification("ended", ended))

    # Methods

    def has_method(self, method: str) -> bool:
        """Return True for a method of this module."""
        return method in METHODS

    def dispatch(self, call: RPCRequest, peer: ControlPeer) -> None:
        """Perform a request, or forward it to the application.

        Raises:
            RPCError: the method is unknown, or the request is invalid.
        """
        method, channel = METHODS.get(call.method), self._application_channel
        if method is not None:
            call.respond(method(self, call.params_by_name, peer))
        elif call.method == ENVIRONMENT:  # no peer can forge it
            raise UnknownMethod(call.method)
        elif channel is not None and channel is not peer:
            channel.forward(call, peer)
        else:
            raise UnknownMethod(call.method)

    def broadcast(self, call: RPCRequest) -> None:
        """Send a notification of the application to all control peers."""
        line = call.relay()
        for peer in list(self.peers):
            peer.notify(line)

    def status(self) -> Object:
        """Return the status of the session.

        Returns:
            The public fields of summary.summarize. `age` is in seconds. `backlog_in`
            and `backlog_out` are the bytes queued for the application and for the
            client.
        """
        session = self.session
        fields = summary.summarize(self._context, session)
        return {
            **{name: fields[name] for name in fields if name not in PRIVATE_FIELDS},
            "age": round(self._context.loop.now - session.opened_at, 3),
            "backlog_in": session.process.queued_input,
            "backlog_out": session.connection.queued_bytes,
            "paused": self.paused(),
        }

    def paused(self) -> list[str]:
        """Return the names of the paused streams."""
        paused = self.session.process.paused
        return [name for name, bit in STREAMS.items() if paused & bit]


# Methods


def _status(
    controller: SessionController, _params: Object, _peer: ControlPeer
) -> Object:
    return controller.status()


def _pause(controller: SessionController, params: Object, _peer: ControlPeer) -> Object:
    controller.session.process.pause(_streams(params))
    return {"paused": controller.paused()}


def _resume(
    controller: SessionController, params: Object, _peer: ControlPeer
) -> Object:
    controller.session.process.resume(_streams(params))
    return {"paused": controller.paused()}


def _signal(controller: SessionController, params: Object, peer: ControlPeer) -> Object:
    name = params.get("name")
    if name not in SIGNALS:
        raise RPCError(INVALID_PARAMS, f'"name" is none of {", ".join(SIGNALS)}')
    if controller.session.application.config.read_only and not peer.trusted:
        raise RPCError(NOT_AUTHORIZED, "the session is read-only")
    controller.session.process.signal(name)
    return {}


def _close(
    controller: SessionController, _params: Object, _peer: ControlPeer
) -> Object:
    controller.session.close(CLOSED_BY_CONTROL)
    return {}


def _subscribe(
    controller: SessionController, params: Object, peer: ControlPeer
) -> Object:
    interval = params.get("interval", 1.0)
    known = isinstance(interval, (int, float)) and not isinstance(interval, bool)
    if not known or not MIN_INTERVAL <= interval <= MAX_INTERVAL:
        limits = f"from {MIN_INTERVAL} to {MAX_INTERVAL:.0f}"
        text = f'"interval" must be a number of seconds {limits}'
        raise RPCError(INVALID_PARAMS, text)
    peer.subscribe(interval)
    return controller.status()


def _unsubscribe(
    _controller: SessionController, _params: Object, peer: ControlPeer
) -> Object:
    peer.unsubscribe()
    return {}


def _manifest(
    controller: SessionController, _params: Object, _peer: ControlPeer
) -> Object:
    from chimirror.resources.responder import build_manifest

    return build_manifest(controller.session.application)


METHODS: dict[str, Callable[[SessionController, Object, ControlPeer], Object]] = {
    "manifest": _manifest,
    "status": _status,
    "pause": _pause,
    "resume": _resume,
    "signal": _signal,
    "close": _close,
    "subscribe": _subscribe,
    "unsubscribe": _unsubscribe,
}


def _streams(params: Object) -> int:
    """Return the streams of a request as bits. All streams if none is named."""
    names = params.get("streams", list(STREAMS))
    if not isinstance(names, list) or not all(
        isinstance(name, str) and name in STREAMS for name in names
    ):
        raise RPCError(
            INVALID_PARAMS, f'"streams" must be a list of {", ".join(STREAMS)}'
        )
    return sum(STREAMS[name] for name in set(names))
