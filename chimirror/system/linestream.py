"""A stream of lines, of a bounded length, over one socket.

Little is read at a time, so that a flood of lines takes little of a turn: streams that
carry data come first. Knows no protocol.
"""

from __future__ import annotations

from chimirror.system.stream import Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.system.loop import Loop

READ_SIZE = 4096


class LineStream(Stream):
    """See the module; a subclass says what a line means.

    Args:
        longest: bytes of a line.
    """

    __slots__ = ("_begun", "_longest")
    read_size = READ_SIZE

    def __init__(self, loop: Loop, fd: int, longest: int) -> None:
        super().__init__(loop, fd, fd)
        self._longest = longest
        self._begun: bytearray | None = None

    # For the subclass to define

    def on_line(self, line: bytes) -> None:
        """A line has come, without its end."""
        raise NotImplementedError

    # Input

    def on_data(self, data: bytes) -> None:
        """Lines, or pieces of them."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            begun, self._begun = self._begun, None
            self.on_line(bytes(begun + line) if begun else line)
            if self.source < 0:
                return
        if rest:
            self._keep(rest)

    def _keep(self, piece: bytes) -> None:
        if self._begun is None:
            self._begun = bytearray()
        self._begun += piece
        if len(self._begun) > self._longest:
            self.on_too_long()

    def on_too_long(self) -> None:
        """No line is as long as this: whoever sends it is left."""
        self.on_leaving()
