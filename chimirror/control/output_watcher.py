"""Copies output of a session to one control client, as far as the client reads.

The copy is bounded by the write buffer of the client. Beyond the bound, output is
skipped until most of the buffer is sent. The number of skipped bytes then follows, in
the place of these bytes. Nothing waits: the application and its client never notice a
watcher. Knows neither sessions nor sockets. chimirror-protocol(7) has the messages.
"""

from __future__ import annotations

from chimirror.framing.json_framing import encode_base64
from chimirror.io.write_buffer import HIGH
from chimirror.protocol.jsonrpc import notification

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    class OutputReceiver(Protocol):
        """Control client with a write buffer."""

        @property
        def queued_bytes(self) -> int: ...

        def write(self, buffers: Sequence[bytes]) -> None: ...


def output_line(stream: str, chunk: bytes) -> bytes:
    """Return the notification for a piece of output, for all watchers."""
    start = b'{"jsonrpc":"2.0","method":"output","params":{"stream":"%b","payload":"'
    return start % stream.encode() + encode_base64(chunk) + b'"}}\n'


class OutputWatcher:
    """The copy of a session's output for one client.

    Args:
        receiver: gets the lines. At most HIGH bytes and one line are queued there.
    """

    __slots__ = ("_receiver", "_skipped")

    def __init__(self, receiver: OutputReceiver) -> None:
        self._receiver = receiver
        self._skipped = 0  # bytes of output that no line has reported

    @property
    def is_skipping(self) -> bool:
        """Whether the client gets no output now, because too much is queued."""
        return self._skipped > 0 or self._receiver.queued_bytes > HIGH

    def send(self, line: bytes) -> None:
        """Send output, of which the result of `output_line` is the line."""
        self._receiver.write([line])

    def skip(self, size: int) -> None:
        """Skip so many bytes of output."""
        self._skipped += size

    def on_room(self) -> None:
        """Called when little is queued. Reports what was skipped."""
        if self._skipped:
            size, self._skipped = self._skipped, 0
            self._receiver.write([notification("skipped", {"bytes": size})])

    def finish(self, ended: bytes) -> None:
        """Send the last line, after a report of what was skipped."""
        self.on_room()
        self._receiver.write([ended])
