"""One client WebSocket, sans-I/O: received bytes to messages, messages to bytes.

The protocol is that of the `websockets` library (RFC 6455, without extensions). This
module orders queued messages, detects a dead server with pings, and limits the time
of the close. The clock is passed in. A violation of the protocol closes the WebSocket
and is stored in `fault`: no exception is raised for the behaviour of a server.

The I/O layers of the library are not used. Its threads hold one lock during a blocking
send and need the same lock to receive. So an echo (`chimirror-connect URL <big | less`)
deadlocks once both directions are full (measured with a reader that pauses for 4 s).
"""

from __future__ import annotations

import math
from collections import deque

from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode
from websockets.protocol import CONNECTING, OPEN

from chimirror.text import escape_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from websockets.client import ClientProtocol

MAX_PENDING = 256 * 1024  # queued bytes above which senders wait
# A frame takes about as long as 4 KiB of data. So a turn ends with the slice that
# reaches MAX_FRAMES: other connections of an event loop, and other threads, are served.
MAX_FRAMES = 256
SLICE_SIZE = 2048  # bytes, at most half as many frames
MAX_SLICE_SIZE = 8192  # bytes of a slice behind others that have completed no frame
MAX_FIRST = 1024  # bytes of a response that may name a fault of TLS
# seconds for the closing handshake, and for the close after an exit
CLOSE_TIMEOUT = 2.0


