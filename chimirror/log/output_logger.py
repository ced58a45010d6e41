"""Cuts application output into lines for the log, and holds the lines until then.

Lines that wait pause their stream, so the pipe fills and the application waits. One
chunk and one unfinished line are held for each stream. Knows the event log by one
method, and no session object.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class OutputSource(Protocol):
        """The application process, whose streams wait for the log."""

        def pause_stream(self, stream: str) -> None: ...

        def resume_stream(self, stream: str) -> None: ...

    class LineLog(Protocol):
        """The event log, as an OutputLogger knows it."""

        def add_output(self, output: OutputLogger) -> None:
            """Write the lines of this output, and its last record, when possible."""


class LineBuffer:
    """Output of one stream that is not written yet.

    Args:
        stream: `stdout` or `stderr`.

    Attributes:
        has_ended: whether an unterminated rest is a line, too.
        is_paused: whether the stream waits for the log.
        constant: encoded parts that all records of the stream share. Belongs to the
            writer of the records.
    """

    __slots__ = (
        "_data",
        "_ends",
        "_start",
        "constant",
        "has_ended",
        "is_paused",
        "stream",
    )

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.has_ended = self.is_paused = False
        self.constant: tuple[bytes, bytes] | None = None
        self._data = b""
        self._start = 0  # of the first line that is not written
        self._ends: list[int] = []  # of the lines that peek has returned

    @property
    def size(self) -> int:
        """Number of bytes that are not written yet."""
        return len(self._data) - self._start

    def append(self, chunk: bytes) -> None:
        """Add output."""
        self._data = self._data[self._start :] + chunk if self.size else chunk
        self._start = 0

    def has_lines(self, max_size: int) -> bool:
        """Return True if a record can be made of the content."""
        return (
            self.size > max_size
            or (self.has_ended and self.size > 0)
            or self._data.find(b"\n", self._start) >= 0
        )

    def peek(self, count: int, max_size: int) -> list[bytes]:
        """Return the next lines without their ends. Empty lines are skipped.

        Args:
            count: number of lines to look at, empty ones included.
            max_size: bytes of a line. A longer line is cut between characters.
        """
        data, position = self._data, self._start
        lines: list[bytes] = []
        ends: list[int] = []
        for _ in range(count):
            end = data.find(b"\n", position, position + max_size + 1)
            following = end + 1
            if end < 0:
                if len(data) - position > max_size:
                    piece = _whole_characters(data[position : position + max_size])
                    end = position + len(piece)
                elif self.has_ended:
                    end = len(data)
                else:
                    break
                following = end
            line = data[position:end].rstrip(b"\r")
            position = following
            if line:
                lines.append(line)
                ends.append(position)
            elif lines:
                ends[-1] = position
            else:
                self._start = position
        self._ends = ends
        return lines

    def consume(self, count: int) -> None:
        """Remove the first `count` lines that `peek` returned."""
        if count:
            self._start = self._ends[count - 1]
        if self._start == len(self._data):
            self.clear()

    def clear(self) -> None:
        """Remove everything."""
        self._data, self._start = b"", 0

    def count(self) -> int:
        """Count the lines."""
        lines = self._data[self._start :].split(b"\n")
        return len(lines) - lines.count(b"")


class OutputLogger:
    """The output of one application on its way to the log.

    Args:
        log: writes the lines.
        session_id: id of the session, part of each record.
        source: its streams are paused while their lines wait.
        user: name of the session's client, part of each record, or "".

    Attributes:
        has_ended: whether the application has ended.
        is_queued: whether the log has it in its queue.
        encode_final: returns the record that follows the last line, if there is one.
        dropped: number of lines that could not be written.
        unreported: number of those that no record has reported yet.
    """

    __slots__ = (
        "_buffers",
        "_log",
        "_source",
        "dropped",
        "encode_final",
        "has_ended",
        "is_queued",
        "session_id",
        "unreported",
        "user",
    )

    def __init__(
        self, log: LineLog, session_id: str, source: OutputSource, user: str = ""
    ) -> None:
        self._log = log
        self.session_id = session_id
        self.user = user
        self._source: OutputSource | None = source
        self._buffers: list[LineBuffer] = []
        self.has_ended = self.is_queued = False
        self.encode_final: Callable[[int], bytes] | None = None
        self.dropped = self.unreported = 0

    def write(self, stream: str, chunk: bytes) -> None:
        """Add output of a stream."""
        self._buffer(stream).append(chunk)
        self._log.add_output(self)

    def _buffer(self, stream: str) -> LineBuffer:
        for buffer in self._buffers:
            if buffer.stream == stream:
                return buffer
        buffer = LineBuffer(stream)
        self._buffers.append(buffer)
        return buffer

    def finish(self) -> None:
        """Called when the application has ended. Its last line may be unterminated."""
        self.has_ended = True
        self._source = None
        for buffer in self._buffers:
            buffer.has_ended = True
        self._log.add_output(self)

    # For the log

    @property
    def size(self) -> int:
        """Number of bytes that are held."""
        return sum(buffer.size for buffer in self._buffers)

    def has_lines(self, max_size: int) -> bool:
        """Return True if a record can be made of the content."""
        return any(buffer.has_lines(max_size) for buffer in self._buffers)

    def next_buffer(self, max_size: int) -> LineBuffer | None:
        """Return a buffer that has lines. Two streams are returned by turns."""
        for buffer in self._buffers:
            if buffer.has_lines(max_size):
                if len(self._buffers) > 1:
                    self._buffers.remove(buffer)
                    self._buffers.append(buffer)
                return buffer
        return None

    def pause(self, max_size: int) -> None:
        """Pause the streams that have lines."""
        for buffer in self._buffers:
            if self._source and not buffer.is_paused and buffer.has_lines(max_size):
                buffer.is_paused = True
                self._source.pause_stream(buffer.stream)

    def resume(self, buffer: LineBuffer) -> None:
        """Resume a stream whose lines are written."""
        if buffer.is_paused:
            buffer.is_paused = False
            if self._source is not None:
                self._source.resume_stream(buffer.stream)

    def discard(self) -> int:
        """Remove all lines. Returns their number."""
        count = sum(buffer.count() for buffer in self._buffers)
        for buffer in self._buffers:
            buffer.clear()
        return count


def _whole_characters(chunk: bytes) -> bytes:
    """Remove an incomplete UTF-8 character from the end."""
    for back in range(1, 4):
        if chunk[-back] & 0xC0 == 0xC0:
            length = 2 + (chunk[-back] >= 0xE0) + (chunk[-back] >= 0xF0)
            return chunk[:-back] if length > back else chunk
        if chunk[-back] < 0x80:
            break
    return chunk
