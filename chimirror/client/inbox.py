"""What has come and was not read yet: each stream in order, and all of them.

Pure. It holds what it is given, and says when that is too much: then the connection
is not read until most of it has gone. What one stream holds counts for all.
"""

from __future__ import annotations

from collections import deque

from .errors import LineTooLong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

HIGH = 256 * 1024
LOW = 64 * 1024

OVERHEAD = 128  # bytes: about what a piece costs beside its data

STREAMS = ("stdout", "stderr", "error")


class Pipe:
    """One stream: pieces, numbered in the order in which all streams' came."""

    __slots__ = ("pieces", "offset", "partial", "discarding")

    def __init__(self) -> None:
        self.pieces: deque[tuple[int, bytes]] = deque()
        self.offset = 0  # of the first piece: up to here it was taken as lines
        self.partial = bytearray()  # a line that has no end yet
        self.discarding = False


class Inbox:
    """The streams of a session.

    Attributes:
        size: what the pieces cost, in bytes.
        full: no more is wanted.
    """

    __slots__ = ("_pipes", "_count", "size", "full")

    def __init__(self) -> None:
        self._pipes = {name: Pipe() for name in STREAMS}
        self._count = 0
        self.size = 0
        self.full = False

    def put(self, stream: str, data: bytes) -> None:
        pipe = self._pipes[stream]
        if pipe.discarding or not data:
            return
        self._count += 1
        pipe.pieces.append((self._count, data))
        self.size += len(data) + OVERHEAD
        if self.size > HIGH:
            self.full = True

    def oldest(self, streams: Iterable[str]) -> str | None:
        """Which of these streams has the oldest piece; None if none has any."""
        ready = [name for name in streams if self._pipes[name].pieces]
        if len(ready) < 2:
            return ready[0] if ready else None
        return min(ready, key=lambda name: self._pipes[name].pieces[0][0])

    def discard(self, *streams: str) -> None:
        """Drop what these hold, and what will come."""
        for name in streams:
            pipe = self._pipes[name]
            pipe.discarding = True
            pipe.partial.clear()
            while pipe.pieces:
                self._drop(pipe)

    def take(self, streams: Collection[str]) -> tuple[str, bytes] | None:
        """The oldest piece of these streams."""
        for name in streams:  # what a reader of lines has left is older than all
            if partial := self._pipes[name].partial:
                data = bytes(partial)
                partial.clear()
                return name, data
        oldest = self.oldest(streams)
        return (oldest, self.piece(oldest)) if oldest is not None else None

    def piece(self, stream: str) -> bytes:
        """The first piece of a stream that has one."""
        pipe = self._pipes[stream]
        offset = pipe.offset
        data = self._drop(pipe)
        return data[offset:] if offset else data

    def line(self, stream: str, limit: int, *, last: bool) -> bytes | None:
        """The next line of a stream, without its LF or CR LF.

        Args:
            limit: the longest that there may be.
            last: nothing more will come, so that what there is is a line.

        Raises:
            LineTooLong: this one is longer; `take` still gives its pieces.
        """
        pipe = self._pipes[stream]
        while pipe.pieces and len(pipe.partial) <= limit:
            data = pipe.pieces[0][1]
            end = data.find(b"\n", pipe.offset)
            pipe.partial += data[pipe.offset : end if end >= 0 else None]
            pipe.offset = end + 1
            if end in (-1, len(data) - 1):
                self._drop(pipe)
            if end >= 0:
                return self._ended(pipe, limit, b"\n")
        if len(pipe.partial) > limit or (last and pipe.partial):
            return self._ended(pipe, limit, b"")
        return None

    def _ended(self, pipe: Pipe, limit: int, end: bytes) -> bytes:
        if len(pipe.partial) > limit:
            pipe.partial += end
            raise LineTooLong(f"a line of output is longer than {limit} bytes")
        line = bytes(pipe.partial)
        pipe.partial.clear()
        return line.removesuffix(b"\r") if end else line

    def relax(self) -> bool:
        """Whether there is room after all, though not enough to go on by itself."""
        if self.size < HIGH:
            self.full = False
        return not self.full

    def _drop(self, pipe: Pipe) -> bytes:
        _, data = pipe.pieces.popleft()
        pipe.offset = 0
        self.size -= len(data) + OVERHEAD
        if self.size <= LOW:
            self.full = False
        return data
