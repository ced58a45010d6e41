"""Decides about the opening handshake of a request (RFC 6455, section 4.2, RFC 6454).

Checks every request in one order: method, upgrade and version, Host, application,
Origin, subprotocol. The first failure is the answer, before any process is started. A
request for a missing application needs no upgrade. HTTP/1.0 and OPTIONS, the requests
of health checks, get a text only. A request without Origin does not come from a browser
and passes. The Host check stops DNS rebinding. A plain GET with the field
Chimirror-Subprotocol asks for the verdict alone. Knows no socket, no
limit and no application. `http` reads the fields, `forwarded` those of proxies.
"""

from __future__ import annotations

import binascii

from chimirror.protocol import addresses, http
from chimirror.protocol.http import HTTPError
from chimirror.protocol.policy import (
    DEFAULT_PORTS,
    HandshakePolicy,
    allowing_options,
    parse_origin,
    remove_base,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import sha1

    from chimirror.protocol.http import HTTPRequest
    from chimirror.protocol.routes import ResourceRequest
else:
    try:  # half of hashlib's 3 ms, missing in builds with OpenSSL alone
        from _sha1 import sha1
    except ImportError:
        from hashlib import sha1

# In place of a framing: the request opens a control connection, not a session.
CONTROL = "control"
_CONTROL_V1 = b"chimirror.control.v1"
_SIZE = b"chimirror.size."
_ALIVE = b"chimirror.alive.v1"
_BEARER = b"chimirror.bearer."
# Fields of a check, a plain GET, in place of those of the handshake that failed.
_CHECKED_OFFER = b"chimirror-subprotocol"
_CHECKED_ORIGIN = b"chimirror-origin"


class AcceptedHandshake:
    """A request that passed all checks. Without a key, it asks for their result alone.

    Attributes:
        framing: The framing of the session.
        subprotocol: The name to answer with, None if the client offered none.
        terminal_size: Columns and rows that the client offered, None without them.
        wants_alive: The client asked for messages that show that the server is alive.
        scheme: "http" or "https", on the client's side.
        host: The requested host in lower case, IPv6 in brackets.
        port: The requested port, or the default port of the scheme.
        peer_address: The client's address, "" for a Unix socket.
        peer_port: The client's port, 0 if unknown.
        is_proxied: The request comes from a trusted proxy.
    """

    __slots__ = (
        "framing",
        "host",
        "is_proxied",
        "peer_address",
        "peer_port",
        "port",
        "request",
        "scheme",
        "subprotocol",
        "terminal_size",
        "wants_alive",
    )

    def __init__(
        self,
        request: HTTPRequest,
        *,
        framing: str,
        subprotocol: bytes | None,
        terminal_size: tuple[int, int] | None,
        wants_alive: bool,
        scheme: str,
        host: str,
        port: int,
        peer_address: str,
        peer_port: int,
        is_proxied: bool,
    ) -> None:
        self.is_proxied = is_proxied
        self.request = request
        self.framing = framing
        self.subprotocol = subprotocol
        self.terminal_size = terminal_size
        self.wants_alive = wants_alive
        self.scheme = scheme
        self.host = host
        self.port = port
        self.peer_address = peer_address
        self.peer_port = peer_port


def _upgrade_required(text: str, cause: str) -> HTTPError:
    headers = (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))
    return HTTPError(426, text, headers, cause=cause)


def _check_method(request: HTTPRequest) -> None:
    if request.method not in ("GET", "HEAD", "OPTIONS"):
        method = http.quote(request.method.encode())
        text = f"{method} is not served here; connect with a WebSocket client"
        raise HTTPError(405, text, (("Allow", http.METHODS),), cause="method")


def _match_route(request: HTTPRequest, policy: HandshakePolicy) -> str:
    """Return the route of a plain HTTP request, "" if there is none.

    A GET with any sign of a WebSocket client has no route. Upgrade is no sign with
    HTTP/1.0 (RFC 9110, section 7.8).
    """
    if request.method == "GET" and (
        (b"websocket" in request.tokens(b"upgrade") and not request.is_http10)
        or request.get(b"sec-websocket-key") is not None
    ):
        return ""
    from chimirror.protocol import routes

    return routes.match_route(request, policy)


def _old_version_error() -> HTTPError:
    text = (
        "a WebSocket handshake over HTTP/1.0; a proxy in between has to use "
        "HTTP/1.1 (nginx: proxy_http_version 1.1) and to pass on Upgrade"
    )
    return _upgrade_required(text, "no-upgrade")


def _is_check(request: HTTPRequest) -> bool:
    """Return True for a GET that asks whether a handshake would succeed.

    Raises:
        HTTPError: 426, the handshake would arrive over HTTP/1.0.
    """
    if request.get(_CHECKED_OFFER) is None or request.method != "GET":
        return False
    if request.get(b"sec-websocket-key") is not None or request.get(b"upgrade"):
        return False
    if request.is_http10:
        raise _old_version_error()
    return True


