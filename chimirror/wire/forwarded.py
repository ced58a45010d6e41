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


def peer(request: Request, trusted: Callable[[str], bool]) -> tuple[str, int] | None:
    """Address and port as seen by the outermost proxy that is trusted, if one tells.

    Raises:
        Refusal: 400.
    """
    node = None
    for element in reversed(request.elements(b"x-forwarded-for")):
        node = _node(element.decode("latin-1"))
        if node is None:
            raise _unusable("X-Forwarded-For", element)
        if not trusted(node[0]):
            break  # what stands further left is hearsay
    return node


def scheme(request: Request) -> str:
    """The scheme as the client sees it, http or https; empty if nobody tells.

    Raises:
        Refusal: 400.
    """
    found = ""
    for element in request.tokens(b"x-forwarded-proto")[-1:]:
        found = _SCHEMES.get(element.decode("latin-1"), "")
        if not found:
            raise _unusable("X-Forwarded-Proto", element)
    return found


def host(request: Request) -> bytes | None:
    """What the client has asked for, if a proxy tells."""
    hosts = request.elements(b"x-forwarded-host")
    return hosts[-1] if hosts else None


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
