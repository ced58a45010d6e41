"""A stream of lines of a bounded length over one socket.

Reads little at a time and handles few lines in one call. So a flood of lines takes
little of a turn: streams that carry session data come first. Knows no protocol.
"""

from __future__ import annotations

from chimirror.io.loop import PHASE_TIME
from chimirror.io.stream import Stream
from chimirror.io.write_buffer import HIGH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.io.loop import EventLoop

READ_SIZE = 4096
MAX_LINES = 32  # lines of one call


class LineStream(Stream):
    """Base of line-based connections. A subclass handles the lines.

    Args:
        loop: reports readiness.
        fd: a socket, non-blocking. Owned by this stream from now on.
        max_line: largest line, in bytes.
    """

    __slots__ = ("_held", "_is_skipping", "_max_line", "_partial")
    read_size = READ_SIZE

    def __init__(self, loop: EventLoop, fd: int, max_line: int) -> None:
        super().__init__(loop, fd, fd)
        self._max_line = max_line
        self._partial: bytearray | None = None
        self._is_skipping = False  # the rest of a line that is too long
        self._held = b""  # received, but not split into lines

    # For the subclass to define

    def on_line(self, line: bytes) -> None:
        """Called with each line, without its line end."""
        raise NotImplementedError

    # Input

    def on_data(self, data: bytes) -> None:
        """Called when data has arrived. Passes on complete lines.

        In a turn that is late, they wait.
        """
        if self._loop.is_late:
            self._hold(data)
        else:
            self._read_lines(data)

    def on_held_input(self) -> None:
        """Called in turn with other streams. Passes on the next lines."""
        held, self._held = self._held, b""
        self._read_lines(held)

    def _hold(self, data: bytes) -> None:
        self._held = data
        self.hold_reading()

    def _read_lines(self, data: bytes) -> None:
        """Pass on lines: at most MAX_LINES, within PHASE_TIME, and while output is low.

        The first line is passed on in any case.
        """
        clock = self._loop.clock
        end = clock() + PHASE_TIME
        position = count = 0
        while (line_end := data.find(b"\n", position)) >= 0:
            is_enough = count and (clock() >= end or self.queued_bytes > HIGH)
            if count == MAX_LINES or is_enough:
                self._hold(data[position:])
                return
            line, position, count = data[position:line_end], line_end + 1, count + 1
            if self._is_skipping:
                self._is_skipping = False
                continue
            partial, self._partial = self._partial, None
            self.on_line(bytes(partial + line) if partial else line)
            if self.read_fd < 0:
                return
        if position < len(data) and not self._is_skipping:
            self._append(data[position:])

    def _append(self, chunk: bytes) -> None:
        if self._partial is None:
            self._partial = bytearray()
        self._partial += chunk
        if len(self._partial) > self._max_line:
            begin, self._partial = bytes(self._partial), None
            self._is_skipping = True
            self.on_line_too_long(begin, self._max_line)

    def on_line_too_long(self, begin: bytes, limit: int) -> None:
        """Called when a line exceeds its limit. Treats the peer as disconnected.

        A subclass may go on instead: the rest of the line is skipped.
        """
        self.on_peer_closing()
