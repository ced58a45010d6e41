"""One client of a control socket: authorization and requests.

The protocol is JSON-RPC 2.0 with one message per line (chimirror-protocol(7)). The
first request is `authorize`, which makes the client a control peer of one session. Root
and the user of this process need no secret. They may also list and close all sessions,
and follow the output of one with `attach`.

Guarantees: no request, flood or disconnect affects the data of a session.
"""

from __future__ import annotations

from itertools import islice

from chimirror.control.output_watcher import OutputWatcher
from chimirror.control.peer import ControlPeer
from chimirror.protocol import CLOSED_BY_OPERATOR, DRAIN, KILLED_BY_OPERATOR
from chimirror.protocol.jsonrpc import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    MAX_LINE,
    NOT_AUTHORIZED,
    WRONG_SESSION,
    RPCError,
    UnknownMethod,
    failure,
    handle_line,
)
from chimirror.session import summary
from chimirror.session.session_secret import verify_secret

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol

    from chimirror.control.peer import Controller
    from chimirror.protocol.jsonrpc import Object, RPCRequest
    from chimirror.session import SessionContext, SessionEntry

    class ControlOwner(Protocol):
        """Control server that accepted a connection."""

        context: SessionContext

        @property
        def controller_for(self) -> Callable[[SessionEntry], Controller]: ...

        def on_authorized(self, connection: ControlConnection) -> None: ...

        def on_disconnected(self, connection: ControlConnection) -> None: ...

        def on_error(self, error: Exception) -> None: ...


# Bytes of a line of a client that is not trusted and has not authorized.
MAX_FIRST_LINE = 4096
PAGE_SIZE = 1000  # sessions in one response: 10 ms of work
FINISH_TIMEOUT = 1.0  # seconds for the last output of a session to leave


class ControlConnection(ControlPeer):
    """One local client of a control server.

    Args:
        owner: control server that accepted the client.
        fd: non-blocking socket, owned by the object from now on.
        uid: user of the client.
        trusted: the client runs as root or as the user of this process.

    Attributes:
        is_finishing: the session has ended, and its last output is still queued.
    """

    __slots__ = ("_listing", "_owner", "_refused", "_uid", "_watcher", "is_finishing")

    def __init__(
        self, owner: ControlOwner, fd: int, *, uid: int, trusted: bool
    ) -> None:
        loop, config = owner.context.loop, owner.context.config
        super().__init__(loop, fd, trusted=trusted)
        self._owner = owner
        self._listing: Iterator[SessionEntry] = iter(())
        self._refused = False  # disconnect after the response
        self._uid = uid
        self._watcher: OutputWatcher | None = None
        self.is_finishing = False
        if not trusted:
            self._max_line = MAX_FIRST_LINE
            loop.set_timer(self, loop.now + config.handshake_timeout)

    def on_line(self, line: bytes) -> None:
        """Called with one request or batch."""
        if self.is_finishing:
            return
        handle_line(line, self._perform, self.send_reply)
        if self._refused:
            self.disconnect()

    def on_line_too_long(self, begin: bytes, limit: int) -> None:
        """Called when a line exceeds its limit. Answers it and disconnects."""
        error = RPCError(INVALID_REQUEST, f"a line is longer than {limit} bytes")
        self.send_reply(failure(error, begin))
        self.disconnect()

    def on_timer(self, now: float) -> None:
        """Disconnect a client that has not authorized within --handshake-timeout."""
        if self.controller is None:
            self.disconnect()
        else:
            super().on_timer(now)

    def on_disconnected(self) -> None:
        """Called when this client is disconnected."""
        self._owner.on_disconnected(self)

    def on_error(self, error: Exception) -> None:
        """Called with an internal error. Closes only this control connection."""
        handler = self._owner if self.controller is None else self.controller
        self.disconnect()
        handler.on_error(error)

    # Methods

    def _perform(self, call: RPCRequest) -> None:
        if self.controller is not None:
            # Other clients could see output that is meant for the log only.
            if call.method == "attach" and self.trusted:
                call.respond(self._attach(self.controller))
            else:
                self.controller.dispatch(call, self)
        elif call.method == "authorize":
            self._authorize(call)
        elif not self.trusted:
            raise self._refuse(NOT_AUTHORIZED, "begin with authorize")
        elif call.method in METHODS:
            call.respond(METHODS[call.method](self, call.params_by_name))
        else:
            raise UnknownMethod(call.method)

    def _refuse(self, code: int, text: str) -> RPCError:
        """Build the error of the last response before the disconnect."""
        self._refused = True
        return RPCError(code, text)

    def _authorize(self, call: RPCRequest) -> None:
        """Make the client a control peer of one session, given the right secret.

        The error does not tell whether the session exists.
        """
        params = call.params_by_name
        session_id, secret = params.get("session"), params.get("secret")
        session = None
        if isinstance(session_id, str):
            session = self.context.sessions.get(session_id)
        if session is not None and not session.opened_at:
            session = None
        if secret is not None or not self.trusted:
            self.trusted = False
            key = session.hash_secret() if session is not None else b""
            if not isinstance(secret, str) or not verify_secret(secret, key):
                session = None
        # A gateway knows its client as a user, who has own sessions alone.
        if session is not None and params.get("user", session.user) != session.user:
            session = None
        if session is None or self._refused:
            raise self._refuse(NOT_AUTHORIZED, WRONG_SESSION)
        self._add_to(self._owner.controller_for(session))
        call.respond({})

    def _add_to(self, controller: Controller) -> None:
        try:
            controller.add_peer(self)
        except RPCError as error:
            raise self._refuse(error.code, str(error)) from None
        self.controller = controller
        self._max_line = MAX_LINE
        self._owner.on_authorized(self)
        self._loop.cancel_timer(self)

    # Output

    def _attach(self, controller: Controller) -> Object:
        """Follow the output from now on. Returns the status of the session."""
        if self._watcher is None:
            self._watcher = OutputWatcher(self)
            controller.add_watcher(self, self._watcher, self._uid)
        return controller.status()

    def notify(self, line: bytes) -> None:
        """Send a notification, but none to a client that follows the output.

        Otherwise the application could forge output, or the end of its session.
        """
        if self._watcher is None:
            super().notify(line)

    def on_write_buffer_low(self) -> None:
        """Called when queued output is low. Reports output that was skipped."""
        super().on_write_buffer_low()
        if self._watcher is not None:
            self._watcher.on_room()

    def on_session_ended(self) -> None:
        """Called when the session has ended. Sends the last output, and disconnects."""
        if not self.queued_bytes:
            self.disconnect()
            return
        self.is_finishing = True
        self.controller = None
        self.stop_reading()
        self._loop.set_timer(self, self._loop.now + FINISH_TIMEOUT)

    @property
    def context(self) -> SessionContext:
        """Context of the sessions in this process."""
        return self._owner.context

    def page(self, *, more: bool) -> list[SessionEntry]:
        """Return the first page of sessions, or with `more` the next one."""
        if not more:
            self._listing = iter(list(self.context.sessions.values()))
        return list(islice(self._listing, PAGE_SIZE))


