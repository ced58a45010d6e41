"""Buffers for unread output: one per stream, with the order over all streams.

Pure. The buffers only report that they are full. Then the connection is not read
until most of the output has been taken. The limit applies to the sum of all streams. A
window counts the output of the process on its way through the buffers.
"""

from __future__ import annotations

from collections import deque

from chimirror.client.errors import LineTooLong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from chimirror.client.window import OutputWindow

MAX_LINE = 16 << 20  # bytes of a line by default, as --max-line of the server
HIGH_WATER = 256 * 1024
LOW_WATER = 64 * 1024

PIECE_OVERHEAD = 128  # bytes: approximate memory cost of a piece beside its data

STREAMS = ("stdout", "stderr", "error")


class StreamBuffer:
    """Pieces of one stream, numbered by their arrival among all streams."""

    __slots__ = ("pieces", "offset", "partial", "discarding")

    def __init__(self) -> None:
        self.pieces: deque[tuple[int, bytes]] = deque()
        self.offset = 0  # bytes of the first piece that were already taken as lines
        self.partial = bytearray()  # a line without its end
        self.discarding = False


class OutputBuffer:
    """Unread output of a session.

    Args:
        window: Told of the output that arrives and that is taken or dropped.

    Attributes:
        size: Memory cost of all pieces, in bytes.
        full: Whether the connection must not be read.
    """

    __slots__ = ("_buffers", "_count", "_window", "size", "full")

    def __init__(self, window: OutputWindow) -> None:
        self._window = window
        self._buffers = {name: StreamBuffer() for name in STREAMS}
        self._count = 0
        self.size = 0
        self.full = False

    def put(self, stream: str, data: bytes) -> None:
        buffer = self._buffers[stream]
        if stream != "error":
            self._window.on_received(len(data))
            if buffer.discarding:
                self._window.on_taken(len(data))
        if buffer.discarding or not data:
            return
        self._count += 1
        buffer.pieces.append((self._count, data))
        self.size += len(data) + PIECE_OVERHEAD
        if self.size > HIGH_WATER:
            self.full = True

    def oldest(self, streams: Iterable[str]) -> str | None:
        """Return which of these streams has the oldest piece, None if all are empty."""
        non_empty = [name for name in streams if self._buffers[name].pieces]
        if len(non_empty) < 2:
            return non_empty[0] if non_empty else None
        return min(non_empty, key=lambda name: self._buffers[name].pieces[0][0])

    def discard(self, *streams: str) -> None:
        """Drop the unread and all later data of these streams."""
        for name in streams:
            buffer = self._buffers[name]
            buffer.discarding = True
            buffer.partial.clear()
            while buffer.pieces:
                self._pop(buffer)

    def take(self, streams: Collection[str]) -> tuple[str, bytes] | None:
        """Take the oldest piece of these streams."""
        # the rest of an interrupted read by lines is older than all pieces
        for name in streams:
            if partial := self._buffers[name].partial:
                data = bytes(partial)
                partial.clear()
                return name, data
        oldest = self.oldest(streams)
        return (oldest, self.pop_piece(oldest)) if oldest is not None else None

    def pop_piece(self, stream: str) -> bytes:
        """Take the first piece of a stream that is not empty."""
        buffer = self._buffers[stream]
        offset = buffer.offset
        data = self._pop(buffer)
        return data[offset:] if offset else data

    def take_line(self, stream: str, limit: int, *, last: bool) -> bytes | None:
        """Take the next line of a stream, without its LF or CR LF.

        Args:
            stream: Name of the stream.
            limit: Length of the longest line in bytes.
            last: No more data will arrive, so the rest is a line.

        Returns:
            The line, or None if no line is complete.

        Raises:
            LineTooLong: The line exceeds the limit. `take` still returns its pieces.
        """
        buffer = self._buffers[stream]
        while buffer.pieces and len(buffer.partial) <= limit:
            data = buffer.pieces[0][1]
            end = data.find(b"\n", buffer.offset)
            buffer.partial += data[buffer.offset : end if end >= 0 else None]
            buffer.offset = end + 1
            if end in (-1, len(data) - 1):
                self._pop(buffer)
            if end >= 0:
                return self._finish_line(buffer, limit, b"\n")
        if len(buffer.partial) > limit or (last and buffer.partial):
            return self._finish_line(buffer, limit, b"")
        return None

    def _finish_line(self, buffer: StreamBuffer, limit: int, end: bytes) -> bytes:
        if len(buffer.partial) > limit:
            buffer.partial += end
            raise LineTooLong(f"a line of output is longer than {limit} bytes")
        line = bytes(buffer.partial)
        buffer.partial.clear()
        return line.removesuffix(b"\r") if end else line

    def clear_full(self) -> bool:
        """Clear `full` if the size is below the high-water mark.

        Used when a caller waits for a stream that is empty, although the low-water mark
        has not been reached.

        Returns:
            Whether there is room for more data.
        """
        if self.size < HIGH_WATER:
            self.full = False
        return not self.full

    def _pop(self, buffer: StreamBuffer) -> bytes:
        _, data = buffer.pieces.popleft()
        buffer.offset = 0
        if buffer is not self._buffers["error"]:
            self._window.on_taken(len(data))
        self.size -= len(data) + PIECE_OVERHEAD
        if self.size <= LOW_WATER:
            self.full = False
        return data
