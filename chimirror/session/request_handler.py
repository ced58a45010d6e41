"""Handles one request: checks it, then admits, serves or rejects it.

The order is PROXY header, request head, policy, identity, limits. Then the session
begins. No process is started for a request that could still be rejected. The rules of a
request are in protocol/, the limits are in the context's admission. The handler is
released once the response has been sent.
"""

from __future__ import annotations

from chimirror.builtin_modules import environ_dict
from chimirror.protocol import http
from chimirror.protocol.handshake import CONTROL
from chimirror.protocol.request_cache import SessionRequest
from chimirror.session import Peer
from chimirror.session.connection import CONNECTING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from chimirror.access import Identity
    from chimirror.access.access_control import PendingIdentity
    from chimirror.apps import Application
    from chimirror.protocol.routes import ResourceRequest
    from chimirror.resources.json_response import JSONResponse
    from chimirror.resources.static_response import StaticResponse
    from chimirror.resources.text_page import MethodsResponse, PassedCheck, TextPage
    from chimirror.session import SessionContext
    from chimirror.session.connection import Connection

    class RequestOwner(Protocol):
        """Session that received the request."""

        peer: Peer
        session_id: str
        identity: Identity | None

        @property
        def user(self) -> str: ...

        @property
        def connection(self) -> Connection: ...

        def on_peer_named(self) -> None: ...

        def on_admitted(self, app: Application, request: SessionRequest) -> None: ...

        def on_response(self) -> None: ...

        def on_control(self, request: SessionRequest, early: bytes) -> None: ...

        def on_error(self, error: Exception) -> None: ...


