"""The client library for web pages, and its types, at paths that never change.

A page of another origin can import the library exactly if it may open sessions: the
handshake policy has checked its Origin. Every other page is refused, and cannot find
out by this file what runs on the machine of its visitor.

Knows nothing of sessions.
"""

from __future__ import annotations

from chimirror.resources.static_response import StaticFile, StaticResponse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.protocol.routes import ResourceRequest

# A request without CORS, as from <script src>, succeeds in pages of this origin alone.
HEADERS = (("Cross-Origin-Resource-Policy", "same-origin"), ("Vary", "Origin"))

_files: dict[str, StaticFile] = {}  # by name, read once per process


def file(request: ResourceRequest) -> StaticResponse:
    """Return the file at the path of a request."""
    name = request.request.path.rpartition("/")[2]
    headers = [*HEADERS]
    origin = request.request.get(b"origin")
    if origin is not None:
        headers.append(("Access-Control-Allow-Origin", origin.decode("ascii")))
    if name not in _files:
        _files[name] = StaticFile(name)
    return StaticResponse(request, _files[name], "no-cache", headers)
