"""The way into a session: a request is judged, admitted or refused, and answered.

In this order: PROXY header, request head, policy, limits; then the session begins, and
nothing has been started for a request that could still be refused. What a request may
be is `wire`'s matter; who has room, the service's. It is let go of with its answer.
"""

from __future__ import annotations

from chimirror.connection import CONNECTING
from chimirror.service import Peer
from chimirror.wire import http
from chimirror.wire.handshake import CONTROL
from chimirror.wire.opening import Opening

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from chimirror.apps import App
    from chimirror.connection import Connection
    from chimirror.console import Shown
    from chimirror.service import Service
    from chimirror.wire.publication import Publication
    from chimirror.wire.visit import Page, Visit

    class Owner(Protocol):
        """Whose request it is, and who is told that it is in order."""

        peer: Peer

        @property
        def connection(self) -> Connection: ...

        def on_admitted(self, app: App, opening: Opening) -> None: ...

        def on_control(self, opening: Opening, early: bytes) -> None: ...

        def on_fault(self, error: Exception) -> None: ...


class Reception:
    """One request, from its first byte to its answer.

    Args:
        service: what all sessions of this process share.
        owner: told when the request is in order and there is room; it has the peer.
    """

    __slots__ = ("_counted", "_head", "_owner", "_proxied", "_service")

    def __init__(self, service: Service, owner: Owner) -> None:
        self._service = service
        self._owner = owner
        self._head = b""
        self._proxied = not service.config.proxy_protocol
        self._counted = True  # by the owner, among the handshakes in flight

    def on_head(self, data: bytes) -> None:
        """More of the request head, or of the PROXY header before it."""
        self._head += data
        try:
            if self._proxied or self._read_proxy_header():
                self._read_request()
        except http.Refusal as refusal:
            self.refuse(refusal)

    def _read_proxy_header(self) -> bool:
        """Take the peer from the PROXY header; whether it is complete."""
        from chimirror.wire import proxy

        parsed = proxy.parse(self._head)
        if parsed is None:
            return False
        source, length = parsed
        if source is not None:
            self._owner.peer = Peer(*source)
        self._head = self._head[length:]
        self._proxied = True
        return True

    def _read_request(self) -> None:
        peer, app = self._owner.peer, self._service.apps.find(self._head)
        found = app.openings.read(self._head, peer.address, peer.port)
        if isinstance(found, Opening) and found.framing == CONTROL:
            self._let_steer(found)
        elif isinstance(found, Opening):
            self._admit(app, found)
        elif found is not None:
            self._show(found, app)

    def _show(self, visit: Visit, app: App) -> None:
        """It is somebody who just looks."""
        from chimirror import exhibit
        from chimirror.wire.visit import CATALOG

        service = self._service
        if visit.sight == CATALOG:
            self._owner.connection.hold()
            exhibit.Listing(service.loop, visit, service.apps, self).on_timer(0)
            return
        self._answer(exhibit.exhibit(visit, app, steerable=service.is_steerable()))

    @property
    def is_waiting(self) -> bool:
        """Whether there is still somebody to answer."""
        return self._owner.connection.state == CONNECTING

    def on_listed(self, found: Publication) -> None:
        """The list that was asked for."""
        self._answer(found)

    def on_fault(self, error: Exception) -> None:
        """A bug of ours, or no directory any more."""
        self._owner.on_fault(error)

    def on_timeout(self) -> None:
        """The request head did not come in time."""
        text = "the request did not arrive in time"
        self.refuse(http.Refusal(408, text, cause="slow-head"))

    def _admit(self, app: App, opening: Opening) -> None:
        """The request is in order: ask the limits, then let the session begin."""
        service, owner = self._service, self._owner
        if (opening.peer_address, opening.peer_port) != owner.peer.endpoint:
            owner.peer = Peer(opening.peer_address, opening.peer_port)
        cause = service.admission.enter(owner.peer, app)
        if cause is not None:
            raise service.no_room(cause)
        self._head = self._head[opening.size :]
        owner.on_admitted(app, opening)

    def _let_steer(self, opening: Opening) -> None:
        """It is for another session, where there is a way to it.

        It stays a handshake in flight: whoever it is has still to be proved.
        """
        if not self._service.is_steerable():
            text = "no session of this endpoint can be steered"
            raise http.Refusal(503, text, cause="no-control")
        early, self._head = self._head[opening.size :], b""
        self._owner.on_control(opening, early)

    def on_start_failed(self, reason: str, shortage: bool) -> None:
        """No application: the log says why, the client that it is so."""
        if shortage:
            self.refuse(self._service.no_room("start-shortage"), reason)
        else:
            self._service.records.note(3, f"cannot start the application: {reason}")
            text = "the application could not be started"
            self.refuse(http.Refusal(500, text, cause="start"))

    def refuse(self, refusal: http.Refusal, detail: str = "") -> None:
        """Answer and record it; `detail` is for the record alone."""
        detail = detail or refusal.detail or refusal.text
        self._service.records.refused(
            self._owner.peer.text, refusal.status, refusal.cause, detail
        )
        self._answer(refusal)

    def _answer(self, answer: http.Refusal | Page | Publication | Shown) -> None:
        response = answer.response(head=self._head.startswith(b"HEAD "))
        self.leave()
        self._owner.connection.answer(response)

    def leave(self) -> bytes:
        """One handshake less in flight; what came behind the request."""
        early, self._head = self._head, b""
        if self._counted:
            self._counted = False
            self._service.on_decided()
        return early
