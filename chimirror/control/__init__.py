"""Layer 6: control of running sessions by JSON-RPC 2.0 (chimirror-protocol(7)).

Modules:
    server: ControlServer, accepts local clients of a control socket.
    connection: ControlConnection, authorizes one client and serves its requests.
    output_watcher: OutputWatcher, copies output to a client as far as it reads.
    peer: ControlPeer, common base of client and application.
    controller: SessionController, methods of one session.
    application_channel: ApplicationChannel, control channel of the application.
    gateway: ControlGateway, relays between a WebSocket and a control socket.
    upstream: UpstreamConnection, a gateway's side of the control socket.

This file holds `ControlRegistry`, which the programs pass to `SessionContext`. It loads
the other modules on first use, since most sessions of a bridge need none of them.

May import session/ and the layers below. Must not import bridge/ and server/.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chimirror.control.controller import SessionController
    from chimirror.control.server import ControlServer
    from chimirror.io.acceptor import ListeningSocket
    from chimirror.protocol.request_cache import SessionRequest
    from chimirror.session import Peer, SessionContext, SessionEntry
    from chimirror.session.connection import Connection


class ControlRegistry:
    """Controllers of the sessions of one process, by session id.

    Implements the ControlHost of session/.

    Args:
        context: shared by all sessions of this process.

    Attributes:
        controllers: one for each session that has a control peer.
    """

    __slots__ = ("_context", "controllers")

    def __init__(self, context: SessionContext) -> None:
        self._context = context
        self.controllers: dict[str, SessionController] = {}

    def listen(self, listener: ListeningSocket) -> ControlServer:
        """Serve a control socket until the returned server is closed."""
        from chimirror.control.server import ControlServer

        return ControlServer(self._context, listener, self.controller_for)

    def open_gateway(
        self,
        connection: Connection,
        peer: Peer,
        request: SessionRequest,
        early: bytes,
        finish_handshake: Callable[[], object],
        user: str | None,
    ) -> None:
        """Serve a control WebSocket. ControlHost describes the arguments."""
        from chimirror.control.gateway import ControlGateway

        gateway = ControlGateway(
            self._context, connection, peer, finish_handshake, user
        )
        gateway.start(request, early)

    def on_control_channel(self, session: SessionEntry) -> None:
        """Called when the application first writes to its control channel."""
        self.controller_for(session)

    def send_environment(
        self, session: SessionEntry, variables: Mapping[str, str]
    ) -> None:
        """Send the variables of the request over the control channel."""
        self.controller_for(session).send_environment(variables)

    def controller_for(self, session: SessionEntry) -> SessionController:
        """Return the controller of a session. Creates the controller if needed."""
        controller = self.controllers.get(session.session_id)
        if controller is None:
            from chimirror.control.controller import SessionController

            controller = SessionController(self._context, session, self._remove)
            self.controllers[session.session_id] = controller
        controller.open_application_channel()
        return controller

    def _remove(self, session_id: str) -> None:
        self.controllers.pop(session_id, None)

    def on_session_ended(self, session_id: str) -> None:
        """Called when a session has ended. Disconnects its control peers."""
        controller = self.controllers.pop(session_id, None)
        if controller is not None:
            controller.end()
