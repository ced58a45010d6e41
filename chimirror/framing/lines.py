"""The framing lines: one message is one line, in both directions.

Checks UTF-8, and JSON only in messages with a line break. LF, CR LF and CR break lines
of a client, LF and CR LF those of an application. Follows `chimirror.lines.v1` in
chimirror-protocol(7).
"""

from __future__ import annotations

from chimirror.framing import (
    MAX_HELD,
    Framing,
    FramingError,
    bytes_around,
    invalid_utf8,
)
from chimirror.protocol import LINE_BREAK, LINE_NOT_UTF8, LINE_TOO_LONG
from chimirror.protocol.frame_format import (
    join_buffers,
    text_buffers,
    text_frames,
    text_header,
)
from chimirror.protocol.frame_reader import is_utf8

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from chimirror.framing import Buffer, Buffers, Bytes, Request
    from chimirror.framing.fragments import MessageInFragments

# Integers, because `in` takes eight times as long for a bytes object.
_LF, _CR = b"\n\r"
_CR_TO_LF = bytes.maketrans(b"\r", b"\n")
# For lines from this length on, find() costs less than split(), which compares byte by
# byte: 19 µs instead of 61 for 64 KiB in lines of 4 KiB.
_MIN_FIND = 256
# A single line up to this length is copied behind its header: one buffer is written
# faster than two.
_MAX_JOINED = 16384


class LinesFraming(Framing):
    """One message for each line. Each session has an object of its own.

    A message with line breaks is refused, unless it is a JSON text, which has them only
    between tokens.

    Args:
        max_line: Bytes of the longest line of output.
    """

    __slots__ = ("_fragments", "_max_line", "_partial")

    name = "lines"
    takes_binary = True

    def __init__(self, max_line: int) -> None:
        self._max_line = max_line
        self._partial: bytearray | None = None  # beginning of a line
        self._fragments: MessageInFragments | None = None  # what precedes it

    def decode(self, message: bytes) -> Request:
        if _LF in message or _CR in message:
            from chimirror.protocol.json_text import is_json, to_single_line

            if not is_json(message):
                first = message.translate(_CR_TO_LF).index(b"\n")
                return FramingError(LINE_BREAK, bytes_around(message, first))
            message = to_single_line(message)
        return message + b"\n"

    def decode_batch(self, events: list[Any]) -> bytes | None:
        try:
            joined = b"".join(events)
        except TypeError:  # not a message
            return None
        if _LF in joined or _CR in joined:
            return None
        return b"\n".join(events) + b"\n"

    def encode(self, stream: str, chunk: bytes) -> Buffers:
        assert stream == "stdout", "stderr has no place among the lines"
        first, end = chunk.find(b"\n"), chunk.rfind(b"\n") + 1
        if not end:
            return self._keep(chunk)
        start = 0
        sent: Buffers = [], 0
        try:
            if self._partial is not None:
                sent = self._finish_line(self._partial, chunk[:first])
                start = first + 1
            elif first == len(chunk) - 1 and first < _MAX_JOINED:
                return self._encode_one(chunk)
            sent = join_buffers(sent, self._encode_block(chunk[start:end], first))
            if end < len(chunk):
                sent = join_buffers(sent, self._keep(chunk[end:]))
        except FramingError as error:
            error.sent = join_buffers(sent, error.sent)
            raise
        return sent

    def _encode_one(self, chunk: bytes) -> Buffers:
        """Return the frame of one line, the usual output of a dialogue."""
        line = chunk[:-1].removesuffix(b"\r")
        if len(line) > self._max_line or not line.isascii():
            self._check([line])
        return [text_header(len(line)) + line], 1

    def _encode_block(self, block: bytes, first: int) -> Buffers:
        """Return the frames of complete lines."""
        lines = _split_lines(block, first)
        if len(block) > self._max_line or not is_utf8(block):
            self._check(lines)
        return text_buffers(lines, len(block))

    def flush(self, stream: str) -> Buffers:
        partial = self._partial
        if partial is None or not (partial or self._fragments):
            return [], 0
        return self._encode_rest(partial)

    def _keep(self, piece: bytes) -> Buffers:
        """Keep the beginning of a line. Return a fragment of a long one.

        One byte over the limit is allowed if it may be the CR of the line's end.
        """
        partial = self._partial
        if partial is None:
            partial = self._partial = bytearray()
        partial += piece
        excess = len(partial) - self._room
        if excess > 1 or (excess == 1 and not partial.endswith(b"\r")):
            raise FramingError(LINE_TOO_LONG, partial)
        if len(partial) <= MAX_HELD:
            return [], 0
        if self._fragments is None:
            from chimirror.framing.fragments import MessageInFragments

            self._fragments = MessageInFragments()
        buffers, self._partial = self._fragments.add(partial)
        if not is_utf8(partial):
            raise FramingError(LINE_NOT_UTF8, invalid_utf8(partial))
        return buffers, 0

    @property
    def _room(self) -> int:
        """Bytes that the line may still have, `_partial` included."""
        return self._max_line - (self._fragments.size if self._fragments else 0)

    def _finish_line(self, partial: bytearray, piece: bytes) -> Buffers:
        """Return the frames of a line with its last piece, without the LF."""
        partial += piece
        if partial.endswith(b"\r"):
            partial.pop()
        return self._encode_rest(partial)

    def _encode_rest(self, partial: bytearray) -> Buffers:
        """Return the frames of a complete line, or of its last fragment."""
        if len(partial) > self._room or not is_utf8(partial):
            self._check([partial])
        fragments, self._fragments, self._partial = self._fragments, None, None
        if fragments is None:
            return text_buffers([partial], len(partial))
        return fragments.finish(partial), 1

    def _check(self, lines: list[Bytes]) -> None:
        for number, line in enumerate(lines):
            if len(line) > self._room:
                reason, found = LINE_TOO_LONG, line
            elif not is_utf8(line):
                reason, found = LINE_NOT_UTF8, invalid_utf8(line)
            else:
                continue
            sent: list[Buffer] = [text_frames(lines[:number])] if number else []
            raise FramingError(reason, found, (sent, number))


class SplitLinesFraming(LinesFraming):
    """The framing of `--multiline split`: a message may be several lines.

    A JSON text stays one line. A line break at the end of a message ends the last line.
    """

    __slots__ = ()

    def decode(self, message: bytes) -> Request:
        if _CR in message:
            message = message.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        text = message.removesuffix(b"\n")
        if _LF in text:
            from chimirror.protocol.json_text import is_json, to_single_line

            if is_json(text):
                text = to_single_line(text)
        return text + b"\n"


def _split_lines(block: bytes, first: int) -> list[Bytes]:
    """Return the lines of a block without their ends.

    Args:
        block: Complete lines.
        first: The position of the first line's end.
    """
    lines: list[Bytes]
    if first < _MIN_FIND:
        lines = block.split(b"\n")  # type: ignore[assignment]  # list is invariant
        lines.pop()
    else:
        lines, start, find = [], 0, block.find
        while (end := find(b"\n", start)) >= 0:
            lines.append(block[start:end])
            start = end + 1
    if _CR in block:
        lines = [line.removesuffix(b"\r") for line in lines]
    return lines
