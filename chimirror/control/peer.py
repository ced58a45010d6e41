"""A control peer of a session: a client of the control socket, or the application.

Knows lines, limits on queued bytes and status subscriptions. The subclass interprets
the lines, and the controller performs the requests.
"""

from __future__ import annotations

from chimirror.io.line_stream import LineStream
from chimirror.io.loop import NEVER
from chimirror.io.write_buffer import HIGH
from chimirror.protocol.jsonrpc import MAX_LINE, notification

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from chimirror.control.output_watcher import OutputWatcher
    from chimirror.io.loop import EventLoop
    from chimirror.protocol.jsonrpc import Object, RPCRequest

    class Controller(Protocol):
        """Methods of one session, as a control peer uses them."""

        def add_peer(self, peer: ControlPeer) -> None: ...

        def remove_peer(self, peer: ControlPeer) -> None: ...

        def add_watcher(
            self, peer: ControlPeer, watcher: OutputWatcher, uid: int
        ) -> None: ...

        def has_method(self, method: str) -> bool: ...

        def dispatch(self, call: RPCRequest, peer: ControlPeer) -> None: ...

        def broadcast(self, call: RPCRequest) -> None: ...

        def status(self) -> Object: ...

        def on_error(self, error: Exception) -> None: ...


class ControlPeer(LineStream):
    """Base of ControlConnection and ApplicationChannel.

    Args:
        loop: event loop of this process.
        fd: non-blocking socket, owned by the object from now on.
        trusted: no secret is needed.

    Attributes:
        controller: of the controlled session. None until the peer is authorized.
    """

    __slots__ = (
        "_interval",
        "_last_status",
        "armed",
        "deadline",
        "controller",
        "trusted",
    )

    def __init__(self, loop: EventLoop, fd: int, *, trusted: bool) -> None:
        super().__init__(loop, fd, MAX_LINE)
        self._interval: float | None = None  # seconds between two checks
        self._last_status: Object = {}
        self.trusted = trusted
        self.controller: Controller | None = None
        self.armed = 0
        self.deadline = NEVER

    # Defined by the subclass

    def on_disconnected(self) -> None:
        """Called when this peer has been disconnected."""
        raise NotImplementedError

    # Limits

    def on_data(self, data: bytes) -> None:
        """Called with received data. Stops reading while the peer does not read."""
        super().on_data(data)
        self._pause_if_full()

    def on_held_input(self) -> None:
        """Called in turn with other peers. Stops while the peer does not read."""
        super().on_held_input()
        self._pause_if_full()

    def _pause_if_full(self) -> None:
        if self.queued_bytes > HIGH:
            self.pause_reading()

    def on_write_buffer_low(self) -> None:
        """Called when queued output is low. Resumes reading."""
        self.resume_reading()

    def on_write_buffer_empty(self) -> None:
        """Called when all output is written. Disconnects a peer that has shut down."""
        if self.eof_received:
            self.disconnect()

    def on_eof(self) -> None:
        """Called at the end of input. Queued responses are still sent."""
        self.stop_reading()
        if not self.queued_bytes:
            self.disconnect()

    def on_peer_closing(self) -> None:
        """Called when the peer has closed the connection."""
        self.disconnect()

    def send_reply(self, answer: bytes) -> None:
        """Send a response."""
        self.write([answer])

    def notify(self, line: bytes) -> None:
        """Send a notification. Disconnects a peer that does not read."""
        if self.queued_bytes > HIGH:
            self.disconnect()
        else:
            self.write([line])

    def on_session_ended(self) -> None:
        """Called when the session has ended. Disconnects the peer."""
        self.disconnect()

    def disconnect(self) -> None:
        """Close the connection and leave the controller."""
        if self.read_fd < 0:
            return
        self._loop.cancel_timer(self)
        self.abort()
        self.on_disconnected()
        if self.controller is not None:
            self.controller.remove_peer(self)

    # Subscriptions

    def subscribe(self, interval: float) -> None:
        """Send status notifications on changes, at most one per interval in seconds."""
        self._interval = interval
        self._last_status = self._comparable_status()
        self._loop.set_timer(self, self._loop.now + interval)

    def unsubscribe(self) -> None:
        """Stop status notifications."""
        self._interval = None
        self._loop.cancel_timer(self)

    def on_timer(self, now: float) -> None:
        """Called after each interval. Sends the status if it has changed."""
        if self._interval is None or self.controller is None:
            return
        self._loop.set_timer(self, now + self._interval)
        status = self._comparable_status()
        if status != self._last_status:
            self._last_status = status
            self.notify(notification("status", self.controller.status()))

    def _comparable_status(self) -> Object:
        """Return the status without the field that always changes."""
        assert self.controller is not None
        return {**self.controller.status(), "age": 0}
