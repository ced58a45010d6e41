"""The byte stream of an LSP client: headers and bodies, cut anywhere over messages.

Clients whose library writes to a byte stream send the header and the body as messages
of their own. Checks headers with the rules for output, and that each body is JSON.
Knows no output. Loaded with the first such client.
"""

from __future__ import annotations

from chimirror.framing import FramingError, invalid_utf8
from chimirror.framing.lsp_header import BODY, END, MAX_HEADER, parse_header
from chimirror.protocol import (
    BAD_CLIENT_HEADER,
    BODY_TOO_LONG,
    MESSAGE_TOO_BIG,
    NOT_JSON,
    json_text,
)
from chimirror.protocol.frame_reader import is_utf8

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.protocol import CloseReason

_LF = b"\n"[0]


class ClientStream:
    """Reader of one client's byte stream.

    Args:
        max_message: Bytes of the longest body.
    """

    __slots__ = ("_buffer", "_max_message", "_need")

    def __init__(self, max_message: int) -> None:
        self._max_message = max_message
        self._buffer = bytearray()  # beginning of a header and its body
        self._need = 0  # bytes of both, 0 until the header is complete

    def receive_data(self, data: bytes, not_utf8: CloseReason) -> bytes:
        """Return the complete bodies, each behind its header.

        Args:
            data: The next bytes of the stream.
            not_utf8: The reason for a body that is not UTF-8.

        Raises:
            FramingError: The stream is invalid.
        """
        buffer = self._buffer
        has_line_end = _LF in data
        buffer += data
        if len(buffer) < self._need:
            return b""
        delivered: list[bytes] = []
        position = 0
        try:
            while position < len(buffer):
                end = self._read_header(buffer, position, has_line_end)
                if not end or len(buffer) - position < self._need:
                    break
                body = bytes(buffer[end : position + self._need])
                _check(body, not_utf8)
                delivered.append(BODY % (len(body), body))
                position += self._need
                self._need = 0
        except FramingError as error:
            error.received = b"".join(delivered)
            raise
        del buffer[:position]
        return b"".join(delivered)

    def _read_header(self, buffer: bytearray, start: int, has_line_end: bool) -> int:
        """Return the end of the header at `start`, 0 if it is not complete."""
        end = buffer.find(END, start, start + MAX_HEADER)
        lines = bytes(buffer[start : end + 2 if end >= 0 else start + MAX_HEADER])
        try:
            if end >= 0:
                length = parse_header(lines, self._max_message)
                if length < 0:
                    raise FramingError(BAD_CLIENT_HEADER, lines)
                end += len(END)
                self._need = end - start + length
                return end
            if has_line_end:
                parse_header(lines[: lines.rfind(b"\n") + 1], self._max_message)
        except FramingError as error:
            is_large = error.close_reason is BODY_TOO_LONG
            reason = MESSAGE_TOO_BIG if is_large else BAD_CLIENT_HEADER
            raise FramingError(reason, error.found) from None
        if len(lines) == MAX_HEADER:
            raise FramingError(BAD_CLIENT_HEADER, lines)
        return 0


def _check(body: bytes, not_utf8: CloseReason) -> None:
    if not is_utf8(body):
        raise FramingError(not_utf8, invalid_utf8(body))
    try:
        json_text.parse(body)
    except json_text.JsonTextError as error:
        raise FramingError(NOT_JSON, error.rest(body)) from None
