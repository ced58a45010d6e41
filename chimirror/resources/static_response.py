"""A file of web/ as the response to a GET request, with an ETag (RFC 9110).

Guarantees:
- A file is looked up in a fixed list, never in the file system.
- A client that has the same content gets 304 without a body.

Knows nothing of the content of a file.
"""

from __future__ import annotations

from chimirror.protocol import http
from chimirror.resources.json_response import etag, matches_etag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from chimirror.protocol.routes import ResourceRequest

WEB = __file__.rpartition("/resources/")[0] + "/web/"
TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "ts": "text/plain; charset=utf-8",  # TypeScript has no registered media type
}


def read_file(name: str) -> bytes:
    """Return the content of a file of web/."""
    with open(WEB + name, "rb") as file:
        return file.read()


class StaticResponse:
    """Response with one file.

    Args:
        request: the GET request.
        name: file name. Its suffix decides on the media type.
        cache: value of Cache-Control.
        headers: further fields.

    Attributes:
        status: 200, or 304 if the request names the ETag.
    """

    __slots__ = ("_cache", "_content", "_headers", "_type", "status")

    def __init__(
        self,
        request: ResourceRequest,
        name: str,
        content: bytes,
        cache: str,
        headers: Iterable[tuple[str, str]],
    ) -> None:
        self._content = content
        self._type = TYPES[name.rpartition(".")[2]]
        self._cache = cache
        tag = etag(content)
        self._headers = [("ETag", tag), *headers]
        self.status = 304 if matches_etag(tag, request.request) else 200

    def response(self, *, head: bool = False) -> bytes:
        return http.response(
            self.status,
            self._content,
            headers=self._headers,
            head=head or self.status == 304,
            content_type=self._type,
            cache=self._cache,
        )
