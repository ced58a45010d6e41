"""Who may open a session here: RFC 6455 4.2, RFC 6454, DNS rebinding, proxies.

Law: one order for every request: method, upgrade and version, Host, application,
Origin, subprotocol; the first that fails is the answer, and nothing of ours has been
started. Where there is no application, there is no upgrade either. Without an Origin
it was no browser that asked, and it passes.
Ignorance: sockets, limits and the application. Field syntax belongs to `http`, what
proxies tell to `forwarded`.
"""

from __future__ import annotations

from chimirror.wire import address, http
from chimirror.wire.http import Refusal
from chimirror.wire.key import is_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from chimirror.wire.http import Request
    from chimirror.wire.visit import Visit

# Instead of a framing: no session, but the control of one.
CONTROL = "control"
_CONTROL_V1 = b"chimirror.control.v1"
_PORTS = {"http": 80, "https": 443}


def _origin(text: str) -> tuple[str, str, int] | None:
    """Split a web origin into scheme, host and port; None if it is another."""
    scheme, _, rest = text.partition("://")
    scheme = scheme.lower()
    place = address.authority(rest)
    if scheme not in _PORTS or place is None:
        return None
    return scheme, place[0], place[1] or _PORTS[scheme]


def _comparable(text: str) -> str:
    """Write an origin so that equal ones are equal strings."""
    origin = _origin(text)
    return text.lower() if origin is None else "{}://{}:{}".format(*origin)


class Policy:
    """What this endpoint allows; built once, from the options.

    Attributes:
        framings: The framings that `chimirror.*` subprotocols may choose, in order.
        subprotocols: Every subprotocol that is served, with its framing.
        hosts: Names that Host may hold beside addresses and `localhost`.
        origins: Origins allowed beside the Host's own.
        trusted: Whether a peer is a proxy whose X-Forwarded-* fields count;
            the address "" is a peer on a Unix socket.
        root: The path of the application, where it has one of its own: `/NAME`.
        missing: What to answer where there is no application, once the Host is ours:
            the arguments of a Refusal.
        console: Whether browsers get a page to talk to applications from.
    """

    __slots__ = (
        "console",
        "framings",
        "hosts",
        "missing",
        "origins",
        "root",
        "subprotocols",
        "trusted",
    )

    def __init__(
        self,
        framings: Iterable[str],
        subprotocols: Mapping[str, str] | None = None,
        hosts: Iterable[str] = (),
        origins: Iterable[str] = (),
        trusted: Callable[[str], bool] | None = None,
        root: str = "",
        missing: Mapping[str, Any] | None = None,
        console: bool = False,
    ) -> None:
        self.framings = tuple(framings)
        self.subprotocols = {
            f"chimirror.{name}.v1".encode(): name for name in self.framings
        }
        for foreign, name in (subprotocols or {}).items():
            self.subprotocols[foreign.encode()] = name
        self.hosts = frozenset([host.lower() for host in hosts])
        self.origins = frozenset([_comparable(origin) for origin in origins])
        self.trusted = trusted
        self.root = root
        self.missing = missing
        self.console = console

    def offer(self) -> str:
        """Name what is served, for texts."""
        return ", ".join([name.decode() for name in self.subprotocols])


class Accept:
    """A request that may have a session.

    Attributes:
        framing: The framing of the session.
        subprotocol: The name to answer with, None if the client offered none.
        scheme: "http" or "https", as the client sees it.
        host: The host it asked for, lower-case; IPv6 in brackets.
        port: The port it asked for, or the scheme's own.
        peer_address: Where it comes from; "" for a Unix socket.
        peer_port: Its port, 0 if unknown.
    """

    __slots__ = (
        "framing",
        "host",
        "peer_address",
        "peer_port",
        "port",
        "request",
        "scheme",
        "subprotocol",
    )

    def __init__(
        self,
        request: Request,
        *,
        framing: str,
        subprotocol: bytes | None,
        scheme: str,
        host: str,
        port: int,
        peer_address: str,
        peer_port: int,
    ) -> None:
        self.request = request
        self.framing = framing
        self.subprotocol = subprotocol
        self.scheme = scheme
        self.host = host
        self.port = port
        self.peer_address = peer_address
        self.peer_port = peer_port


def _upgrade_required(text: str, cause: str) -> Refusal:
    headers = (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))
    return Refusal(426, text, headers, cause=cause)


def _check_method(request: Request) -> None:
    if request.method not in ("GET", "HEAD"):
        text = f"{http.quote(request.method.encode())} is not served here; use GET"
        raise Refusal(405, text, (("Allow", "GET, HEAD"),), cause="method")


