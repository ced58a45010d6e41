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

DEFAULT_PORTS = {"http": 80, "https": 443}


def parse_origin(text: str) -> tuple[str, str, int] | None:
    """Split a web origin into scheme, host and port. Return None for other texts."""
    scheme, _, rest = text.partition("://")
    scheme = scheme.lower()
    place = addresses.authority(rest)
    if scheme not in DEFAULT_PORTS or place is None:
        return None
    return scheme, place[0], place[1] or DEFAULT_PORTS[scheme]


def canonical_origin(text: str) -> str:
    """Return the canonical text of an origin, for comparison."""
    origin = parse_origin(text)
    return text.lower() if origin is None else "{}://{}:{}".format(*origin)


class HandshakePolicy:
    """The settings of an endpoint that decide about requests, built once from options.

    Attributes:
        framings: The framings that `chimirror.*` subprotocols may choose, in order.
        subprotocols: Every subprotocol that is served, with its framing.
        hosts: Names that Host may hold, beside addresses and `localhost`.
        origins: Origins that are allowed beside the Host's own.
        trusted: Tells whether a peer is a proxy with trusted X-Forwarded-* fields. The
            address "" is a peer on a Unix socket.
        root: The path of the application, if it has one of its own: `/NAME`.
        missing: The arguments of the HTTPError for a missing application. It is sent
            after the Host check.
        console: Whether browsers get the console page.
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
        self.origins = frozenset([canonical_origin(origin) for origin in origins])
        self.trusted = trusted
        self.root = root
        self.missing = missing
        self.console = console

    def offer(self) -> str:
        """Return the names of all subprotocols, for error texts."""
        return ", ".join([name.decode() for name in self.subprotocols])