def _check_upgrade(request: HTTPRequest) -> None:
    """Refuse requests other than an opening handshake of version 13."""
    if request.is_http10:
        raise _old_version_error()
    if (
        request.method != "GET"
        or b"websocket" not in request.tokens(b"upgrade")
        or b"upgrade" not in request.tokens(b"connection")
    ):
        text = "only WebSocket is served here; connect with a WebSocket client"
        if request.method == "GET" and request.get(b"sec-websocket-key") is not None:
            text = (
                "a WebSocket handshake without Upgrade: websocket and Connection: "
                "Upgrade; a proxy in between has to pass them on"
            )
        raise _upgrade_required(text, "no-upgrade")
    if request.get_all(b"sec-websocket-version") != [b"13"]:
        raise _upgrade_required("only WebSocket version 13 is served here", "version")
    keys = request.get_all(b"sec-websocket-key")
    if len(keys) != 1 or not is_key(keys[0]):
        text = "exactly one Sec-WebSocket-Key is needed, of 16 bytes in base64"
        raise HTTPError(400, text, cause="malformed")


def _check_host(value: bytes, policy: HandshakePolicy) -> tuple[str, int]:
    """Refuse names that are not served here: DNS rebinding uses foreign names.

    Returns:
        Host and port in the form of `addresses.authority`.
    """
    place = addresses.authority(value.decode("latin-1"))
    if place is None:
        raise http.malformed_host(value)
    host = place[0]
    if not (host == "localhost" or host in policy.hosts or addresses.is_literal(host)):
        shown = http.quote(host.encode())
        text = (
            f'Host "{shown}" is not served here; start with --host {shown} to allow it'
        )
        raise HTTPError(403, text, cause="host")
    return place


def _check_origin(
    value: bytes | None, place: tuple[str, int], scheme: str, policy: HandshakePolicy
) -> None:
    """Refuse requests from pages of other origins.

    Args:
        value: The Origin field, if there is one.
        place: Host and port that the request names, port 0 if none.
        scheme: The scheme of a server with TLS, or from a trusted proxy, "" without
            one. A Host without port then has the default port of the Origin's scheme.
        policy: The policy of the endpoint.
    """
    if value is None:
        return
    text = value.decode("latin-1")
    origin = parse_origin(text)
    if origin is not None:
        host, port = place
        if origin[0] in DEFAULT_PORTS:
            port = port or DEFAULT_PORTS[scheme or origin[0]]
            # Anyone on the network can answer for a page of http.
            is_weaker = scheme == "https" and origin[0] == "http"
            if origin[1:] == (host, port) and not is_weaker:
                return
        if policy.allows_origin(origin):
            return
        reason = f"is not allowed here; {allowing_options(origin)}"
    elif text == "null":
        reason = (
            "is refused, because all sandboxed pages and files have it; serve the "
            "page from an origin of its own, and allow that"
        )
    else:
        reason = "is malformed; a browser sends scheme, name and port alone"
    text = f'Origin "{http.quote(value)}" {reason}'
    detail = f'Origin "{http.quote_place(value)}" {reason}'
    raise HTTPError(403, text, cause="origin", detail=detail)


def _choose(
    request: HTTPRequest, policy: HandshakePolicy, field: bytes
) -> tuple[bytes | None, str, tuple[int, int] | None, bool]:
    """Return the subprotocol to answer with, its framing, the size and wants_alive.

    The last two are no subprotocols: a client that offers them alone offers none.
    """
    if request.get(field) is None:
        return None, policy.framings[0], None, False
    offered, size = request.elements(field), None
    if [name for name in offered if name.startswith(_BEARER)]:
        from chimirror.protocol import bearer

        bearer.take_token(request, field)
        offered = request.elements(field)
        if not offered:
            return None, policy.framings[0], None, False
    wants_alive = _ALIVE in offered
    if wants_alive:
        offered = [name for name in offered if name != _ALIVE]
        if not offered:
            return None, policy.framings[0], None, True
    sizes = [name[len(_SIZE) :] for name in offered if name.startswith(_SIZE)]
    if sizes:
        from chimirror.protocol import terminal_size

        size = terminal_size.parse_sizes(sizes)
        if len(offered) == 1:
            return None, policy.framings[0], size, wants_alive
    for name in offered:
        framing = CONTROL if name == _CONTROL_V1 else policy.subprotocols.get(name)
        if framing is not None:
            return name, framing, size, wants_alive
    text = f"no subprotocol that is served here was offered; ours: {policy.offer()}"
    raise HTTPError(400, text, cause="subprotocol")


def _missing_error(
    request: HTTPRequest, place: tuple[str, int], scheme: str, policy: HandshakePolicy
) -> HTTPError:
    """Return the error for a missing application, with names for who may list them."""
    error = HTTPError(**(policy.missing or {}))
    if policy.describe_missing is None or request.is_http10:
        return error
    try:
        _check_origin(request.get(b"origin"), place, scheme, policy)
    except HTTPError:
        return error
    error.detail = error.text  # the log has the list already
    error.text = policy.describe_missing(request.path)
    return error


