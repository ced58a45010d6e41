"""The framing lsp: one message is one body behind a `Content-Length` header.

Follows the base protocol of the Language Server Protocol 3.17, which is also that of
the Debug Adapter Protocol. Checks headers, UTF-8, and that a client's message is JSON.
The first message of a client can begin a byte stream, which `lsp_stream` reads. Knows
nothing of the messages of language servers and debuggers.
"""

from __future__ import annotations

from chimirror.framing import (
    MAX_HELD,
    Framing,
    FramingError,
    invalid_utf8,
    json_batch,
)
from chimirror.framing.lsp_header import BODY, END, MAX_HEADER, parse_header
from chimirror.protocol import (
    BAD_HEADER,
    BINARY_FRAME,
    BODY_NOT_UTF8,
    HEADER_TOO_LONG,
    NOT_JSON,
    NOT_UTF8,
    OUTPUT_CUT_OFF,
    json_text,
)
from chimirror.protocol.frame_format import join_buffers, text_buffers
from chimirror.protocol.frame_reader import is_utf8

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from chimirror.framing import Buffer, Buffers, Bytes, Request
    from chimirror.framing.fragments import MessageInFragments
    from chimirror.framing.lsp_stream import ClientStream
    from chimirror.protocol import CloseReason

_LF = b"\n"[0]
_HEADER = b"Content-Length: %d\r\n\r\n"
_STREAM_START = b"content-"  # of both header fields; no JSON text begins so


class LspFraming(Framing):
    """One message for each body. Each session has an object of its own.

    Args:
        max_line: Bytes of the longest body of output.
        max_message: Bytes of the longest body in the client's byte stream.
    """

    __slots__ = (
        "_body",
        "_fragments",
        "_header",
        "_is_first",
        "_max_line",
        "_max_message",
        "_missing",
        "_stream",
    )

    name = "lsp"
    takes_binary = True

    def __init__(self, max_line: int, max_message: int) -> None:
        self._max_line = max_line
        self._max_message = max_message
        self._is_first = True  # the next message of the client
        self._stream: ClientStream | None = None  # if the client sends one
        self._header = b""  # beginning of a header
        self._body: bytearray | None = None  # beginning of a body
        self._fragments: MessageInFragments | None = None  # what precedes it
        self._missing = 0  # bytes of the body that have not arrived

    def decode(self, message: bytes) -> Request:
        if self._is_first or self._stream is not None:
            stream = self._stream or self._begin(message)
            if stream is not None:
                return _read_stream(stream, message, NOT_UTF8)
        try:
            json_text.parse(message)
        except json_text.JsonTextError as error:
            return FramingError(NOT_JSON, error.rest(message))
        return BODY % (len(message), message)

    def decode_binary(self, message: bytes) -> Request:
        stream = self._stream or self._begin(message)
        if stream is not None:
            return _read_stream(stream, message, BINARY_FRAME)
        return super().decode_binary(message)

    def _begin(self, message: bytes) -> ClientStream | None:
        """Return the byte stream that a first message begins, None if it does not."""
        is_first, self._is_first = self._is_first, False
        start = message[: len(_STREAM_START)].lower()
        if not is_first or start != _STREAM_START:
            return None
        from chimirror.framing.lsp_stream import ClientStream

        self._stream = ClientStream(self._max_message)
        return self._stream

    def decode_batch(self, events: list[Any]) -> bytes | None:
        first = events[0]
        if self._is_first and type(first) is bytes:
            self._begin(first)
        if self._is_first or self._stream is not None:
            return None
        if json_batch.validate_batch(events) is None:
            return None
        return b"".join([BODY % (len(message), message) for message in events])

    def encode(self, stream: str, chunk: bytes) -> Buffers:
        assert stream == "stdout", "stderr has no place beside the bodies"
        bodies: list[Bytes] = []
        finished: Buffers = [], 0
        position = 0
        try:
            if self._body is not None:
                position = min(self._missing, len(chunk))
                finished = self._continue_body(self._body, chunk[:position])
            self._read(chunk, position, bodies)
        except FramingError as error:
            error.sent = join_buffers(finished, _frames(bodies))
            raise
        return join_buffers(finished, _frames(bodies))

    def flush(self, stream: str) -> Buffers:
        if self._header or self._body is not None:
            raise FramingError(OUTPUT_CUT_OFF, self._header or self._body or b"")
        return [], 0

    def _read(self, chunk: bytes, position: int, bodies: list[Bytes]) -> None:
        """Read all complete bodies, and keep an incomplete rest."""
        has_line_end = _LF in chunk
        if self._header:
            chunk, self._header = self._header + chunk, b""
        while position < len(chunk):
            end = chunk.find(END, position, position + MAX_HEADER)
            if end < 0:
                self._keep(chunk[position : position + MAX_HEADER], has_line_end)
                return
            length = parse_header(chunk[position : end + 2], self._max_line)
            if length < 0:
                raise FramingError(BAD_HEADER, chunk[position:end])
            start = end + len(END)
            position = start + length
            body = chunk[start:position]
            header = b"" if self._stream is None else _HEADER % length
            if len(body) < length:
                self._body, self._missing = bytearray(header), length - len(body)
                self._body += body
                return
            _check_utf8(body)
            bodies.append(header + body if header else body)

    def _continue_body(self, body: bytearray, piece: bytes) -> Buffers:
        """Add to an incomplete body. Return its frames, or a fragment of a long one."""
        body += piece
        self._missing -= len(piece)
        if self._missing and len(body) <= MAX_HELD:
            return [], 0
        if self._missing:
            return self._send_fragment(body), 0
        self._body = None
        _check_utf8(body)
        fragments, self._fragments = self._fragments, None
        if fragments is None:
            return _frames([body])
        return fragments.finish(body), 1

    def _send_fragment(self, body: bytearray) -> list[Buffer]:
        if self._fragments is None:
            from chimirror.framing.fragments import MessageInFragments

            self._fragments = MessageInFragments()
        buffers, self._body = self._fragments.add(body)
        _check_utf8(body)
        return buffers

    def _keep(self, header: bytes, has_line_end: bool) -> None:
        """Keep the beginning of a header, and check its complete lines.

        So other output ends the session after its first line, and not after 4 KiB.
        """
        if has_line_end:
            parse_header(header[: header.rfind(b"\n") + 1], self._max_line)
        if len(header) == MAX_HEADER:
            raise FramingError(HEADER_TOO_LONG, header)
        self._header = header


def _frames(bodies: list[Bytes]) -> Buffers:
    return text_buffers(bodies, sum(map(len, bodies)))


def _read_stream(stream: ClientStream, data: bytes, not_utf8: CloseReason) -> Request:
    try:
        return stream.receive_data(data, not_utf8)
    except FramingError as error:
        return error


def _check_utf8(body: Bytes) -> None:
    if not is_utf8(body):
        raise FramingError(BODY_NOT_UTF8, invalid_utf8(body))
