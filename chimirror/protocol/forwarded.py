"""The X-Forwarded-* fields: the client's own address, scheme and host behind proxies.

Reads from the right and uses only values from a trusted proxy. Refuses an unreadable
value and never skips one. Does not know which proxies are trusted.
"""

from __future__ import annotations

from chimirror.protocol import addresses, http
from chimirror.protocol.http import HTTPError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from chimirror.protocol.http import HTTPRequest

_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


def peer(
    request: HTTPRequest, trusted: Callable[[str], bool]
) -> tuple[str, int] | None:
    """Return the address and port that the outermost trusted proxy saw, if it says.

    Raises:
        HTTPError: 400.
    """
    node = None
    for element in reversed(request.elements(b"x-forwarded-for")):
        node = _node(element.decode("latin-1"))
        if node is None:
            raise _unusable("X-Forwarded-For", element)
        if not trusted(node[0]):
            break  # values further left come from an untrusted peer
    return node


def scheme(request: HTTPRequest) -> str:
    """Return the scheme on the client's side, http or https, "" if no proxy says.

    Raises:
        HTTPError: 400.
    """
    found = ""
    for element in request.tokens(b"x-forwarded-proto")[-1:]:
        found = _SCHEMES.get(element.decode("latin-1"), "")
        if not found:
            raise _unusable("X-Forwarded-Proto", element)
    return found


def host(request: HTTPRequest) -> bytes | None:
    """Return the host that the client requested, if a proxy says."""
    hosts = request.elements(b"x-forwarded-host")
    return hosts[-1] if hosts else None


def _unusable(name: str, value: bytes) -> HTTPError:
    text = f'the proxy sent an unusable {name} "{http.quote(value)}"'
    return HTTPError(400, text, cause="forwarded")


def _node(text: str) -> tuple[str, int] | None:
    """Read an address of X-Forwarded-For, with or without port, brackets and zone."""
    if "%" in text:
        text = _without_zone(text)
    if text.count(":") > 1 and not text.startswith("["):
        text = f"[{text}]"
    place = addresses.authority(text)
    if place is None or not addresses.is_literal(place[0]):
        return None
    return addresses.plain_address(place[0].strip("[]")), place[1]


def _without_zone(text: str) -> str:
    """Cut the zone of an IPv6 address (RFC 4007), which Apache httpd writes."""
    address, _, rest = text.partition("%")
    zone, bracket, end = rest.partition("]")
    is_zone = zone.isascii() and zone.replace("-", "a").replace(".", "a").isalnum()
    if not is_zone or ":" not in address:
        return text  # is no address
    return address + bracket + end
