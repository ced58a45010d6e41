"""Who asks, and for what, where proxies stand in between: X-Forwarded-* fields.

Law: only what a proxy that is trusted has written counts, read from the right; a value
that cannot be read is refused, never skipped. Ignorance: who is trusted, and why.
"""

from __future__ import annotations

from chimirror.wire import address, http
from chimirror.wire.http import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from chimirror.wire.http import Request

_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


class Hop:
    """Peer, scheme and host as seen by the outermost proxy that is trusted.

    Args:
        host: of the request itself.
        peer_address, peer_port: of the connection.
    """

    __slots__ = ("host", "peer_address", "peer_port", "scheme")

    def __init__(self, host: bytes, peer_address: str, peer_port: int) -> None:
        self.host = host
        self.peer_address = peer_address
        self.peer_port = peer_port
        self.scheme = ""  # nobody told

    def follow(self, request: Request, trusted: Callable[[str], bool]) -> None:
        """Take what proxies that are trusted have written.

        Raises:
            Refusal: 400.
        """
        for element in reversed(request.elements(b"x-forwarded-for")):
            node = _node(element.decode("latin-1"))
            if node is None:
                raise _unusable("X-Forwarded-For", element)
            self.peer_address, self.peer_port = node
            if not trusted(self.peer_address):
                break  # what stands further left is hearsay
        for element in request.tokens(b"x-forwarded-proto")[-1:]:
            self.scheme = _SCHEMES.get(element.decode("latin-1"), "")
            if not self.scheme:
                raise _unusable("X-Forwarded-Proto", element)
        for element in request.elements(b"x-forwarded-host")[-1:]:
            self.host = element


def _unusable(name: str, value: bytes) -> Refusal:
    text = f'the proxy sent an unusable {name} "{http.quote(value)}"'
    return Refusal(400, text, cause="forwarded")


def _node(text: str) -> tuple[str, int] | None:
    """Read an address of X-Forwarded-For, with or without port and brackets."""
    if text.count(":") > 1 and not text.startswith("["):
        text = f"[{text}]"
    place = address.authority(text)
    if place is None or not address.is_literal(place[0]):
        return None
    return place[0].strip("[]"), place[1]
