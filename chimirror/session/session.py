"""A session joins one client to one new process until either of them ends.

The steps are:
- The request head is checked, then the limits.
- The application is started and the client gets its 101 response.
- Messages become input, and output becomes messages.
- The end of one side ends the other side.
- The end is recorded.

No process is started for a request that could still be rejected. Request checks are in
request_handler, data in relay, frames in connection, processes in process/.
"""

from __future__ import annotations

from chimirror.framing import FramingError, registry
from chimirror.io.loop import NEVER
from chimirror.process.application_process import ENDED, IDLE, ApplicationProcess
from chimirror.process.children import describe, signal_name
from chimirror.process.reaper import SESSION_VARIABLE
from chimirror.protocol import (
    EXIT_SIGNAL,
    EXIT_STATUS,
    EXIT_ZERO,
    IDLE_TIMEOUT,
    INTERNAL_ERROR,
    SESSION_TIMEOUT,
)
from chimirror.session import new_session_id
from chimirror.session.connection import CONNECTING, OPEN, Connection
from chimirror.session.relay import Relay
from chimirror.session.request_handler import RequestHandler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.access import Identity
    from chimirror.apps import Application
    from chimirror.config import Config
    from chimirror.protocol import CloseReason
    from chimirror.protocol.frame_reader import Close
    from chimirror.protocol.http import HTTPError
    from chimirror.protocol.request_cache import SessionRequest
    from chimirror.session import Peer, SessionContext


# What a Session counts as: a handshake, an admitted session, one that was open and
# ends, no session any more, or neither session nor connection.
HANDSHAKE, ADMITTED, ENDING, RELEASED, FINISHED = range(5)


