r"""Cuts a byte stream into messages: lines of at most a maximum. Pure.

A line ends with \n. The memory for a line is bounded by its maximum and one piece. The
rest of a longer line is skipped. A line that begins with @ refers to shared memory:
`@bytes SIZE` or `@json SIZE`. No JSON text begins with that character.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, cast

from chimirror.services.errors import EVIDENCE_BYTES

Kind = Literal["bytes", "json"]
_REFERENCE = re.compile(rb"@(bytes|json) ([1-9][0-9]{0,17})")


class Line(NamedTuple):
    """A complete line, without its line break."""

    data: bytes


class Reference(NamedTuple):
    """A reference to shared memory, whose descriptor comes by the socket.

    Attributes:
        kind: "bytes" for a value of bytes, "json" for JSON text.
        size: Of the memory, in bytes.
    """

    kind: Kind
    size: int


class Fault(NamedTuple):
    """A line that is no message.

    Attributes:
        reason: One line of text.
        evidence: The first bytes of the line.
    """

    reason: str
    evidence: bytes


Event = Line | Reference | Fault


def format_reference(kind: Kind, size: int) -> bytes:
    """Return the line of a reference, with its line break."""
    return b"@%s %d\n" % (kind.encode(), size)


class LineParser:
    """Parser of one direction of a pipe.

    Alternate: `receive_data` once, then `next_event` until it returns None.

    Args:
        max_message: of a line without its line break, and of shared memory, in bytes.
    """

    __slots__ = ("_data", "_evidence", "_max", "_pieces", "_size", "_start")

    def __init__(self, max_message: int) -> None:
        self._max = max_message
        self._data = b""  # received and not cut yet, from _start on
        self._start = 0
        self._pieces: list[bytes] = []  # of a line whose end has not been received
        self._size = 0  # of that line
        self._evidence: bytes | None = None  # of a line that is too long

    @property
    def needs_data(self) -> bool:
        """Whether all received bytes have been cut."""
        return self._start == len(self._data)

    def receive_data(self, data: bytes) -> None:
        """Take bytes of the stream. All earlier events have been read."""
        assert self.needs_data
        self._data, self._start = data, 0

    def receive_end(self) -> Fault | None:
        """Take the end of the stream. Returns the fault of an unterminated line."""
        if not self._size:
            return None
        line = self._evidence
        if line is None:
            line = b"".join(self._pieces)[:EVIDENCE_BYTES]
        self._reset()
        return Fault("it ends without a line break", line)

    def next_event(self) -> Event | None:
        """Return the next message, or None if more data are needed."""
        end = self._data.find(b"\n", self._start)
        if end < 0:
            self._keep(self._data[self._start :])
            self._data, self._start = b"", 0
            return None
        piece = self._data[self._start : end]
        self._start = end + 1
        if self._size or len(piece) > self._max:
            self._keep(piece)
            if self._evidence is not None:
                return self._too_long()
            piece = b"".join(self._pieces)
            self._reset()
        return self._classify(piece)

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._evidence is not None:
            room = EVIDENCE_BYTES - len(self._evidence)
            self._evidence += piece[:room]
        elif self._size > self._max:
            self._evidence = b"".join([*self._pieces, piece])[:EVIDENCE_BYTES]
            self._pieces = []
        elif piece:
            self._pieces.append(piece)

    def _too_long(self) -> Fault:
        size, evidence = self._size, self._evidence or b""
        self._reset()
        return Fault(f"{size} bytes are more than {self._max}", evidence)

    def _reset(self) -> None:
        self._pieces, self._size, self._evidence = [], 0, None

    def _classify(self, line: bytes) -> Event:
        if not line.startswith(b"@"):
            return Line(line)
        match = _REFERENCE.fullmatch(line)
        if match is None:
            return Fault("it is neither JSON nor a reference to memory", line)
        # An oversized reference is an event too: its descriptor has to be taken.
        return Reference(cast("Kind", match[1].decode()), int(match[2]))
