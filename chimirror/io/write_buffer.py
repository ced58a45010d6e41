"""Output queue of a non-blocking descriptor.

Knows buffers and write(2), no protocol. Data that the kernel takes at once is never
queued: a queue exists only while data waits. Each entry is one unit (a frame, a batch).
`prepend` puts a unit before all others, but never into a partly written one. Short
units are joined, so that the number of entries is bounded like the number of bytes.
"""

from __future__ import annotations

from chimirror.builtin_modules import deque, os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Bytes = bytes | bytearray | memoryview

IOV_MAX = 1024
BATCH = 64  # units per call
JOINED = 4096  # bytes: units are joined up to this size
LOW = 64 * 1024
HIGH = 256 * 1024


def write_now(fd: int, buffers: Sequence[Bytes]) -> Bytes:
    """Write as much as the kernel takes.

    Returns:
        The unwritten rest. It is empty if everything is written.

    Raises:
        OSError: The descriptor is broken (EPIPE, ECONNRESET, …).
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


class WriteBuffer:
    """Queue of the units that one descriptor has not taken yet.

    Attributes:
        size: queued bytes.
    """

    __slots__ = ("_offset", "_partial", "_units", "size")

    def __init__(self, rest: Bytes) -> None:
        """Start with the rest of a unit that may be partly written."""
        self._units: deque[Bytes] = deque((rest,))
        self._partial = True
        self._offset = 0  # written bytes of the first unit: nothing is copied
        self.size = len(rest)

    def append(self, buffers: Sequence[Bytes]) -> None:
        """Append one unit. Joins it with the last, if both are short and unsent."""
        unit = buffers[0] if len(buffers) == 1 else b"".join(buffers)
        if not unit:
            return
        self.size += len(unit)
        units = self._units
        has_last = len(units) > (1 if self._partial else 0)
        if has_last and len(units[-1]) + len(unit) <= JOINED:
            last = units[-1]
            if not isinstance(last, bytearray):
                units[-1] = last = bytearray(last)
            last += unit
        else:
            units.append(unit)

    def prepend(self, unit: bytes) -> None:
        """Put a unit before all units that have not begun."""
        self._units.insert(1 if self._partial and self._units else 0, unit)
        self.size += len(unit)

    def drop_unsent(self) -> None:
        """Discard all units that have not begun."""
        while len(self._units) > (1 if self._partial else 0):
            self.size -= len(self._units.pop())

    def flush(
        self, fd: int, writev: Callable[[int, list[Bytes]], int] | None = None
    ) -> bool:
        """Write until the queue is empty or the kernel takes no more.

        Args:
            fd: the descriptor.
            writev: writes in place of os.writev.

        Returns:
            True if the queue is empty.

        Raises:
            OSError: The descriptor is broken.
        """
        units = self._units
        while units:
            batch: list[Bytes]
            batch = [units[index] for index in range(min(len(units), BATCH))]
            if self._offset:
                batch[0] = memoryview(units[0])[self._offset :]
            try:
                written = (writev or os.writev)(fd, batch)
            except BlockingIOError:
                return False
            self.size -= written
            self._advance(written)
            if self._partial:
                return False
        return True

    def _advance(self, written: int) -> None:
        """Drop written units. The rest of a partly written unit stays in front."""
        units = self._units
        written += self._offset
        while units and written >= len(units[0]):
            written -= len(units.popleft())
        self._offset = written
        self._partial = written > 0
