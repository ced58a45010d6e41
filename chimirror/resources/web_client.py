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

NAMES = ("chimirror.js", "chimirror.d.ts")

_files: dict[str, StaticFile] = {}


def files() -> dict[str, StaticFile]:
    """Return the files by name. Reads them on first use."""
    if not _files:
        _files.update({name: StaticFile(name) for name in NAMES})
    return _files


def file(request: ResourceRequest) -> StaticResponse:
    """Return the file at the path of a request."""
    name = request.request.path.rpartition("/")[2]
    headers = [*HEADERS]
    origin = request.request.get(b"origin")
    if origin is not None:
        headers.append(("Access-Control-Allow-Origin", origin.decode("ascii")))
    return StaticResponse(request, files()[name], "no-cache", headers)