def _sight(request: Request, policy: Policy) -> str:
    """What somebody looks at who shows no sign of a WebSocket client; or nothing."""
    if request.method != "HEAD" and (
        b"websocket" in request.tokens(b"upgrade")
        or request.get(b"sec-websocket-key") is not None
    ):
        return ""
    from chimirror.wire import visit

    return visit.sight(request.path, policy)


def _check_upgrade(request: Request) -> None:
    """Refuse what is no opening handshake of version 13."""
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
        raise Refusal(400, text, cause="malformed")


def _check_host(value: bytes, policy: Policy) -> tuple[str, int]:
    """Refuse names that are not ours: a rebound name is somebody else's.

    Returns:
        Host and port as `address.authority` gives them.
    """
    place = address.authority(value.decode("latin-1"))
    if place is None:
        text = f'malformed Host "{http.quote(value)}"'
        raise Refusal(400, text, cause="malformed")
    host = place[0]
    if not (host == "localhost" or host in policy.hosts or address.is_literal(host)):
        shown = http.quote(host.encode())
        text = (
            f'Host "{shown}" is not served here; start with --host {shown} to allow it'
        )
        raise Refusal(403, text, cause="host")
    return place


def _check_origin(
    value: bytes | None, place: tuple[str, int], scheme: str, policy: Policy
) -> None:
    """Refuse the pages of others.

    Args:
        value: The Origin field, if there is one.
        place: Host and port that the request names, port 0 if none.
        scheme: The scheme that a trusted proxy told, "" if nobody did; a Host
            without port has then the default port of the Origin's scheme.
        policy: The policy.
    """
    if value is None:
        return
    text = value.decode("latin-1")
    origin = _origin(text)
    if origin is not None:
        host, port = place
        if origin[1:] == (host, port or _PORTS[scheme or origin[0]]):
            return
    if text == "null":
        reason = "is refused: sandboxed pages and files open no session here"
    elif _comparable(text) in policy.origins:
        return
    else:
        reason = "is not allowed here"
    shown = http.quote(value)
    if origin is not None:
        reason += f"; start with --origin {shown} to allow it"
    raise Refusal(403, f'Origin "{shown}" {reason}', cause="origin")


def _choose(request: Request, policy: Policy) -> tuple[bytes | None, str]:
    """Return the subprotocol to answer with and the framing it stands for."""
    if request.get(b"sec-websocket-protocol") is None:
        return None, policy.framings[0]
    for name in request.elements(b"sec-websocket-protocol"):
        framing = CONTROL if name == _CONTROL_V1 else policy.subprotocols.get(name)
        if framing is not None:
            return name, framing
    text = f"no subprotocol that is served here was offered; ours: {policy.offer()}"
    raise Refusal(400, text, cause="subprotocol")


def judge(
    request: Request, policy: Policy, peer_address: str, peer_port: int
) -> Accept | Visit:
    """Decide about a request.

    Args:
        request: The request.
        policy: What is allowed.
        peer_address: The peer's IP address, "" on a Unix socket.
        peer_port: The peer's port, 0 if unknown.

    Returns:
        The session to open, or what somebody just looks at.

    Raises:
        Refusal: 400, 403, 404, 405, 426 or 500, by the order in this file's law.
    """
    _check_method(request)
    sight = _sight(request, policy)
    if not sight and policy.missing is None:
        _check_upgrade(request)
    asked, scheme = request.get(b"host") or b"", ""
    if policy.trusted is not None and policy.trusted(peer_address):
        from chimirror.wire import forwarded

        told = forwarded.peer(request, policy.trusted)
        peer_address, peer_port = told or (peer_address, peer_port)
        scheme = forwarded.scheme(request)
        asked = forwarded.host(request) or asked
    host, port = place = _check_host(asked, policy)
    if policy.missing is not None and not sight:
        raise Refusal(**policy.missing)
    _check_origin(request.get(b"origin"), place, scheme, policy)
    scheme = scheme or "http"
    if sight:
        from chimirror.wire.visit import Visit

        mark = f":{port}" if port else ""
        url = f"{'wss' if scheme == 'https' else 'ws'}://{host}{mark}"
        return Visit(sight, request, policy, url)
    subprotocol, framing = _choose(request, policy)
    return Accept(
        request,
        framing=framing,
        subprotocol=subprotocol,
        scheme=scheme,
        host=host,
        port=port or _PORTS[scheme],
        peer_address=peer_address,
        peer_port=peer_port,
    )
