"""Asks who the client of a request is, with what its connection and request tell.

Loaded only where a source is set up. The sources are in access/.
"""

from __future__ import annotations

from chimirror.access import Question
from chimirror.access.local_sources import Client
from chimirror.protocol.request_cache import SessionRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from chimirror.access import Identity
    from chimirror.access.access_control import AccessControl
    from chimirror.access.authorizer import PendingQuestion
    from chimirror.apps import Application
    from chimirror.protocol.http import HTTPError
    from chimirror.protocol.routes import CheckedRequest, ResourceRequest
    from chimirror.session import Peer, SessionContext
    from chimirror.session.connection import Connection

# Not for an authorizer: they concern this connection alone, or say what only a proxy
# may say.
_HIDDEN = {b"host", b"connection", b"upgrade", b"forwarded", b"keep-alive"}
_HIDDEN |= {b"transfer-encoding", b"content-length", b"trailer", b"proxy-connection"}
_HIDDEN_PREFIXES = (
    *(b"sec-websocket-", b"x-forwarded-", b"x-original-", b"remote-", b"chimirror-"),
)


def is_public(request: SessionRequest | ResourceRequest) -> bool:
    """Return True for what is the same in every installation, such as the console."""
    if isinstance(request, SessionRequest):
        return False
    from chimirror.protocol.routes import CATALOG, MANIFEST

    return request.route not in (CATALOG, MANIFEST)


def identify(
    context: SessionContext,
    access: AccessControl,
    connection: Connection,
    peer: Peer,
    app: Application,
    request: SessionRequest | ResourceRequest,
    on_decision: Callable[[Identity | HTTPError | None], None],
) -> PendingQuestion | None:
    """Find out who the client is, as `AccessControl.identify` does.

    Args:
        peer: the client, perhaps as a proxy has named it.
    """
    handshake = request.handshake
    assert handshake is not None
    client = Client(
        handshake.request,
        is_proxied=handshake.is_proxied,
        uid=-1 if handshake.peer_address else peer.uid,
        fd=connection.read_fd,
        certificate=connection.peer_certificate(),
    )
    question = _question(app, handshake)
    return access.identify(client, question, context.source_of(peer), on_decision)


def _question(app: Application, handshake: CheckedRequest) -> Question:
    request = handshake.request
    fields = [
        (name, value)
        for name, value in request.fields
        if name not in _HIDDEN and not name.startswith(_HIDDEN_PREFIXES)
    ]
    host = request.get(b"host") or b""
    return Question(
        application=app.name,
        method=request.method,
        target=request.target,
        scheme=handshake.scheme,
        host=host.decode("latin-1"),
        address=handshake.peer_address,
        port=handshake.peer_port,
        fields=fields,
    )
