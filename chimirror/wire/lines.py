"""The lines framing: one message, one line, both ways.

Knows UTF-8 and where lines end; JSON only where a message holds a line break.
"""

from __future__ import annotations

from .contract import Framing, Violation
from .frames import is_utf8
from .headers import text_buffers, text_frames, text_header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .contract import Buffers, Bytes, Request

_NOT_UTF8 = 1007
_INTERNAL_ERROR = 1011
# As integers: `in` takes eight times as long for a bytes object.
_LF, _CR = b"\n\r"
# From this length on, looking for each end costs less than split(), which compares
# byte by byte: 19 µs instead of 61 for 64 KiB in lines of 4 KiB.
_LONG = 256


class Lines(Framing):
    """One message, one line, both ways; one object for each session."""

    __slots__ = ("_max_message", "_partial")

    name = "lines"
    subprotocol = b"chimirror.lines.v1"
    default_stderr = "log"

    def __init__(self, max_message: int) -> None:
        self._max_message = max_message
        self._partial: bytearray | None = None  # a line's beginning

    def decode(self, message: bytes) -> Request:
        if _LF in message or _CR in message:
            from .jsontext import fold, valid

            if not valid(message):
                return Violation(_NOT_UTF8, "line break outside JSON")
            message = fold(message)
        return message + b"\n"

    def gather(self, events: list[Any]) -> bytes | None:
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
            self._keep(chunk)
            return [], 0
        begun = self._partial
        if begun is None and first == len(chunk) - 1 and first < _LONG:
            return self._encode_one(chunk)
        block = chunk[first + 1 : end] if begun is not None else chunk[:end]
        lines, size = _cut(block, first), len(block)
        if begun is not None:
            self._partial = None
            begun += chunk[:first]
            if begun.endswith(b"\r"):
                begun.pop()
            lines.insert(0, begun)
            size += len(begun)
        sound = is_utf8(block) and (begun is None or is_utf8(begun))
        if size > self._max_message or not sound:
            self._check(lines)
        buffers = text_buffers(lines, size)
        if end < len(chunk):
            try:
                self._keep(chunk[end:])
            except Violation as violation:
                violation.sent = buffers
                raise
        return buffers

    def _encode_one(self, chunk: bytes) -> Buffers:
        """Returns the frame of one short line, which is what a dialogue is made of."""
        line = chunk[:-1].removesuffix(b"\r")
        if len(line) > self._max_message or not line.isascii():
            self._check([line])
        return [text_header(len(line)) + line], 1

    def finish(self, stream: str) -> Buffers:
        if not self._partial:
            return [], 0
        line, self._partial = self._partial, None
        self._check([line])
        return text_buffers([line], len(line))

    def _keep(self, piece: bytes) -> None:
        """Adds to the line's beginning, which is never longer than a line may be."""
        if self._partial is None:
            self._partial = bytearray()
        self._partial += piece
        over = len(self._partial) - self._max_message
        # One byte more may still turn out to be the \r of the line's end.
        if over > 1 or (over == 1 and not self._partial.endswith(b"\r")):
            raise Violation(_INTERNAL_ERROR, "line over --max-message")

    def _check(self, lines: list[Bytes]) -> None:
        for number, line in enumerate(lines):
            if len(line) > self._max_message:
                reason = "line over --max-message"
            elif not is_utf8(line):
                reason = "line not UTF-8"
            else:
                continue
            sent: list[Bytes] = [text_frames(lines[:number])] if number else []
            raise Violation(_INTERNAL_ERROR, reason, (sent, number))


def _cut(block: bytes, first: int) -> list[Bytes]:
    """Returns its lines, without their ends; `first` is where the first one ends."""
    lines: list[Bytes]
    if first < _LONG:
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
