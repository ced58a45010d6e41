"""Relays messages between a client's WebSocket and a control socket.

A client controls a session over a second WebSocket. This WebSocket may reach another
worker, another bridge or the process of the session itself. The first message names the
session and its secret. Each further message is one line (chimirror-protocol(7)). The
control server at the other end of the Unix socket interprets the lines.

The client counts as a handshake until it is authorized, and may send little until then.
Afterwards it counts as a peer of its session, never as a session.
"""

from __future__ import annotations

from chimirror.builtin_modules import socket
from chimirror.control.upstream import UpstreamConnection
from chimirror.host import runtime_dir
from chimirror.io.loop import NEVER
from chimirror.io.write_buffer import HIGH
from chimirror.protocol import (
    AUTHORIZE_FAILED,
    AUTHORIZE_TIMEOUT,
    AUTHORIZE_TOO_BIG,
    CONTROL_OVER,
    CONTROL_TOO_BIG,
    MESSAGE_TOO_BIG,
    NOT_AUTHORIZED,
    jsonrpc,
)
from chimirror.protocol.frame_format import text_header
from chimirror.protocol.frame_reader import Close, FrameError, Ping
from chimirror.protocol.json_text import is_json, to_single_line
from chimirror.session.connection import OPEN, RESPONSE_TIMEOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from chimirror.protocol import CloseReason
    from chimirror.protocol.frame_reader import Event
    from chimirror.protocol.jsonrpc import RPCRequest
    from chimirror.protocol.request_cache import SessionRequest
    from chimirror.session import Peer, SessionContext
    from chimirror.session.connection import Connection

# Seconds. The control socket of a session appears with its first tick. The delay also
# slows down guessing.
AUTHORIZE_DELAY = 1.0
RETRY_INTERVAL = 0.05  # seconds between two attempts
# Bytes of a message before the client is authorized.
MAX_FIRST_MESSAGE = 4096
BUSY_WORKER = "too many control connections; try again later"
_NOT_READY = (FileNotFoundError, ConnectionRefusedError, BlockingIOError)


