"""Asks who the client of a request is, with what its connection and request tell.

Loaded only where a source is set up. The sources are in access/.
"""

from __future__ import annotations

from chimirror.access import Question
from chimirror.access.local_sources import Client
from chimirror.protocol import forwarded
from chimirror.protocol.http import HTTPError, unquote
from chimirror.protocol.policy import add_base
from chimirror.protocol.request_cache import SessionRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from chimirror.access import Identity
    from chimirror.access.access_control import AccessControl, PendingIdentity
    from chimirror.apps import Application
    from chimirror.protocol.http import HTTPRequest
    from chimirror.protocol.routes import CheckedRequest, ResourceRequest
    from chimirror.session import Peer, SessionContext
    from chimirror.session.connection import Connection

# Not for an authorizer: they concern this connection or the response alone, or say what
# only a proxy may say.
_HIDDEN = {b"host", b"connection", b"upgrade", b"forwarded", b"keep-alive"}
_HIDDEN |= {b"transfer-encoding", b"content-length", b"trailer", b"proxy-connection"}
_HIDDEN |= {b"range", b"x-real-ip"}
_HIDDEN_PREFIXES = (
    *(b"sec-websocket-", b"x-forwarded-", b"x-original-", b"remote-", b"chimirror-"),
    b"if-",
)
# Programs behind CGI or WSGI read other characters as `-`: Remote_User would imitate
# Remote-User.
_NAME = b"-0123456789abcdefghijklmnopqrstuvwxyz"


def is_public(request: SessionRequest | ResourceRequest) -> bool:
    """Return True for what tells at most the name and framings of an application."""
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
) -> PendingIdentity | None:
    """Find out who the client is, as `AccessControl.identify` does.

    Args:
        peer: the client, perhaps as a proxy has named it.

    Raises:
        HTTPError: 400, the request means different things to different programs.
    """
    handshake = request.handshake
    assert handshake is not None
    _check(handshake.request)
    is_proxied = handshake.is_proxied or context.config.proxy_protocol
    client = Client(
        handshake.request,
        is_proxied=handshake.is_proxied,
        uid=-1 if is_proxied else peer.uid,
        fd=connection.read_fd,
        certificate=connection.peer_certificate(),
    )
    question = _question(app, handshake)
    return access.identify(client, question, context.source_of(peer), on_decision)


def _check(request: HTTPRequest) -> None:
    """Refuse what a proxy or an authorizer may read in another way.

    A rule for `/shell` would decide about `/admin/../shell`, which opens `admin`.
    """
    if len(request.get_all(b"authorization")) > 1:
        raise HTTPError(400, "more than one Authorization field", cause="malformed")
    parts = unquote(request.path.encode("ascii")).replace(b"\\", b"/").split(b"/")
    if b"." in parts or b".." in parts:
        text = 'the path has a part "." or ".."; write it without'
        raise HTTPError(400, text, cause="malformed")


def _question(app: Application, handshake: CheckedRequest) -> Question:
    request = handshake.request
    fields = [(name, value) for name, value in request.fields if not _is_hidden(name)]
    host = forwarded.host(request) if handshake.is_proxied else None
    host = host or request.get(b"host") or b""
    return Question(
        application=app.name,
        method=request.method,
        target=add_base(request.target, app.policy.base),
        scheme=handshake.scheme,
        host=host.decode("latin-1"),
        address=handshake.peer_address,
        port=handshake.peer_port,
        fields=fields,
    )


def _is_hidden(name: bytes) -> bool:
    return (
        name in _HIDDEN
        or name.startswith(_HIDDEN_PREFIXES)
        or bool(name.translate(None, _NAME))
    )
