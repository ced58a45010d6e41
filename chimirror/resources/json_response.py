"""A JSON document as the response to a GET request, with an ETag (RFC 9110).

The ETag is a hash of the content. A client that has the same document gets 304 without
a body. The media type is application/json:
AsyncAPI names no other for documents, browsers display it and all tools accept it.
Knows nothing of the content of a document, nor of access rights.
"""

from __future__ import annotations

import sys

from chimirror.protocol import http

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.protocol.http import HTTPRequest

_JSON = "application/json"
_TAG_BYTES = 16


class JSONDocument:
    """One document, for any number of requests.

    Attributes:
        etag: its ETag.
        text: the document as JSON.
    """

    __slots__ = ("etag", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.etag = etag(text.encode())


class JSONResponse:
    """One document, for one request.

    Args:
        document: the document.
        request: the request.
        user: name of the client, "" without one, in the field Chimirror-User. None:
            nobody asks for it, and the document is the same for all.

    Attributes:
        status: 200, or 304 if the request names the ETag of the document.
    """

    __slots__ = ("_document", "_user", "status")

    def __init__(
        self, document: JSONDocument, request: HTTPRequest, user: str | None = None
    ) -> None:
        self._document = document
        self._user = user
        self.status = 304 if matches_etag(document.etag, request) else 200

    def response(self, *, head: bool = False) -> bytes:
        headers = [("ETag", self._document.etag)]
        cache = "no-cache"  # clients may keep it and must revalidate it
        if self._user is not None:
            cache = "private, no-cache"
        if self._user:
            from urllib.parse import quote

            headers.append(("Chimirror-User", quote(self._user)))
        return http.response(
            self.status,
            self._document.text,
            headers=tuple(headers),
            head=head or self.status == 304,
            content_type=_JSON,
            cache=cache,
        )


def text(document: object) -> str:
    """Serialize a document in ASCII. Terminals can display it without escaping."""
    written = _text_by_orjson(document)
    if written is None:
        import json

        written = json.dumps(document, indent=2)
    return written.replace("\x7f", "\\u007f") + "\n"


def _text_by_orjson(document: object) -> str | None:
    """Serialize in 1 % of the time where a server has loaded orjson.

    Returns:
        None if that is not possible: for other characters and large integers.
    """
    if "orjson" not in sys.modules:  # its import takes 35 ms
        return None
    import orjson

    try:
        written = orjson.dumps(document, option=orjson.OPT_INDENT_2)
    except TypeError:
        return None
    return written.decode() if written.isascii() else None


def etag(content: bytes) -> str:
    """Return the ETag of some content."""
    from _blake2 import blake2b  # importing hashlib takes 10 ms

    return f'"{blake2b(content, digest_size=_TAG_BYTES).hexdigest()}"'


def matches_etag(etag: str, request: HTTPRequest) -> bool:
    """Return True if If-None-Match names this ETag (RFC 9110, 13.1.2).

    The comparison is weak, and `*` matches every ETag.
    """
    asked = request.elements(b"if-none-match")
    return any(each in (b"*", etag.encode(), b"W/" + etag.encode()) for each in asked)