class ControlGateway:
    """One control WebSocket and its connection to a control socket.

    Args:
        context: shared by all sessions of this process.
        connection: of the client, with the request just read. Owned from now on.
        peer: address of the client.
        finish_handshake: called once the client is authorized or disconnected.
        user: name of the client. None: nobody asks for it.
    """

    __slots__ = (
        "_started",
        "_call",
        "_error",
        "_limit",
        "_upstream",
        "_user",
        "_path",
        "_request_path",
        "_credentials",
        "_finish_handshake",
        "_context",
        "armed",
        "connection",
        "deadline",
        "peer",
    )

    def __init__(
        self,
        context: SessionContext,
        connection: Connection,
        peer: Peer,
        finish_handshake: Callable[[], object],
        user: str | None,
    ) -> None:
        self._context = context
        self._user = user
        # None once the client is authorized or disconnected.
        self._finish_handshake: Callable[[], object] | None = finish_handshake
        self._upstream: UpstreamConnection | None = None
        self._path = ""
        self._request_path = ""
        self._credentials = ("", "")  # session id and secret
        self._call: RPCRequest | None = None  # the first message
        # Error response to the first message, sent after AUTHORIZE_DELAY.
        self._error: jsonrpc.RPCError | None = None
        self._started = context.loop.now
        # The head and the authorization together have one --handshake-timeout.
        limit = self._started + context.config.handshake_timeout
        self._limit = min(limit, connection.deadline)
        self.connection = connection
        self.peer = peer
        self.armed = 0
        self.deadline = NEVER
        context.handshakes.add(self, context.source_of(peer))

    @property
    def _is_authorized(self) -> bool:
        return self._finish_handshake is None

    def start(self, request: SessionRequest, early: bytes) -> None:
        """Send the 101 response and serve the frames that followed the request."""
        self._request_path = request.target.partition("?")[0]
        self.connection.set_handler(self)
        self.connection.open(request.response(), early, MAX_FIRST_MESSAGE)

    # Client to control socket

    def on_frames(self, events: list[Event], size: int) -> None:
        """Called with messages and control frames in their order of arrival.

        During the authorization and during back-pressure the connection holds them.
        """
        ping: Ping | None = None
        for index, event in enumerate(events):
            if self.connection.paused:
                self.connection.put_back(events[index:])
                break
            if isinstance(event, bytes):
                self._on_message(event)
            elif isinstance(event, Ping):
                ping = event  # RFC 6455, 5.5.3: answering the most recent is enough
            elif isinstance(event, Close):
                self._close_with(event.code, "", discard=True)
            elif isinstance(event, FrameError):
                self._on_frame_error(event)
        if ping is not None:
            self.connection.send_pong(ping.payload)

    def _on_frame_error(self, error: FrameError) -> None:
        reason = error.close_reason
        if reason is MESSAGE_TOO_BIG and not self._is_authorized:
            reason = AUTHORIZE_TOO_BIG
        self.close(reason)

    def _on_message(self, message: bytes) -> None:
        if self._is_authorized:
            self._forward(message)
        else:
            jsonrpc.handle_line(message, self._authorize, self._send)
            if self._call is None:
                self.close(NOT_AUTHORIZED, discard=False)

    def _forward(self, message: bytes) -> None:
        if self._upstream is None:
            return
        if len(message) > jsonrpc.MAX_LINE:
            self.close(CONTROL_TOO_BIG)
            return
        if b"\n" in message:
            if not is_json(message):  # a line break may be within a string
                error = jsonrpc.RPCError(jsonrpc.PARSE_ERROR, "not JSON")
                self._send(jsonrpc.failure(error, message))
                return
            message = to_single_line(message)
        self._upstream.write([message, b"\n"])
        if self._upstream.queued_bytes > HIGH:
            self.connection.pause_reading()

    def on_upstream_buffer_low(self) -> None:
        """Called when the upstream buffer is low. Resumes reading from the client."""
        if self._is_authorized:
            self.connection.resume_reading()

    # The first message

    def _authorize(self, call: RPCRequest) -> None:
        """Start the authorization. A second request in a batch is an error."""
        if self._call is not None:
            raise jsonrpc.RPCError(
                jsonrpc.INVALID_REQUEST, "a connection authorizes once"
            )
        self._call = call
        self._started = self._context.loop.now
        self.connection.pause_reading()
        credentials = _parse_credentials(call)
        path = (
            self._context.control_path(*credentials)
            if credentials is not None
            else None
        )
        if credentials is not None:
            self._credentials = credentials
        if path is None:
            self._fail(jsonrpc.NOT_AUTHORIZED, jsonrpc.WRONG_SESSION)
            return
        self._path = path
        self._connect()

    def _connect(self) -> None:
        loop = self._context.loop
        handle = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        handle.setblocking(False)
        try:
            with runtime_dir.SavedGroup():
                handle.connect(self._path)
        except OSError as error:
            handle.close()
            if (
                isinstance(error, _NOT_READY)
                and loop.now < self._started + AUTHORIZE_DELAY
            ):
                loop.set_timer(self, loop.now + RETRY_INTERVAL)
            elif isinstance(error, BlockingIOError):  # its queue of connections is full
                self._fail(jsonrpc.BUSY, BUSY_WORKER)
            else:
                self._fail(jsonrpc.NOT_AUTHORIZED, jsonrpc.WRONG_SESSION)
            return
        self._upstream = UpstreamConnection(self, loop, handle.detach())
        # Build a new request: the control server trusts the user of this process, so it
        # must get only the parsed fields.
        session_id, secret = self._credentials
        params = {"session": session_id, "secret": secret}
        if self._user is not None:
            params["user"] = self._user
        request = {"jsonrpc": "2.0", "id": 0, "method": "authorize", "params": params}
        self._upstream.write([jsonrpc.encode(request), b"\n"])

    def _fail(self, code: int, text: str) -> None:
        """Refuse the client, but only after AUTHORIZE_DELAY."""
        self._close_upstream()
        self._error = jsonrpc.RPCError(code, text)
        self._context.loop.set_timer(self, self._started + AUTHORIZE_DELAY)

    def on_timer(self, now: float) -> None:
        """Called to retry the connection, or to send the delayed error response."""
        error, call = self._error, self._call
        if error is None or call is None:
            self._connect()
            return
        call.respond_error(error)
        text = str(error)
        self._context.record_refusal(
            self.peer.text,
            self._request_path,
            403,
            "control",
            self._describe(text),
            self._user or "",
        )
        self.close(AUTHORIZE_FAILED.with_text(text), discard=False)

    def _describe(self, text: str) -> str:
        """Add the session that the client has named, which may not exist."""
        from chimirror.text import short_id

        session = self._credentials[0]
        return f"session {short_id(session)}: {text}" if session else text

    # Control socket to client

    def on_upstream_line(self, line: bytes) -> None:
        """Called with a response or notification. The first answers `authorize`."""
        if not self._is_authorized:
            self._on_authorize_response(line)
            return
        self.connection.send([text_header(len(line)), line])
        if self.connection.queued_bytes > HIGH and self._upstream is not None:
            self._upstream.pause_reading()

    def _on_authorize_response(self, line: bytes) -> None:
        answer, call = jsonrpc.split(line), self._call
        assert isinstance(answer, dict)
        assert call is not None
        if (error := jsonrpc.read_error(answer)) is not None:
            self._fail(error.code, str(error))
            return
        if not self._context.has_gateway_room():
            self._fail(jsonrpc.BUSY, BUSY_WORKER)
            return
        self._end_handshake()
        self._limit = NEVER
        self._context.on_gateway_authorized(self)
        self.connection.set_max_message(self._context.config.max_message)
        call.forward_response(answer)
        self.connection.resume_reading()

    def on_output_buffer_low(self) -> None:
        """Called when queued output is low. Resumes reading from the control socket."""
        if self._upstream is not None:
            self._upstream.resume_reading()

    def on_upstream_lost(self) -> None:
        """Called when the control server has disconnected, usually with the session."""
        self._close_upstream()
        if self._is_authorized:
            self.close(CONTROL_OVER, discard=False)
        elif self._error is None:
            self._fail(jsonrpc.NOT_AUTHORIZED, jsonrpc.WRONG_SESSION)

    def _send(self, line: bytes) -> None:
        message = line.rstrip(b"\n")
        self.connection.send([text_header(len(message)), message])

    # Time

    def next_timeout(self, now: float) -> float:
        """End a client that has not authorized, or not closed, in time.

        Returns:
            The time at which this is due, or NEVER.
        """
        if now < self._limit:
            return self._limit
        if self.connection.state == OPEN:
            self.on_head_timeout()
        else:
            self.connection.abort()
        return NEVER

    # Closing

    def close(self, reason: CloseReason, *, discard: bool = True) -> None:
        """Close both connections, with a close frame for the client."""
        self._close_with(reason.code, reason.text, discard=discard)

    def _close_with(self, code: int, text: str, *, discard: bool) -> None:
        self._close_upstream()
        if self.connection.read_fd >= 0:  # it ends like a refusal
            self._end_handshake()
            self._limit = self._context.loop.now + RESPONSE_TIMEOUT
            self._context.on_response(self)
        self.connection.close(code, text, discard=discard)

    def abort(self, reason: CloseReason) -> None:
        """Close: no process belongs to this connection."""
        self.close(reason)

    def give_way(self) -> None:
        """Close a connection that has not authorized."""
        self.connection.abort()

    def on_peer_closing(self) -> None:
        """Called when the client has shut down. Its last requests are not served."""
        self.connection.abort()

    def on_peer_lost(self, reason: str) -> None:
        """Called when the client is lost without a close frame."""
        self._close_upstream()

    def on_connection_closed(self) -> None:
        """Called when the client's descriptors are closed. Releases everything."""
        self._close_upstream()
        self._end_handshake()
        self._context.loop.cancel_timer(self)
        self._context.on_connection_closed(self)
        self.connection.clear_handler()

    def _close_upstream(self) -> None:
        line, self._upstream = self._upstream, None
        if line is not None:
            line.abort()

    def _end_handshake(self) -> None:
        finish, self._finish_handshake = self._finish_handshake, None
        if finish is not None:
            finish()

    def on_error(self, error: Exception) -> None:
        """Called with an internal error. Closes only this control connection."""
        session = self._credentials[0] if self._is_authorized else ""
        part = "a control connection"
        self._context.log_internal_error(error, session, self._user or "", part=part)
        self.connection.abort()

    def on_head(self, data: bytes) -> None:
        """Do nothing: the request head is complete."""

    def on_head_eof(self) -> None:
        """Do nothing: the request head is complete."""

    def on_head_timeout(self) -> None:
        """Called when the client has not authorized in time."""
        self.close(AUTHORIZE_TIMEOUT)


def _parse_credentials(call: RPCRequest) -> tuple[str, str] | None:
    """Return session id and secret of an `authorize` request, or None."""
    if call.method != "authorize" or not isinstance(call.params, dict):
        return None
    session_id, secret = call.params.get("session"), call.params.get("secret")
    if isinstance(session_id, str) and isinstance(secret, str):
        return session_id, secret
    return None