def _check_secure(scheme: str) -> str:
    """Check the scheme that a client over TLS names. Returns "https"."""
    if scheme == "http":
        raise HTTPError(
            421, "http:// is not served here, only https://", cause="scheme"
        )
    return "https"


def _own_scheme(policy: HandshakePolicy) -> str:
    return "https" if policy.secure else ""


def negotiate(
    request: HTTPRequest, policy: HandshakePolicy, peer_address: str, peer_port: int
) -> AcceptedHandshake | ResourceRequest:
    """Decide about a request.

    Args:
        request: The request. The base is removed from its path.
        policy: The policy of the endpoint.
        peer_address: The peer's IP address, "" on a Unix socket.
        peer_port: The peer's port, 0 if unknown.

    Returns:
        The handshake of the session to open, or the resource to send.

    Raises:
        HTTPError: 400, 403, 404, 405, 421, 426 or 500, in the order of the checks
            above.
    """
    request.path = remove_base(request.path, policy.base)
    _check_method(request)
    is_check = _is_check(request)
    route = "" if is_check else _match_route(request, policy)
    if not route and policy.missing is None and not is_check:
        _check_upgrade(request)
    host_field, scheme = request.get(b"host"), request.scheme
    is_proxied = policy.trusted is not None and policy.trusted(peer_address)
    if policy.identity_fields and not is_proxied:
        request.remove_fields(policy.identity_fields)
    if is_proxied and policy.trusted is not None:
        from chimirror.protocol import forwarded

        forwarded_peer = forwarded.peer(request, policy.trusted)
        peer_address, peer_port = forwarded_peer or (peer_address, peer_port)
        scheme = forwarded.scheme(request) or scheme or _own_scheme(policy)
        host_field = forwarded.host(request) or host_field
    elif policy.secure:
        scheme = _check_secure(scheme)
    elif scheme == "https":
        # RFC 9110, section 7.4: only a trusted gateway may have received it over TLS.
        text = (
            "https:// is not served without TLS; start with --tls-cert, or name the "
            "proxy that adds TLS by --trusted-proxy"
        )
        raise HTTPError(421, text, cause="scheme")
    # Only a request by HTTP/1.0 may have no Host.
    place = ("", 0) if host_field is None else _check_host(host_field, policy)
    host, port = place
    if policy.missing is not None and not route:
        raise _missing_error(request, place, scheme, policy)
    origin = request.get(b"origin")
    if is_check and origin is None:  # browsers leave it out of a GET of the own origin
        origin = request.get(_CHECKED_ORIGIN)
    _check_origin(origin, place, scheme, policy)
    scheme = scheme or "http"
    subprotocol, framing, size, wants_alive = None, "", None, False
    if not route:
        field = _CHECKED_OFFER if is_check else b"sec-websocket-protocol"
        subprotocol, framing, size, wants_alive = _choose(request, policy, field)
    accepted = AcceptedHandshake(
        request,
        framing=framing,
        subprotocol=subprotocol,
        terminal_size=size,
        wants_alive=wants_alive,
        scheme=scheme,
        host=host,
        port=port or DEFAULT_PORTS[scheme],
        peer_address=peer_address,
        peer_port=peer_port,
        is_proxied=is_proxied,
    )
    if not route:
        return accepted
    from chimirror.protocol.routes import ResourceRequest

    return ResourceRequest(
        route, accepted, policy, _base_url(host, port, scheme, policy)
    )


def _base_url(host: str, port: int, scheme: str, policy: HandshakePolicy) -> str:
    """Return the URL of this server on the client's side, "" without a host."""
    if not host:
        return ""
    port_suffix = f":{port}" if port else ""
    return f"{'wss' if scheme == 'https' else 'ws'}://{host}{port_suffix}{policy.base}"


_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def is_key(value: bytes) -> bool:
    """Tell whether this is a Sec-WebSocket-Key: 16 bytes in base64."""
    try:
        return len(binascii.a2b_base64(value, strict_mode=True)) == 16
    except ValueError:
        return False


def switching_protocols(
    key: bytes, subprotocol: bytes | None, fields: bytes = b""
) -> bytes:
    """Return the 101 response that opens a WebSocket (RFC 6455, section 4.2.2).

    Args:
        key: The Sec-WebSocket-Key of the request.
        subprotocol: The chosen subprotocol, None for none.
        fields: Further field lines, each with its CR LF.
    """
    digest = sha1(key + _GUID).digest()  # noqa: S324 - RFC 6455 prescribes it
    accept = binascii.b2a_base64(digest, newline=False)
    answer = (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %s\r\n" % accept
    )
    if subprotocol is not None:
        answer += b"Sec-WebSocket-Protocol: %s\r\n" % subprotocol
    return answer + fields + b"\r\n"