class Session(Relay):
    """One client's session, from its connection to its last record.

    Args:
        context: shared by all sessions of this process.
        peer: address of the client.
        read_fd, write_fd: descriptors of the connection, owned by the session from now
            on.
        session_id: 32 hexadecimal digits.
    """

    __slots__ = (
        "_alive_at",
        "_has_failed",
        "_secret",
        "_request",
        "_request_handler",
        "_stage",
        "_start_usec",
        "_trace",
        "application",
        "identity",
        "opened_at",
        "peer",
        "status",
    )

    def __init__(
        self,
        context: SessionContext,
        peer: Peer,
        read_fd: int,
        write_fd: int,
        session_id: str,
    ) -> None:
        super().__init__(context, session_id)
        self.peer = peer
        self.identity: Identity | None = None  # None: not known, or anonymous
        # None once the request has been answered.
        self._request_handler: RequestHandler | None = RequestHandler(context, self)
        self._stage = HANDSHAKE
        self._has_failed = False
        self._alive_at = NEVER  # time of the next alive message
        self._request: SessionRequest | None = None  # None once the start is recorded
        self._secret: str | bytes = b""  # hashed by the first tick
        self._start_usec = 0  # until the start is recorded
        self._trace = ""  # the TRACEPARENT of the request
        self.opened_at = 0.0
        self.status: int | None = None
        self.application = context.catalog.default  # until the request names another
        loop, config = context.loop, context.config
        self.process = ApplicationProcess(
            self, loop, context.spawner, config, session_id
        )
        if context.certificates is None:
            self.connection = Connection(self, loop, config, read_fd, write_fd)
        else:
            from chimirror.session.tls_connection import TlsConnection

            self.connection = TlsConnection(
                self, loop, config, read_fd, write_fd, context.certificates
            )
        context.on_connected(self)

    @property
    def user(self) -> str:
        """Name of the client, "" if it is not known."""
        return "" if self.identity is None else self.identity.user

    # The request

    def on_head(self, data: bytes) -> None:
        """Called with more of the request head."""
        if self._request_handler is not None:
            self._request_handler.on_data(data)

    def on_head_eof(self) -> None:
        """Called when the client has shut down before the end of its request head."""
        if self._request_handler is not None:
            self._request_handler.on_eof()

    def on_head_timeout(self) -> None:
        """Called when the request head has not arrived in time."""
        if self._request_handler is not None:
            self._request_handler.on_timeout()

    def on_tls_failed(self, error: HTTPError) -> None:
        """Called when the client has not come to an encrypted request."""
        if self._request_handler is not None:
            self._request_handler.reject(error)

    def on_peer_named(self) -> None:
        """Called when a proxy has named the client: `peer` is another one."""
        self._context.on_peer_named(self)

    def on_admitted(self, app: Application, request: SessionRequest) -> None:
        """Called when the request is valid and within limits. Starts the process."""
        self.application, config = app, app.config
        self.connection.config = self.process.stop_timeouts = config
        self._stage = ADMITTED
        self._context.on_session_admitted(self)
        if self._context.metrics is not None:
            self._context.metrics.on_admitted(app.name)
        self._request = request
        self._trace = request.variables.get("TRACEPARENT", "")
        request.variables.update(self.connection.peer_variables())
        if self.identity is not None:
            request.variables.update(self.identity.variables())
        row = registry.FRAMINGS[request.framing]
        limit, max_message = getattr(config, row.limit), config.max_message
        self.framing = row.create(
            limit, max_message, pty=config.pty, multiline=config.multiline
        )
        if config.pty:
            self._use_pty(config)
        stderr = config.stderr or row.default_stderr
        if config.client_direction != "both":
            stderr = self._restrict_direction(config, stderr)
        elif stderr == "log":
            self._logged_streams = ("stderr",)
        self.connection.pause_until_response()
        environment = {**request.variables, **app.environment}
        environment[SESSION_VARIABLE] = self.session_id
        keep_stderr = stderr != "discard" and not config.pty
        size = request.terminal_size
        self.process.start(app.program, environment, keep_stderr, size)

    def _use_pty(self, config: Config) -> None:
        from chimirror.process.pty_process import PtyProcess

        loop, spawner = self._context.loop, self._context.spawner
        self.process = PtyProcess(self, loop, spawner, config, self.session_id)
        self.connection.limit_unsent(self.process.max_queued)

    def _restrict_direction(self, config: Config, stderr: str) -> str:
        """Apply the direction. Returns the destination of standard error."""
        if config.client_direction == "receive":
            from chimirror.framing.receive_only import ReceiveOnlyFraming

            read_only = config.read_only
            self.framing = ReceiveOnlyFraming(self.framing, read_only=read_only)
            if not config.pty:  # the end of input would end the programs on a terminal
                self.process.end_input()
            if stderr == "log":
                self._logged_streams = ("stderr",)
            return stderr
        self._logged_streams = ("stdout", "stderr")
        return config.stderr or "log"

    def on_control(self, request: SessionRequest, early: bytes) -> None:
        """Called for a control request. A gateway takes over the connection."""
        context, request_handler = self._context, self._request_handler
        assert request_handler is not None
        self._request_handler = None
        self._stage = FINISHED
        context.handshakes.discard(self)
        self.process.clear_handler()
        finish, user = request_handler.finish, request_handler.user
        context.control.open_gateway(
            self.connection, self.peer, request, early, finish, user
        )

    def on_response(self) -> None:
        """Called before the request is answered: this is no handshake any more."""
        if self.connection.read_fd >= 0:
            self._context.on_response(self)

    def on_application_failed(self, reason: str, shortage: bool) -> None:
        """Called when the application could not be started."""
        if self._request_handler is not None:
            self._request_handler.on_start_failed(reason, shortage)
        self._finish_if_closed()

    # The open session

    def on_application_started(self) -> None:
        """Called when the process runs. Sends the 101 to a connected client."""
        request, request_handler = self._request, self._request_handler
        if not request or not request_handler or self.connection.state != CONNECTING:
            self.end_application()
            return
        self._request_handler = None
        self.opened_at = self._last_activity = self._context.loop.now
        seconds = self._context.loop.clock() - request_handler.completed_at
        self._start_usec = int(seconds * 1_000_000)
        if self._context.metrics is not None:
            self._context.metrics.on_opened(self.application.name, seconds)
        config = self.application.config
        if config.spares and config.control:  # a spare does not know the request
            self._context.control.send_environment(self, request.variables)
        message = self.framing.session_message(
            self.session_id,
            self._make_secret(),
            config.client_direction,
            read_only=config.read_only,
            timings=self._begin_alive(request, config),
        )
        fields = b""
        if config.session_id_header is not None:
            fields = f"{config.session_id_header}: {self.session_id}\r\n".encode()
        response = request.response(fields) + self._count_message(message)
        connection, early = self.connection, request_handler.finish()
        takes_binary = self.framing.takes_binary
        try:
            connection.open(response, early, takes_binary=takes_binary, hold=True)
            self.process.read_now()  # often sent with the response, in one write
        finally:
            connection.release_output()

    def _begin_alive(
        self, request: SessionRequest, config: Config
    ) -> tuple[float, float] | None:
        """Return the timings for a client that wants alive messages, and plan them.

        A page in a browser cannot see pings.
        """
        interval = config.ping_interval
        if not request.wants_alive or interval is None:
            return None
        if self.framing.alive_message():
            self._alive_at = self.opened_at + interval
        return interval, config.ping_timeout

    def _make_secret(self) -> str:
        """Create the control secret, or return "" where control is not available."""
        context = self._context
        if not self.framing.sends_secret or not context.supports_control():
            return ""
        self._secret = f"{context.worker_number}.{new_session_id()}"
        return self._secret

    def hash_secret(self) -> bytes:
        """Return the hash of the secret, and forget the secret itself.

        Hashing is delayed until after the first byte of output.
        """
        if isinstance(self._secret, str):
            from chimirror.session import session_secret

            self._secret = session_secret.hash_secret(self._secret)
        return self._secret

    def on_control_channel(self) -> None:
        """Called when the application first writes to its control channel."""
        self._context.control.on_control_channel(self)

    # Time

    def next_timeout(self, now: float) -> float:
        """Close an expired session. Otherwise return the time of the next check."""
        self._record_start()
        config = self.application.config
        deadline = NEVER
        if self._alive_at != NEVER:
            self._send_alive(now)
            deadline = self._alive_at
        if config.session_timeout is not None:
            deadline = min(deadline, self.opened_at + config.session_timeout)
            if now >= self.opened_at + config.session_timeout:
                self.close(SESSION_TIMEOUT)
                return NEVER
        if config.idle_timeout is not None and self.connection.state == OPEN:
            deadline = min(deadline, self._last_activity + config.idle_timeout)
            if now >= self._last_activity + config.idle_timeout:
                self.close(IDLE_TIMEOUT)
                return NEVER
        return deadline

    def _send_alive(self, now: float) -> None:
        """Send the message once in a ping interval. Queued output has its effect."""
        interval = self.application.config.ping_interval
        if now < self._alive_at or interval is None:
            return
        self._alive_at = now + interval
        if self.connection.write_buffer is None:
            message = self._count_message(self.framing.alive_message())
            self.connection.send([message])

    # The end of one side ends the other

    def on_application_end(self, status: int) -> None:
        """Called when the application has ended and its output has been read."""
        self.status = status
        self._begin_end()
        if self._output_logger is not None:
            self._output_logger.finish()
        if self.connection.state == OPEN:
            self._send_exit(status)
        self._finish_if_closed()

    def _send_exit(self, status: int) -> None:
        kind = EXIT_SIGNAL if status < 0 else EXIT_STATUS if status else EXIT_ZERO
        reason = self._context.reason_for(status, self.session_id)
        close_reason = kind.with_text(reason)
        try:
            for stream in ("stdout", "stderr"):
                self._send(*self.framing.flush(stream))
            result = (status, None) if status >= 0 else (None, signal_name(-status))
            self.connection.send(
                [self._count_message(self.framing.exit_message(*result))]
            )
        except FramingError as error:
            self._send(*error.sent)
            close_reason = error.full_reason()
        self.reason = self.reason or close_reason.text
        self.connection.close(close_reason.code, close_reason.text, discard=False)

    def on_close(self, event: Close) -> None:
        """Called with a close frame of the client. Replies with its code."""
        if self.connection.state == OPEN:
            self.reason = f"client close {event.code}"
            self.connection.close(event.code, "", discard=True)
            self.end_application()

    def on_peer_closing(self) -> None:
        """Called when the client has shut down. Its last input is still delivered.

        While an authorizer is asked about it, it counts as gone.
        """
        if self._request_handler is not None and self._request_handler.is_identifying:
            self.connection.abort()
            return
        self.process.stop()

    def on_peer_lost(self, reason: str) -> None:
        """Called when the client is lost without a close frame."""
        self.reason = self.reason or reason
        self.end_application()

    def close(self, reason: CloseReason) -> None:
        """Close the session, in any state."""
        self._notify_client(reason)
        self.end_application()

    def _notify_client(self, reason: CloseReason) -> None:
        """Tell the client that it is over."""
        if self._request_handler is not None and self.connection.state == CONNECTING:
            self._request_handler.reject(self._context.termination_error(reason))
        elif self.connection.close(reason.code, reason.text, discard=True):
            self.reason = reason.text

    def abort(self, reason: CloseReason) -> None:
        """Kill the application and disconnect. Writes the close frame once."""
        self._notify_client(reason)
        self.process.kill()  # before it sees the end of its input
        self.end_application()

    def _begin_end(self) -> None:
        """Count an open session as closing, once."""
        if self._stage == ADMITTED and self.opened_at:
            self._stage = ENDING
            if self._context.metrics is not None:
                self._context.metrics.on_closing(self.application.name)

    def end_application(self) -> None:
        self._begin_end()
        # First: afterwards, the end of input has another effect on a terminal.
        self.process.stop()
        self.process.end_input()

    def give_way(self) -> None:
        """Close a silent connection. A request that has arrived is still served."""
        self.connection.read_request()
        if self._stage == HANDSHAKE and self not in self._context.responses:
            self.connection.abort()

    def on_connection_closed(self) -> None:
        """Called when the descriptors of the connection are closed."""
        if self._request_handler is not None:
            self._request_handler.finish()
        self._context.on_connection_closed(self)
        self.end_application()
        self._finish_if_closed()

    def _finish_if_closed(self) -> None:
        """Record the end and release everything, once both sides have ended.

        A session that was answered with an error is released before its connection:
        a client that does not close holds no session.
        """
        context, is_closed = self._context, self.connection.read_fd < 0
        if self._stage == FINISHED or self.process.phase not in (IDLE, ENDED):
            return
        is_admitted = self._stage in (ADMITTED, ENDING)
        if is_admitted and (is_closed or self in context.responses):
            self._begin_end()
            self._stage = RELEASED
            context.admission.release(self.peer, self.application, self.user)
            context.on_session_ended(self.session_id)
            if self.opened_at:
                self._record_start()
                self._record_end()
            elif context.metrics is not None:
                context.metrics.on_failed(self.application.name)
        if not is_closed:
            return
        self._stage = FINISHED
        # Break reference cycles: the oldest GC generation runs only after 25 % growth.
        self._request_handler = None
        self.process.clear_handler()
        self.connection.clear_handler()

    def on_first_line(self) -> None:
        """Called before the first output goes to the log. Its start comes first."""
        if self.opened_at:
            self._record_start()

    def _record_start(self) -> None:
        """Record the start: at the first tick, after the 101 has been sent."""
        request, self._request = self._request, None
        if request is None:
            return
        self._context.event_log.session_started(
            session=self.session_id,
            peer=self.peer.text,
            command=self.application.command,
            application=self.application.name,
            path=request.target.partition("?")[0],  # a query may hold a secret
            origin=request.origin.decode("latin-1"),
            framing=request.framing,
            user=self.user,
            start_usec=self._start_usec,
            trace=self._trace,
        )
        self._start_usec = 0
        self.hash_secret()

    def _record_end(self) -> None:
        context, status = self._context, self.status
        if context.metrics is not None:
            context.metrics.on_ended(self.application.name, self.reason)
        context.event_log.session_ended(
            session=self.session_id,
            peer=self.peer.text,
            command=self.application.command,
            application=self.application.name,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            messages_in=self.messages_in,
            messages_out=self.messages_out,
            exit="" if status is None else describe(status),
            reason=self.reason,
            duration_usec=int((context.loop.clock() - self.opened_at) * 1_000_000),
            user=self.user,
            output=self._output_logger,
            trace=self._trace,
        )

    # Internal errors

    def on_error(self, error: Exception) -> None:
        """Called with an internal error. Only this session ends, with a close frame."""
        self._context.log_internal_error(error, self.session_id, self.user)
        if self._has_failed:  # closing has failed, too
            self.connection.abort()
            self.process.kill()
            return
        self._has_failed = True
        try:
            self.close(INTERNAL_ERROR)
        except Exception as second_error:  # noqa: BLE001 (logged like the first)
            self.on_error(second_error)
