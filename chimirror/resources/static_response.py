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


class StaticFile:
    """A file for any number of requests.

    Args:
        name: file name. Its suffix decides on the media type.
        content: its bytes.

    Attributes:
        content: as given.
        etag: its ETag.
        media_type: of the response.
    """

    __slots__ = ("content", "etag", "media_type")

    def __init__(self, name: str, content: bytes) -> None:
        self.content = content
        self.etag = etag(content)
        self.media_type = TYPES[name.rpartition(".")[2]]


_read: dict[str, StaticFile] = {}


def read(name: str) -> StaticFile:
    """Return a file of web/. Each is read once per process."""
    file = _read.get(name)
    if file is None:
        with open(WEB + name, "rb") as opened:
            file = _read[name] = StaticFile(name, opened.read())
    return file


class StaticResponse:
    """Response with one file.

    Args:
        request: the GET request.
        file: the file.
        cache: value of Cache-Control.
        headers: further fields.

    Attributes:
        status: 200, or 304 if the request names the ETag.
    """

    __slots__ = ("_cache", "_file", "_headers", "status")

    def __init__(
        self,
        request: ResourceRequest,
        file: StaticFile,
        cache: str,
        headers: Iterable[tuple[str, str]],
    ) -> None:
        self._file = file
        self._cache = cache
        self._headers = [("ETag", file.etag), *headers]
        self.status = 304 if matches_etag(file.etag, request.request) else 200

    def response(self, *, head: bool = False) -> bytes:
        return http.response(
            self.status,
            self._file.content,
            headers=self._headers,
            head=head or self.status == 304,
            content_type=self._file.media_type,
            cache=self._cache,
        )
