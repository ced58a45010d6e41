"""A gateway's connection to the control socket of a session: lines in both directions.

Knows no WebSocket and no JSON-RPC.
"""

from __future__ import annotations

from chimirror.io.line_stream import LineStream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from chimirror.io.loop import EventLoop

    class UpstreamHandler(Protocol):
        """Callbacks of an UpstreamConnection."""

        def on_upstream_line(self, line: bytes) -> None: ...

        def on_upstream_buffer_low(self) -> None: ...

        def on_upstream_lost(self) -> None: ...

        def on_error(self, error: Exception) -> None: ...


MAX_RESPONSE = 1 << 24  # bytes, since a response may be longer than its request


class UpstreamConnection(LineStream):
    """A gateway's connection to the control socket of a session."""

    __slots__ = ("_handler",)

    def __init__(self, handler: UpstreamHandler, loop: EventLoop, fd: int) -> None:
        super().__init__(loop, fd, MAX_RESPONSE)
        self._handler = handler

    def on_line(self, line: bytes) -> None:
        """Called with a response or notification."""
        self._handler.on_upstream_line(line)

    def on_write_buffer_low(self) -> None:
        """Called when queued requests are low again."""
        self._handler.on_upstream_buffer_low()

    def on_write_buffer_empty(self) -> None:
        """Do nothing: this connection closes with its gateway."""

    def on_peer_closing(self) -> None:
        """Do nothing: lines sent before the close are still to be read."""

    def on_line_too_long(self, begin: bytes, limit: int) -> None:
        """Called when a line exceeds MAX_RESPONSE."""
        self._handler.on_upstream_lost()

    def on_eof(self) -> None:
        """Called at the end of input."""
        self._handler.on_upstream_lost()

    def on_error(self, error: Exception) -> None:
        """Called with an internal error."""
        self._handler.on_error(error)
