"""The lsp framing: one message, one body behind a `Content-Length` header, both ways.

Follows the base protocol of the Language Server Protocol 3.17. Knows headers, UTF-8
and that a client's message is JSON; what language servers say is not known.
"""

from __future__ import annotations

from . import jsonbatch, jsontext
from .contract import Framing, Violation
from .frames import is_utf8
from .headers import text_buffers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .contract import Buffers, Bytes, Request

_AGAINST_THE_FRAMING = 1007
_INTERNAL_ERROR = 1011
_LONGEST_HEADER = 4096
_END = b"\r\n\r\n"
_LF = b"\n"[0]
_UTF8 = (b"utf-8", b"utf8")
_BODY = b"Content-Length: %d\r\n\r\n%b"


class Lsp(Framing):
    """One message, one body; one object for each session."""

    __slots__ = ("_body", "_header", "_length", "_max_message")

    name = "lsp"
    subprotocol = b"chimirror.lsp.v1"
    default_stderr = "log"

    def __init__(self, max_message: int) -> None:
        self._max_message = max_message
        self._header = b""  # the beginning of one
        self._body: bytearray | None = None  # likewise
        self._length = 0  # of the body once it is whole

    def decode(self, message: bytes) -> Request:
        if not jsontext.valid(message):
            return Violation(_AGAINST_THE_FRAMING, "not JSON")
        return _BODY % (len(message), message)

    def gather(self, events: list[Any]) -> bytes | None:
        if jsonbatch.judged(events) is None:
            return None
        return b"".join([_BODY % (len(message), message) for message in events])

    def encode(self, stream: str, chunk: bytes) -> Buffers:
        assert stream == "stdout", "stderr has no place beside the bodies"
        bodies: list[Bytes] = []
        try:
            self._read(chunk, bodies)
        except Violation as violation:
            violation.sent = _framed(bodies)
            raise
        return _framed(bodies)

    def finish(self, stream: str) -> Buffers:
        if self._header or self._body is not None:
            raise Violation(_INTERNAL_ERROR, "output cut off")
        return [], 0

    def _read(self, chunk: bytes, bodies: list[Bytes]) -> None:
        """Takes all whole bodies, and keeps what has begun."""
        position, told = 0, _LF in chunk
        if self._body is not None:
            position = self._read_on(self._body, chunk, bodies)
        elif self._header:
            chunk, self._header = self._header + chunk, b""
        while position < len(chunk):
            end = chunk.find(_END, position, position + _LONGEST_HEADER)
            if end < 0:
                self._keep(chunk[position : position + _LONGEST_HEADER], told)
                return
            length = self._length_in(chunk[position : end + 2])
            if length < 0:
                raise _bad_header()
            start = end + len(_END)
            position = start + length
            body = chunk[start:position]
            if len(body) < length:
                self._body, self._length = bytearray(body), length
                return
            bodies.append(_checked(body))

    def _read_on(self, body: bytearray, chunk: bytes, bodies: list[Bytes]) -> int:
        """Takes the rest of a body, or more of it; returns where it ends."""
        missing = self._length - len(body)
        # Not copied, as nearly all chunks of a large one are nothing else.
        body += chunk if len(chunk) <= missing else chunk[:missing]
        if len(chunk) >= missing:
            self._body = None
            bodies.append(_checked(body))
        return missing

    def _keep(self, header: bytes, told: bool) -> None:
        """Keeps the beginning of a header; judges it when a line has come to its end.

        Who prints something else gets to know at once, and not when 4 KiB have come.
        """
        if told:
            self._length_in(header[: header.rfind(b"\n") + 1])
        if len(header) == _LONGEST_HEADER:
            raise Violation(_INTERNAL_ERROR, "header over 4096 bytes")
        self._header = header

    def _length_in(self, lines: bytes) -> int:
        """Returns what the lines of a header tell of the body's length, or -1."""
        length = -1
        for line in lines.split(b"\n")[:-1]:
            name, colon, value = line.partition(b":")
            # White space in a name, or before the colon, is none (RFC 9112, 5.1).
            if not (colon and line.endswith(b"\r") and name.split() == [name]):
                raise _bad_header()
            kind = name.lower()
            if kind == b"content-length":
                if length >= 0:
                    raise _bad_header()
                length = _number(value[:-1])
                if length > self._max_message:
                    raise Violation(_INTERNAL_ERROR, "body over --max-message")
            elif not line.isascii() or (kind == b"content-type" and _is_foreign(value)):
                raise _bad_header()
        return length


def _framed(bodies: list[Bytes]) -> Buffers:
    return text_buffers(bodies, sum(map(len, bodies)))


def _bad_header() -> Violation:
    return Violation(_INTERNAL_ERROR, "bad header")


def _number(value: bytes) -> int:
    """Reads a length; there is one way to write each."""
    digits = value.strip(b" \t")
    if not digits.isdigit() or (digits[:1] == b"0" and digits != b"0"):
        raise _bad_header()
    return int(digits)


def _is_foreign(content_type: bytes) -> bool:
    """Tells whether another character set than UTF-8 is named."""
    for parameter in content_type.lower().split(b";")[1:]:
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"charset" and value.strip(b' \t\r"') not in _UTF8:
            return True
    return False


def _checked(body: Bytes) -> Bytes:
    if not is_utf8(body):
        raise Violation(_INTERNAL_ERROR, "body not UTF-8")
    return body