class WebSocketProtocol:
    """A WebSocket over a connection that a Transport owns.

    Attributes:
        protocol: Protocol of the library, with a queued request.
        clock: Returns monotonic time in seconds.
        pending_bytes: Number of queued bytes.
        frames_received: Number of frames of the server so far.
        fault: Description of the server's protocol violation, None without one.
        first_bytes: The first bytes of the response to the handshake.
        lost_reason: Cause of the loss of the connection. "" for the end of the stream,
            None while connected.
        tls_reason: Reason of OpenSSL for that loss, "" for other causes.
        unanswered_pings: Pings of the caller since the last answered one.
    """

    __slots__ = (
        "protocol",
        "clock",
        "pending_bytes",
        "frames_received",
        "fault",
        "first_bytes",
        "lost_reason",
        "tls_reason",
        "unanswered_pings",
        "_urgent",
        "_urgent_size",
        "_queue",
        "_unsent",
        "_received",
        "_fragments",
        "_close_frame",
        "_sending_closed",
        "_interval",
        "_max_silence",
        "_last_received",
        "_last_ping",
        "_ping_count",
        "_reading",
        "_close_deadline",
    )

    def __init__(
        self,
        protocol: ClientProtocol,
        clock: Callable[[], float],
        ping_interval: float | None = 20,
        ping_timeout: float = 20,
    ) -> None:
        self.protocol = protocol
        self.clock = clock
        self.pending_bytes = 0
        self.frames_received = 0
        self.fault: str | None = None
        self.first_bytes = b""
        self.lost_reason: str | None = None
        self.tls_reason = ""
        self.unanswered_pings = 0
        self._urgent: deque[bytes] = deque()  # whole frames that overtake the queue
        self._urgent_size = 0  # bytes in _urgent
        self._queue: deque[bytes] = deque()
        self._unsent = memoryview(b"")  # rest of the frame that is being sent
        self._received = memoryview(b"")  # the rest of the last data
        self._fragments: bytearray | None = None  # of a fragmented message
        # code and reason of the close after the queue
        self._close_frame: tuple[int, str] | None = None
        self._sending_closed = False  # nothing is queued any more
        self._interval = math.inf if ping_interval is None else ping_interval
        self._max_silence = self._interval + ping_timeout
        self._last_received = self._last_ping = clock()
        self._ping_count = 0
        self._reading = True
        self._close_deadline = math.inf  # when the connection is given up
        self._collect(self._queue)

    # State.

    @property
    def connecting(self) -> bool:
        """Whether the response to the opening handshake is still missing."""
        request = self.protocol.state is CONNECTING
        return (
            request and self.protocol.handshake_exc is None and self.lost_reason is None
        )

    @property
    def open(self) -> bool:
        """Whether messages can be sent."""
        return self.protocol.state is OPEN and not self._sending_closed

    @property
    def full(self) -> bool:
        return self.pending_bytes >= MAX_PENDING

    @property
    def close_received(self) -> tuple[int, str] | None:
        close = self.protocol.close_rcvd
        return (close.code, close.reason) if close is not None else None

    @property
    def ended(self) -> bool:
        """Whether no more messages can arrive."""
        closed = self.protocol.close_rcvd is not None or self.fault is not None
        return closed or self.lost_reason is not None

    # Sending.

    def send(self, message: bytes, *, urgent: bool = False) -> None:
        """Queue a text message. An urgent message overtakes the queue."""
        if self.open:
            self.protocol.send_text(message)
            self._collect(self._urgent if urgent else self._queue)

    def ping(self) -> None:
        """Send a ping and count it in `unanswered_pings` until its pong arrives."""
        if self.open:
            self._ping_count += 1
            self.unanswered_pings += 1
            self._ping(b"%d" % self._ping_count)

    def _ping(self, payload: bytes) -> None:
        self.protocol.send_ping(payload)
        self._collect(self._urgent)

    def _collect(self, queue: deque[bytes]) -> None:
        for data in self.protocol.data_to_send():
            # b"" asks for a half-close, which the close of the socket replaces
            if data:
                queue.append(data)
                self.pending_bytes += len(data)
                if queue is self._urgent:
                    self._urgent_size += len(data)

    def next_data(self) -> memoryview:
        """Return the next bytes to send, empty if there are none."""
        if not self._unsent and self._urgent:  # pongs: together, for one system call
            self._unsent = memoryview(b"".join(self._urgent))
            self._urgent.clear()
            self._urgent_size = 0
        elif not self._unsent and self._queue:
            self._unsent = memoryview(self._queue.popleft())
        return self._unsent

    def on_sent(self, size: int) -> None:
        """Called when `size` bytes of the data have been sent."""
        self.pending_bytes -= size
        self._unsent = self._unsent[size:]
        if not self.pending_bytes and self._close_frame:
            self._send_close()

    def on_send_failed(self) -> None:
        """Called when sending fails. Received data can still be read."""
        self._sending_closed = True
        self._close_frame = None
        self._drop_queued()
        self._unsent = memoryview(b"")
        self.pending_bytes = 0

    def _drop_queued(self) -> None:
        """Drop all queued frames except one that is partly sent."""
        self._queue.clear()
        self._urgent.clear()
        self._urgent_size = 0
        self.pending_bytes = len(self._unsent)

    # Receiving.

    @property
    def has_received_data(self) -> bool:
        """Whether `data_received` has left bytes for its next call."""
        return bool(self._received)

    def data_received(self, data: bytes) -> list[bytes]:
        """Called when bytes have arrived. Returns the messages that they complete.

        After MAX_FRAMES frames the rest is left for the next call, with b"".
        """
        self._last_received = self.clock()
        if self.protocol.state is CONNECTING and len(self.first_bytes) < MAX_FIRST:
            self.first_bytes += data[:MAX_FIRST]
        received = memoryview(bytes(self._received) + data if self._received else data)
        messages: list[bytes] = []
        at, size, count = 0, SLICE_SIZE, 0
        while at < len(received) and count < MAX_FRAMES:
            self.protocol.receive_data(bytes(received[at : at + size]))
            at += size
            events = self.protocol.events_received()
            for event in events:
                if isinstance(event, Frame) and self.fault is None:
                    self._assemble(event, messages)
            size = SLICE_SIZE if events else min(2 * size, MAX_SLICE_SIZE)
            count += len(events)
        self._received = received[at:]
        self.frames_received += count
        self._check_protocol()
        return messages

    def _assemble(self, frame: Frame, messages: list[bytes]) -> None:
        if frame.opcode is Opcode.TEXT and frame.fin:
            messages.append(bytes(frame.data))
        elif frame.opcode is Opcode.TEXT:
            self._fragments = bytearray(frame.data)
        elif frame.opcode is Opcode.CONT and self._fragments is not None:
            self._fragments += frame.data
            if frame.fin:
                messages.append(bytes(self._fragments))
                self._fragments = None
        elif frame.opcode is Opcode.BINARY:
            self.fail(1003, "a message is binary")
        elif frame.opcode is Opcode.PONG and frame.data == b"%d" % self._ping_count:
            self.unanswered_pings = 0

    def _check_protocol(self) -> None:
        """Check the protocol after new bytes for a violation or a close frame."""
        error = self.protocol.parser_exc
        if error is not None and not isinstance(error, EOFError) and not self.fault:
            known = isinstance(error, (WebSocketException, UnicodeDecodeError))
            reason = escape_line(str(error)) if known else type(error).__name__
            self.fault = f"the server broke the WebSocket protocol: {reason}"
        if self.fault is not None or self.protocol.close_rcvd is not None:
            if not self._sending_closed:
                self._sending_closed = True
                self._close_frame = None
                self._drop_queued()  # data after a close frame are not read
            self.start_close_timer()
        self._collect(self._urgent)

    def fail(self, code: int, reason: str) -> None:
        """Close because the server violates the framing, and store the cause."""
        if self.fault is None:
            kind = self.protocol.subprotocol or "the framing"
            self.fault = f"the server violates {kind}: {reason}"
            self._send_close(code)

    # Closing.

    def close(self, code: int, reason: str) -> None:
        """Close after all queued messages. Nothing can be queued any more."""
        if self.open:
            self._sending_closed = True
            self._close_frame = (code, reason)
            if not self.pending_bytes:
                self._send_close()
        self.start_close_timer()

    def abort(self) -> None:
        """Close ahead of queued messages, without waiting for the server."""
        self._send_close(1001)
        self._close_deadline = -math.inf

    def _send_close(self, code: int = 1000) -> None:
        code, reason = self._close_frame or (code, "")
        self._close_frame = None
        self._sending_closed = True
        self._drop_queued()
        if self.protocol.state is OPEN:
            self.protocol.send_close(code, reason)
            self._collect(self._urgent)
        self.start_close_timer()

    def start_close_timer(self) -> None:
        """Give the server CLOSE_TIMEOUT seconds to close the connection."""
        self._close_deadline = min(self._close_deadline, self.clock() + CLOSE_TIMEOUT)

    def on_connection_lost(self, reason: str, tls_reason: str = "") -> None:
        """Called when the connection has ended."""
        if self.lost_reason is None:
            self.protocol.receive_eof()
            self.lost_reason, self.tls_reason = reason, tls_reason
            self.on_send_failed()

    # Timers.

    def can_read(self, wanted: bool) -> bool:
        """Return whether to read the connection.

        Pongs to a server that pings without reading are limited as well.

        Args:
            wanted: Whether the protocol accepts more messages.
        """
        reading = wanted and self._urgent_size < MAX_PENDING
        if reading and not self._reading:
            self._last_received = self.clock()  # no data could be received before
        self._reading = reading
        return reading

    def tick(self) -> None:
        """Run the timers, and end the connection after the closing handshake.

        Pings a silent server. While the connection is not read, pongs are not read
        either, so that a server cannot be declared dead. Then the client still sends
        pings, because the server's own pings go unanswered, and any byte shows it that
        the client is alive. While queued data cannot be sent, TCP detects a dead
        server.
        """
        now = self.clock()
        done = self.protocol.close_rcvd is not None and not self.pending_bytes
        if done or now >= self._close_deadline:
            self.on_connection_lost("")
        if not self.open:
            return
        if not self._reading or self.pending_bytes:
            self._last_received = now
        elif now - self._last_received >= self._max_silence:
            seconds = f"{self._max_silence:g} s"
            self.on_connection_lost(f"nothing received for {seconds}, not even a pong")
            return
        silent = not self._reading or now - self._last_received >= self._interval
        if silent and now - self._last_ping >= self._interval:
            self._last_ping = now
            self._ping(b"alive")
        elif not silent:
            self._last_ping = max(self._last_ping, self._last_received)

    def next_deadline(self) -> float:
        """Return when `tick` must be called next, infinity for never."""
        if self.lost_reason is not None:
            return math.inf
        if not self.open:
            return self._close_deadline
        # A deadline in the past does not apply in the current state (see `tick`).
        now = self.clock()
        times = (
            self._last_ping + self._interval,
            self._last_received + self._max_silence,
        )
        return min([at for at in times if at > now] + [self._close_deadline])