class RequestHandler:
    """One request, from its first byte to its response.

    Args:
        context: shared by all sessions of this process.
        owner: holds peer and connection, and is called once the request is admitted.

    Attributes:
        completed_at: time of the turn in which the request was complete.
    """

    __slots__ = (
        "_context",
        "_counted",
        "_has_peer",
        "_head",
        "_next_size",
        "_owner",
        "_question",
        "_waiting",
        "completed_at",
    )

    def __init__(self, context: SessionContext, owner: RequestOwner) -> None:
        self._context = context
        self._owner = owner
        self._head: bytes | bytearray = b""
        self._next_size = 0  # bytes of the head at which it is parsed again
        self._has_peer = not context.config.proxy_protocol
        self.completed_at = 0.0
        self._counted = True  # in context.connecting, by the owner
        # The request whose client is being identified, and the question about it.
        self._waiting: tuple[Application, SessionRequest | ResourceRequest] | None = (
            None
        )
        self._question: PendingIdentity | None = None

    def on_data(self, data: bytes) -> None:
        """Called with more of the request head, or of the PROXY header before it."""
        self._append(data)
        try:
            if self._has_peer:
                if self._is_worth_parsing(data):
                    self._read_request()
            elif self._read_proxy_header():
                self._read_request()
        except http.HTTPError as error:
            self.reject(error)

    def _append(self, data: bytes) -> None:
        head = self._head
        if isinstance(head, bytes):
            self._head = bytearray(head + data) if head else data
        else:
            head += data

    def _is_worth_parsing(self, data: bytes) -> bool:
        """Return True at each line end, and when the head has doubled.

        Parsing at each read would take quadratic time. The number of lines is bounded.
        """
        size = len(self._head)
        if b"\n" not in data and size < self._next_size:
            return False
        self._next_size = min(2 * size, http.MAX_HEAD)
        return True

    def _read_proxy_header(self) -> bool:
        """Set the peer from the PROXY header. Returns True if it is complete."""
        from chimirror.protocol import proxy_protocol

        parsed = proxy_protocol.parse(self._head)
        if parsed is None:
            return False
        source, length = parsed
        if source is not None:
            self._owner.peer = self._context.peer_at(*source)
            self._owner.on_peer_named()
        self._head = bytes(self._head[length:])
        self._has_peer = True
        return True

    def _read_request(self) -> None:
        head = self._head = bytes(self._head)
        peer, app = self._owner.peer, self._context.catalog.find_for_request(head)
        request = app.request_cache.read(head, peer.address, peer.port)
        if request is None:
            return
        self.completed_at = self._context.loop.now
        if isinstance(request, SessionRequest):
            self._set_peer(request.peer_address, request.peer_port)
        if app.policy.needs_identity:
            self._identify(app, request)
        else:
            self._serve(app, request)

    def _serve(
        self, app: Application, request: SessionRequest | ResourceRequest
    ) -> None:
        """Serve a request of a known client, or of any."""
        if not isinstance(request, SessionRequest):
            self._serve_resource(request, app)
        elif not request.key:
            self._answer_check(app, request)
        elif request.framing == CONTROL:
            self._open_control(request)
        else:
            self._admit(app, request)

    # Identity

    def _identify(
        self, app: Application, request: SessionRequest | ResourceRequest
    ) -> None:
        """Find out who the client is, then serve the request, perhaps later.

        Limits that need no user come first, so that nobody is asked in vain.
        """
        from chimirror.session import identification

        access, owner, context = self._context.access, self._owner, self._context
        if access is None or identification.is_public(request):
            self._serve(app, request)
            return
        if request.handshake is not None:
            named = request.handshake
            self._set_peer(named.peer_address, named.peer_port)
        if isinstance(request, SessionRequest) and request.framing != CONTROL:
            self._require_certificate(app)
            cause = context.admission.find_exceeded(owner.peer, app)
            if cause is not None:
                raise context.capacity_error(cause)
        self._waiting = app, request
        self._question = identification.identify(
            context,
            access,
            owner.connection,
            owner.peer,
            app,
            request,
            self._on_decision,
        )
        if self._waiting is not None:
            owner.connection.pause_until_response(notices_end=True)

    @property
    def is_identifying(self) -> bool:
        """Whether an authorizer is being asked who the client is."""
        return self._waiting is not None

    def _on_decision(self, decision: Identity | http.HTTPError | None) -> None:
        """Called with the identity, None for an anonymous client, or a response."""
        waiting, self._waiting, self._question = self._waiting, None, None
        if waiting is None:
            return
        app, request = waiting
        try:
            if isinstance(decision, http.HTTPError):
                raise decision
            self._owner.identity = decision
            if _is_of_application(request):
                self._require_user(app)
            self._serve(app, request)
        except http.HTTPError as error:
            self.reject(error)
        except Exception as error:  # noqa: BLE001 (as in a turn of the loop)
            self._owner.on_error(error)

    def _require_user(self, app: Application) -> None:
        from chimirror.access.access_control import check_application

        config, identity, access = (
            app.config,
            self._owner.identity,
            self._context.access,
        )
        error = check_application(
            identity,
            app.name,
            config.users,
            config.groups,
            () if access is None else access.challenges,
        )
        if error is not None:
            raise error

    def may_use(self, app: Application) -> bool:
        """Return True if the list of applications shows this one to the client."""
        if not app.policy.needs_identity:
            return True
        try:
            self._require_user(app)
        except http.HTTPError:
            return False
        return True

    # Resources

    def _serve_resource(self, request: ResourceRequest, app: Application) -> None:
        """Respond to a plain request."""
        from chimirror.protocol.routes import CATALOG, MANIFEST, METHODS, PAGE, TEXT
        from chimirror.resources import responder

        context = self._context
        if context.rejects_sessions and request.route in (PAGE, TEXT, METHODS):
            # Not recorded: a balancer may ask each second.
            self._send_response(context.capacity_error("drain"))
            return
        if request.route in (MANIFEST, PAGE, TEXT):
            self._require_certificate(app)
        if request.route == CATALOG:
            self._owner.connection.pause_until_response()
            if context.catalog_builder is None:
                context.catalog_builder = responder.CatalogBuilder(
                    context.loop, context.catalog
                )
            context.catalog_builder.add(request, self)
            return
        self._send_response(
            responder.respond(
                request,
                app,
                controllable=context.supports_control(),
                user=self.user,
            )
        )

    @property
    def user(self) -> str | None:
        """The name of the client, "" without one. None: nobody asks for it."""
        if self._context.access is None:
            return None
        identity = self._owner.identity
        return identity.user if identity is not None else ""

    @property
    def is_waiting(self) -> bool:
        """Whether the connection still waits for a response."""
        return self._owner.connection.state == CONNECTING

    def on_catalog(self, catalog: JSONResponse) -> None:
        """Called when the catalog has been built."""
        self._send_response(catalog)

    def on_catalog_failed(self, error: Exception) -> None:
        """Called with an internal error, or if the directory has disappeared."""
        self._owner.on_error(error)

    def on_eof(self) -> None:
        """Called at the end of input. Rejects a head that ends early.

        A connection without a byte gets no response: health checks make such ones.
        """
        if not self._head:
            return
        size = len(self._head)
        text = f"the request ended within its head, after {size} bytes"
        if not self._has_peer:
            text = f"the request ended within its PROXY header, after {size} bytes"
        self.reject(http.HTTPError(400, text, cause="short-head"))

    def on_timeout(self) -> None:
        """Called when the request head has not arrived in time."""
        text = "the request did not arrive in time"
        self.reject(http.HTTPError(408, text, cause="slow-head"))

    def _set_peer(self, address: str, port: int) -> None:
        """Take the address that a trusted proxy named in the head."""
        owner = self._owner
        if (address, port) != owner.peer.endpoint:
            owner.peer = Peer(address, port)

    def _admit(self, app: Application, request: SessionRequest) -> None:
        """Check the limits of a valid request, then begin the session."""
        context, owner = self._context, self._owner
        if app.config.tls_client is not None:
            self._require_certificate(app)
        cause = context.admit(owner.peer, app, owner.user)
        if cause is not None:
            raise context.capacity_error(cause)
        self._head = self._head[request.size :]
        owner.on_admitted(app, request)

    def _answer_check(self, app: Application, request: SessionRequest) -> None:
        """Tell whether a handshake would succeed. Starts and counts nothing.

        Browsers hide the response to a failed handshake, and pages ask by this.
        """
        from chimirror.apps import program_check
        from chimirror.resources.text_page import PassedCheck

        context, owner = self._context, self._owner
        if request.framing == CONTROL:
            self._require_control()
        else:
            self._require_certificate(app)
            cause = context.admission.find_exceeded(owner.peer, app, owner.user)
            if cause is not None:
                # Not recorded: the handshake was, and chimirror-ctl counts records.
                self._send_response(context.capacity_error(cause))
                return
            fault = program_check.find_fault(app, environ_dict().get("PATH"))
            if fault is not None:
                raise _start_error(str(fault))
        self._send_response(PassedCheck())

    def _require_certificate(self, app: Application) -> None:
        """Refuse a client without a certificate, if the application needs one."""
        found = self._owner.connection.peer_variables()
        if (
            app.config.tls_client == "required"
            and found.get("SSL_CLIENT_VERIFY") != "SUCCESS"
        ):
            text = "this application needs a client certificate, and there is none"
            raise http.HTTPError(403, text, cause="client-certificate")

    def _require_control(self) -> None:
        if not self._context.supports_control():
            text = "sessions of this endpoint cannot be controlled"
            raise http.HTTPError(503, text, cause="no-control")

    def _open_control(self, request: SessionRequest) -> None:
        """Open a control connection to another session, where control is supported.

        The connection counts as a handshake in flight until the client is authorized.
        """
        self._require_control()
        early, self._head = bytes(self._head[request.size :]), b""
        self._owner.on_control(request, early)

    def on_start_failed(self, reason: str, shortage: bool) -> None:
        """Called when no process was started. Only the log gets the reason."""
        if shortage:
            self.reject(self._context.capacity_error("start-shortage"), reason)
        else:
            owner = self._owner
            self._context.event_log.start_failed(owner.session_id, reason, owner.user)
            self.reject(_start_error())

    def reject(self, error: http.HTTPError, detail: str = "") -> None:
        """Send an error response and record it. Only the record gets `detail`."""
        detail = detail or error.detail or error.text
        path, owner = path_of(self._head), self._owner
        self._context.record_refusal(
            owner.peer.text, path, error.status, error.cause, detail, owner.user
        )
        self._send_response(error)

    def _send_response(
        self,
        answer: http.HTTPError
        | TextPage
        | MethodsResponse
        | PassedCheck
        | JSONResponse
        | StaticResponse,
    ) -> None:
        response = answer.response(head=self._head.startswith(b"HEAD "))
        self.finish()
        self._owner.on_response()
        self._owner.connection.send_response(response)

    def finish(self) -> bytes:
        """End the handshake. Returns the bytes that followed the request."""
        early, self._head = bytes(self._head), b""
        question, self._question, self._waiting = self._question, None, None
        if question is not None:
            question.cancel()
        if self._counted:
            self._counted = False
            self._context.on_handshake_finished()
        return early


def _is_of_application(request: SessionRequest | ResourceRequest) -> bool:
    """Return False for the list of applications and control connections."""
    if isinstance(request, SessionRequest):
        return request.framing != CONTROL
    from chimirror.protocol.routes import CATALOG

    return request.route != CATALOG


def _start_error(detail: str = "") -> http.HTTPError:
    text = "the application could not be started"
    return http.HTTPError(500, text, cause="start", detail=detail)


def path_of(head: bytes | bytearray) -> bytes:
    """Return the path that a request names, for the log.

    Without user, host and query, which may hold a secret. Empty if the head, which may
    be incomplete or malformed, has no path.
    """
    line = bytes(head[: http.MAX_HEAD]).partition(b"\n")[0]
    target = line.partition(b" ")[2].partition(b" ")[0]
    scheme, _, rest = target.partition(b"://")
    if rest and scheme.isalpha():
        target = b"/" + rest.partition(b"?")[0].partition(b"/")[2]
    path = target.partition(b"?")[0].partition(b"#")[0].rstrip(b"\r")
    return path if path.startswith(b"/") else b""