# Methods for trusted clients


def _sessions(connection: ControlConnection, params: Object) -> Object:
    """Describe one page of the live sessions. The first one has the spares too."""
    context = connection.context
    page = connection.page(more="more" in params)
    live = [
        session
        for session in page
        if session.session_id in context.sessions and session.opened_at
    ]
    fields = [summary.summarize(context, session) for session in live]
    result: Object = {"sessions": fields, "more": len(page) == PAGE_SIZE}
    if "more" not in params and (spares := context.spares()):
        result["spares"] = spares
    return result


def _close(connection: ControlConnection, params: Object) -> Object:
    chosen = _chosen(connection, params)
    for session in chosen:
        session.close(CLOSED_BY_OPERATOR)
    return {"ids": [session.session_id for session in chosen]}


def _kill(connection: ControlConnection, params: Object) -> Object:
    chosen = _chosen(connection, params)
    for session in chosen:
        session.abort(KILLED_BY_OPERATOR)
    return {"ids": [session.session_id for session in chosen]}


def _chosen(connection: ControlConnection, params: Object) -> list[SessionEntry]:
    """Return the sessions named by "ids". Ignores unknown ids."""
    ids = params.get("ids")
    if not isinstance(ids, list):
        raise RPCError(INVALID_PARAMS, '"ids" must be a list of session ids')
    sessions = connection.context.sessions
    wanted = {each for each in ids if isinstance(each, str)}
    return [sessions[each] for each in wanted if each in sessions]


def _status(connection: ControlConnection, _params: Object) -> Object:
    context = connection.context
    return {"sessions": len(context.sessions), "connecting": context.connecting}


def _drain(connection: ControlConnection, params: Object) -> Object:
    """Reject new sessions of the server. With "now", close those of this process."""
    context = connection.context
    draining = context.set_draining(True)
    if draining is None:
        raise UnknownMethod("drain")
    if params.get("now") is True:
        for session in list(context.sessions.values()):
            session.close(DRAIN)
    return {"draining": draining}


def _undrain(connection: ControlConnection, _params: Object) -> Object:
    """Admit new sessions of the server again."""
    draining = connection.context.set_draining(False)
    if draining is None:
        raise UnknownMethod("undrain")
    return {"draining": draining}


METHODS: dict[str, Callable[[ControlConnection, Object], Object]] = {
    "sessions": _sessions,
    "close": _close,
    "kill": _kill,
    "status": _status,
    "drain": _drain,
    "undrain": _undrain,
}
