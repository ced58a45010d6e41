"""The policy of one endpoint for handshakes: subprotocols, hosts, origins, proxies.

Built from options. `handshake` applies it. Also compares web origins (RFC 6454).
Knows no request.
"""

from __future__ import annotations

from chimirror.protocol import addresses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

DEFAULT_PORTS = {"http": 80, "https": 443}  # of pages
ANY_HOST = "*"  # in --origin: all hosts of a scheme that is not in _WEB_PORTS
_WEB_PORTS = {**DEFAULT_PORTS, "ws": 80, "wss": 443}
_SCHEME = "abcdefghijklmnopqrstuvwxyz0123456789+-."  # RFC 3986, 3.1
_MAX_ORIGIN = 256  # characters: a host name has at most 253


def parse_origin(text: str, *, any_host: bool = False) -> tuple[str, str, int] | None:
    """Split an origin into scheme, host and port. Return None for other texts.

    Equal origins have equal parts. Case, the default port of a scheme and a slash at
    the end make no difference. The port is 0 if there is none. Only schemes of the web
    require a host: a page from a file has the origin `file://`.

    Args:
        text: The origin, from a client or from an option.
        any_host: Read `SCHEME://*` too, whose host is ANY_HOST.
    """
    scheme, separator, rest = text.lower().partition("://")
    is_scheme = scheme[:1].isalpha() and not scheme.strip(_SCHEME)
    if not (separator and text.isascii() and is_scheme) or len(text) > _MAX_ORIGIN:
        return None
    rest = rest.removesuffix("/")
    if scheme not in _WEB_PORTS and (not rest or (any_host and rest == ANY_HOST)):
        return scheme, rest, 0
    place = addresses.authority(rest)
    return place and (scheme, place[0], place[1] or _WEB_PORTS.get(scheme, 0))


def origin_text(origin: tuple[str, str, int]) -> str:
    """Return an origin as browsers send it: without the default port of the scheme."""
    scheme, host, port = origin
    suffix = "" if port == _WEB_PORTS.get(scheme, 0) else f":{port}"
    return f"{scheme}://{host}{suffix}"


def allowing_options(origin: tuple[str, str, int]) -> str:
    """Return what to start with to allow an origin, for error texts."""
    text = f"start with --origin {origin_text(origin)} to allow it"
    if origin[0] in _WEB_PORTS:
        return text
    every = origin_text((origin[0], ANY_HOST, 0))
    return f"{text}, or with --origin '{every}' to allow all of this scheme"


def remove_base(path: str, base: str) -> str:
    """Return a path below the base. A proxy may have removed the base before.

    Args:
        path: The path of a request. The base alone is the base with a slash.
        base: `HandshakePolicy.base`.
    """
    if not base or not path.startswith(base):
        return path
    rest = path[len(base) :]
    return (rest or "/") if rest[:1] in ("", "/") else path


def add_base(target: str, base: str) -> str:
    """Return a request target as the client sent it, with the base."""
    path = target.partition("?")[0]
    return target if remove_base(path, base) != path else base + target


class HandshakePolicy:
    """The settings of an endpoint that decide about requests, built once from options.

    Attributes:
        framings: The framings that `chimirror.*` subprotocols may choose, in order.
        subprotocols: Every subprotocol that is served, with its framing.
        hosts: Names that Host may hold, beside addresses and `localhost`.
        origins: Origins that are allowed beside the Host's own, in the form of
            `parse_origin`.
        trusted: Tells whether a peer is a proxy with trusted X-Forwarded-* fields. The
            address "" is a peer on a Unix socket.
        root: The path of the application, if it has one of its own: `/NAME`.
        missing: The arguments of the HTTPError for a missing application. It is sent
            after the Host check.
        console: Whether browsers get the console page.
        web_client: Whether pages get the client library.
        secure: Whether clients of this server itself come over TLS.
        base: The path of a proxy before all paths of the server: `/term`, "" for none.
        needs_identity: Whether the endpoint asks who its clients are.
        identity_fields: Names of the fields in which a trusted proxy tells that, in
            lower case. They are removed from the requests of others.
        describe_missing: Returns the text of `missing` for a path, with the names that
            exist. It is for clients that may see the list of applications.
    """

    __slots__ = (
        "base",
        "console",
        "describe_missing",
        "framings",
        "hosts",
        "identity_fields",
        "missing",
        "needs_identity",
        "origins",
        "root",
        "secure",
        "subprotocols",
        "trusted",
        "web_client",
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
        web_client: bool = False,
        base: str = "",
        secure: bool = False,
        needs_identity: bool = False,
        identity_fields: Iterable[str] = (),
    ) -> None:
        self.framings = tuple(framings)
        self.subprotocols = {
            f"chimirror.{name}.v1".encode(): name for name in self.framings
        }
        for foreign, name in (subprotocols or {}).items():
            self.subprotocols[foreign.encode()] = name
        self.hosts = frozenset([host.lower() for host in hosts])
        self.origins = frozenset([parse_origin(o, any_host=True) for o in origins])
        self.trusted = trusted
        self.root = root
        self.missing = missing
        self.console = console
        self.web_client = web_client
        self.base = base
        self.secure = secure
        self.needs_identity = needs_identity
        self.identity_fields = tuple([n.lower().encode() for n in identity_fields])
        self.describe_missing: Callable[[str], str] | None = None

    def allows_origin(self, origin: tuple[str, str, int]) -> bool:
        """Tell whether an origin of another host is allowed.

        Args:
            origin: From a client, so its host is never ANY_HOST.
        """
        return origin in self.origins or (origin[0], ANY_HOST, 0) in self.origins

    def offer(self) -> str:
        """Return the names of all subprotocols, for error texts."""
        return ", ".join([name.decode() for name in self.subprotocols])
