"""The client library for web pages, and its types, at paths that never change.

A page of another origin can import the library exactly if it may open sessions: the
handshake policy has checked its Origin. Every other page is refused, and cannot find
out by this file what runs on the machine of its visitor.

Knows nothing of sessions.
"""

from __future__ import annotations

from chimirror.resources import static_response
from chimirror.resources.static_response import StaticResponse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.protocol.routes import ResourceRequest

# A request without CORS, as from <script src>, succeeds in pages of this origin alone.
HEADERS = (("Cross-Origin-Resource-Policy", "same-origin"), ("Vary", "Origin"))

NAMES = ("chimirror.js", "chimirror.d.ts")


def file(request: ResourceRequest) -> StaticResponse:
    """Return the file at the path of a request."""
    name = request.request.path.rpartition("/")[2]
    headers = [*HEADERS]
    origin = request.request.get(b"origin")
    if origin is not None:
        headers.append(("Access-Control-Allow-Origin", origin.decode("ascii")))
    content = static_response.read(name)
    return StaticResponse(request, content, "no-cache", headers)
