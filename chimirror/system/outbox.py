"""Bytes on their way out of a non-blocking descriptor.

Knows buffers and write(2), no protocol. What the kernel takes at once is never kept;
the box exists only while something waits. Each entry is one unit (a frame, a batch):
`push_front` puts a unit before all others, but never inside one that is half written.
"""

from __future__ import annotations

from chimirror.system.lean import deque, os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Bytes = bytes | bytearray

IOV_MAX = 1024
BATCH = 64  # units per call
LOW = 64 * 1024
HIGH = 256 * 1024


def write_now(fd: int, buffers: Sequence[Bytes]) -> Bytes:
    """Write what the kernel takes and return the rest (empty: everything is out).

    Raises:
        OSError: the descriptor is broken (EPIPE, ECONNRESET, …).
    """
    try:
        if len(buffers) == 1:
            buffer = buffers[0]
            written = os.write(fd, buffer)
            return buffer[written:] if written < len(buffer) else b""
        written = os.writev(fd, buffers[:IOV_MAX])
    except BlockingIOError:
        return b"".join(buffers)
    for index, buffer in enumerate(buffers):
        if written < len(buffer):
            return b"".join([buffer[written:], *buffers[index + 1 :]])
        written -= len(buffer)
    return b""


class Outbox:
    """What one descriptor could not take yet, in order."""

    __slots__ = ("_offset", "_partial", "_units", "size")

    def __init__(self, rest: Bytes) -> None:
        """Start with the rest of a unit of which some may have been written."""
        self._units: deque[Bytes] = deque((rest,))
        self._partial = True
        self._offset = 0  # what of the first unit is written: nothing is copied
        self.size = len(rest)

    def push(self, buffers: Sequence[Bytes]) -> None:
        """Append one unit."""
        unit = buffers[0] if len(buffers) == 1 else b"".join(buffers)
        self._units.append(unit)
        self.size += len(unit)

    def push_front(self, unit: bytes) -> None:
        """Put a unit before all that have not begun."""
        self._units.insert(1 if self._partial and self._units else 0, unit)
        self.size += len(unit)

    def drop_unsent(self) -> None:
        """Forget every unit that has not begun."""
        while len(self._units) > (1 if self._partial else 0):
            self.size -= len(self._units.pop())

    def flush(self, fd: int) -> bool:
        """Write until the box is empty (True) or the kernel takes no more.

        Raises:
            OSError: the descriptor is broken.
        """
        units = self._units
        while units:
            batch: list[Bytes | memoryview]
            batch = [units[index] for index in range(min(len(units), BATCH))]
            if self._offset:
                batch[0] = memoryview(units[0])[self._offset :]
            try:
                written = os.writev(fd, batch)
            except BlockingIOError:
                return False
            self.size -= written
            self._advance(written)
            if self._partial:
                return False
        return True

    def _advance(self, written: int) -> None:
        """Drop what has been written; what is left of a unit stays in front."""
        units = self._units
        written += self._offset
        while units and written >= len(units[0]):
            written -= len(units.popleft())
        self._offset = written
        self._partial = written > 0
