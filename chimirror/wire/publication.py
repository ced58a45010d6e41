"""A JSON document as the answer to a GET: RFC 9110, with an ETag to ask again by.

Law: the tag is a hash of what is sent, and nothing is kept between two requests; who
has the same document gets 304 and no body. The media type is application/json: it is
what AsyncAPI documents are, browsers show it and every tool takes it; AsyncAPI names
no other for a document.
Ignorance: what the document says, and who may read it.
"""

from __future__ import annotations

from chimirror.wire import http

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.wire.http import Request

_JSON = "application/json"
_TAG_BYTES = 16


class Publication:
    """One document, for the request that asked for it.

    Attributes:
        status: 200, or 304 if the request names the document's own tag.
    """

    __slots__ = ("_tag", "_text", "status")

    def __init__(self, document: object, request: Request) -> None:
        self._text = text(document)
        self._tag = tag(self._text.encode())
        self.status = 304 if is_known(self._tag, request) else 200

    def response(self, *, head: bool = False) -> bytes:
        return http.response(
            self.status,
            self._text,
            headers=(("ETag", self._tag),),
            head=head or self.status == 304,
            content_type=_JSON,
            cache="no-cache",  # may be kept, and is asked for again each time
        )


def text(document: object) -> str:
    """A document as it is handed out: all ASCII, so that it moves no cursor either."""
    import json

    return json.dumps(document, indent=2).replace("\x7f", "\\u007f") + "\n"


def tag(content: bytes) -> str:
    """The ETag of what is sent."""
    from _blake2 import blake2b  # what hashlib would take 10 ms to find

    return f'"{blake2b(content, digest_size=_TAG_BYTES).hexdigest()}"'


def is_known(etag: str, request: Request) -> bool:
    """Whether the client has it: RFC 9110, 13.1.2; compared weakly, `*` is any."""
    asked = request.elements(b"if-none-match")
    return any(each in (b"*", etag.encode(), b"W/" + etag.encode()) for each in asked)
