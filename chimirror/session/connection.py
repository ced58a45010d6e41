"""The socket half of a session: frames, keepalive and an orderly close (RFC 6455).

Knows frames over a byte stream. Knows neither the meaning of a message nor processes.
The handler receives the request head, frames, buffer levels and the end.

One call of the handler gets a bounded number of frames, because each costs time however
short it is. The connection holds the rest of the input and waits for its turn.

The connection always ends in the same steps:
- Write the queued output, then the close frame or the rest of the response.
- Call shutdown(SHUT_WR).
- Read and discard input until its end, for at most two seconds.
- Close the descriptor. Closing with unread input would reset the connection and lose
  the last output.
"""

from __future__ import annotations

from chimirror.io.loop import NEVER
from chimirror.io.stream import Stream
from chimirror.protocol import frame_format, frame_reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Protocol

    from chimirror.config import Config
    from chimirror.framing import Buffer
    from chimirror.io.loop import EventLoop
    from chimirror.protocol.frame_reader import Event
    from chimirror.session.keepalive import Keepalive

    class ConnectionHandler(Protocol):
        """Callbacks of a Connection."""

        def on_head(self, data: bytes) -> None: ...

        def on_head_timeout(self) -> None: ...

        def on_head_eof(self) -> None: ...

        def on_frames(self, events: list[Event], size: int) -> None: ...

        def on_output_buffer_low(self) -> None: ...

        def on_peer_closing(self) -> None: ...

        def on_peer_lost(self, reason: str) -> None: ...

        def on_connection_closed(self) -> None: ...

        def next_timeout(self, now: float) -> float: ...

        def on_error(self, error: Exception) -> None: ...


CONNECTING, OPEN, CLOSING, LINGERING, CLOSED = range(5)

# seconds, for the close frame to leave and for the peer's last input
CLOSE_TIMEOUT = 2.0
# seconds, for a client that takes its response slowly
RESPONSE_TIMEOUT = 60.0
MAX_FRAMES = 1024  # frames of one call: 0.1 to 2 ms
MAX_LATE_FRAMES = 16  # the same, for input that arrives in a turn that is late
# Bytes: larger input, and the end of a larger message, wait in a turn that is late. The
# JSON of a message of 1 MB takes 20 to 60 ms.
MAX_LATE_SIZE = 4096


class Connection(Stream):
    """One client's connection, from its first byte to the closed descriptor.

    Args:
        handler: receives all events of this connection.
        loop: event loop of this process.
        config: options of the command line. Set to those of the application before
            `open`.
        read_fd, write_fd: one socket or two pipes, owned by the connection from now on.
    """

    __slots__ = (
        "_guarded",
        "_keepalive",
        "_handler",
        "_pong",
        "_reader",
        "_unsent",
        "armed",
        "config",
        "deadline",
        "state",
    )

    def __init__(
        self,
        handler: ConnectionHandler,
        loop: EventLoop,
        config: Config,
        read_fd: int,
        write_fd: int,
    ) -> None:
        super().__init__(loop, read_fd, write_fd)
        self._handler = handler
        self.config = config
        self.state = CONNECTING
        self._reader: frame_reader.FrameReader | None = None
        # Time of the end whatever the client does. NEVER: it may still take output.
        # 0: keepalive judges the client, not CLOSE_TIMEOUT.
        self._guarded = 0.0
        self._keepalive: Keepalive | None = None  # set by the first check
        self._pong: bytes | None = None
        self._unsent = 0
        self.armed = 0
        self.deadline = NEVER

    # From the request to the open connection

    def start(self) -> None:
        """Read the request.

        The request has usually arrived already. Reading now saves a turn and a timer.
        """
        self.read_request()
        if self.state == CONNECTING and not self.paused:
            self._loop.set_timer(self, self._loop.now + self.config.handshake_timeout)

    def read_request(self) -> None:
        """Read the bytes of a request that have arrived, before their turn."""
        if self.state == CONNECTING and not self.paused:
            try:
                self._read()
            except Exception as error:  # noqa: BLE001 (as in a turn of the loop)
                self.on_error(error)

    def pause_until_response(self, *, notices_end: bool = False) -> None:
        """Stop reading once the request is complete, until the response is sent.

        Args:
            notices_end: poll for the end of the client from now on. Otherwise that
                begins with unread data, which saves a system call of each start.
        """
        self._loop.cancel_timer(self)
        self.pause_reading()
        if notices_end:
            self._watch()

    def peer_variables(self) -> dict[str, str]:
        """Return the variables of an application that the connection knows."""
        return {}

    def peer_certificate(self) -> Mapping[str, Any] | None:
        """Return the verified certificate of the client, as the ssl module does."""
        return None

    def set_handler(self, handler: ConnectionHandler) -> None:
        """Replace the handler once the request has shown its purpose."""
        self._handler = handler

    def send_response(self, response: bytes) -> None:
        """Send a final HTTP response and close, within RESPONSE_TIMEOUT."""
        if self.state == CONNECTING:
            self._unsent = len(response)
            self._begin_close([response], self._loop.now + RESPONSE_TIMEOUT)

    def open(
        self,
        response: bytes,
        early: bytes,
        max_message: int = 0,
        *,
        takes_binary: bool = False,
        hold: bool = False,
    ) -> None:
        """Send the 101 response and serve the frames that followed the request.

        Args:
            response: the 101 response and the first messages.
            early: bytes that followed the request head.
            max_message: in place of --max-message, until `set_max_message`.
            takes_binary: binary messages are not errors.
            hold: queue the response and all output until `release_output`.
        """
        self.state = OPEN
        self._reader = frame_reader.FrameReader(
            max_message or self.config.max_message, takes_binary=takes_binary
        )
        self.resume_reading()
        self._loop.set_timer(self, self._loop.now)
        if hold:
            self.hold_output(response)
        else:
            self.write([response])
        if early:
            self.on_data(early)

    def set_max_message(self, size: int) -> None:
        """Set the limit for messages that have not begun."""
        if self._reader is not None:
            self._reader.set_max_message(size)

    # Output

    def send(self, buffers: Sequence[Buffer]) -> None:
        """Send complete data frames. Drops them unless the connection is open."""
        if self.state == OPEN:
            self.write(buffers)

    def send_pong(self, payload: bytes) -> None:
        """Answer a ping before queued data."""
        if self.state != OPEN:
            return
        if self.write_buffer is None:
            self.write([frame_format.pong(payload)])
        else:
            # RFC 6455, 5.5.3: answering the most recent ping is enough
            self._pong = payload

    def flush(self) -> None:
        """Write queued output, a pending pong first."""
        if self._pong is not None:
            self.write_urgent(frame_format.pong(self._pong))
            self._pong = None
        super().flush()

    def on_write_buffer_low(self) -> None:
        """Called when queued output is low again."""
        if self.state == OPEN:
            self._handler.on_output_buffer_low()

    # Input

    def resume_reading(self) -> None:
        """Resume reading. The pause does not count as silence of the client."""
        if self._paused and self._keepalive is not None:
            self._keepalive.on_data_received(self._loop.now)
        super().resume_reading()

    def on_data(self, data: bytes) -> None:
        """Called with received data, which a closing connection ignores.

        The handler gets the first frames. The connection holds the rest.
        """
        if self._keepalive is not None:
            self._keepalive.on_data_received(self._loop.now)
        reader = self._reader
        if reader is not None:  # the connection is open
            limit = MAX_FRAMES
            if self._loop.is_late:
                size = max(len(data), reader.partial_size)
                limit = MAX_LATE_FRAMES if size <= MAX_LATE_SIZE else 0
            self._handler.on_frames(reader.receive_data(data, limit), len(data))
            if reader.rest is not None and self._reader is not None:
                self.hold_reading()
        elif self.state == CONNECTING:
            self._handler.on_head(data)

    def on_held_input(self) -> None:
        """Called in turn. Passes on the next frames that were received before."""
        reader = self._reader
        if reader is None:
            return
        self._handler.on_frames(reader.read_rest(MAX_FRAMES), 0)
        if reader.rest is not None and self._reader is not None:
            self.hold_reading()

    def put_back(self, events: list[Event]) -> None:
        """Pass these events on again later, before all that follow."""
        if self._reader is not None:
            self._reader.put_back(events)

    def on_peer_closing(self) -> None:
        """Called when the peer has shut down its side. Input may be queued."""
        if self.state in (CONNECTING, OPEN):
            self._handler.on_peer_closing()

    def on_eof(self) -> None:
        """Called at the end of input. The queued output is still sent."""
        if self.state == CONNECTING:
            self.stop_reading()
            self._handler.on_head_eof()
        if self.state == CLOSING and self.write_buffer is not None:
            self.stop_reading()
            return
        self._lose("client gone")

    def _lose(self, reason: str) -> None:
        """Close without a close frame: the peer no longer receives."""
        if self.state == OPEN:
            self.state = CLOSING
            self._handler.on_peer_lost(reason)
        self.abort()

    # Closing

    def close(self, code: int, reason: str, *, discard: bool) -> bool:
        """Send a close frame and end the connection.

        A close frame that still waits behind output can be replaced by a later call
        that discards this output.

        Args:
            code: RFC 6455, section 7.4. 1005 sends a frame without a code.
            reason: at most 123 bytes of it are sent.
            discard: drop queued output and limit the rest to CLOSE_TIMEOUT. Without it,
                all queued output is sent first, for as long as the client is alive.

        Returns:
            True if the client gets this close frame.
        """
        replaces = self.state == CLOSING and not self._guarded and discard
        if self.state != OPEN and not replaces:
            return False
        before = self.queued_bytes
        if discard:
            self.discard_queued()
        # Discarded output had the earlier close frame at its end.
        is_final = not replaces or self.queued_bytes < before
        frames = [frame_format.close(code, reason)] if is_final else []
        self._begin_close(frames, NEVER if discard else 0.0)
        return is_final

    def _begin_close(self, frames: list[bytes], guarded: float) -> None:
        self.state = CLOSING
        self._reader = None
        self._pong = None
        self._guarded = guarded
        self._loop.set_timer(self, self._loop.now + CLOSE_TIMEOUT)
        if frames:
            self.write(frames)
        self.resume_reading()
        self.release_reading()
        if self.write_buffer is None:
            self.on_write_buffer_empty()

    def on_write_buffer_empty(self) -> None:
        """Called when all output is written. A closing connection then lingers."""
        if self.state != CLOSING:
            return
        if self.write_fd < 0 or self.eof_received:
            self.abort()
            return
        self.state = LINGERING
        self.shutdown_write()
        self._loop.set_timer(self, self._loop.now + CLOSE_TIMEOUT)

    def abort(self) -> None:
        """Close the descriptors now."""
        if self.state == CLOSED:
            return
        self.state = CLOSED
        self._loop.cancel_timer(self)
        self._reader = None
        super().abort()
        self._handler.on_connection_closed()

    def expire(self) -> None:
        """End a handshake before its time: the same response, and no lingering."""
        self._handler.on_head_timeout()
        self.abort()

    def clear_handler(self) -> None:
        """Drop the reference to the handler, which has ended."""
        del self._handler

    # Time

    def on_timer(self, now: float) -> None:
        """Called when the timer of the current state has expired."""
        if self.state == CONNECTING:
            self._handler.on_head_timeout()
        elif self.state == OPEN or (self.state == CLOSING and not self._guarded):
            self._keep_alive(now)
        elif (
            (self.state == LINGERING or self._unsent)
            and (not self._guarded or now < self._guarded)
            and self._is_lingering()
        ):
            self._loop.set_timer(self, now + CLOSE_TIMEOUT)
        else:
            self.abort()

    def _keep_alive(self, now: float) -> None:
        """Check keepalive and session timeouts, then set the next timer."""
        deadline = self._handler.next_timeout(now)
        if self.state not in (OPEN, CLOSING) or self._guarded:
            return
        if self.config.ping_interval is not None:
            check = self._check_keepalive(now, self.config.ping_interval)
            deadline = min(deadline, check)
        if self.state in (OPEN, CLOSING):
            self._loop.set_timer(self, deadline)

    def _check_keepalive(self, now: float, interval: float) -> float:
        """Ping or disconnect the client if due. Returns the time of the next check."""
        from chimirror.session.keepalive import DEAD, PING, Keepalive

        if self._keepalive is None:
            self._keepalive = Keepalive(now)
        timings = (interval, self.config.ping_timeout)
        blocked, reading = self.write_buffer is not None, not self._paused
        result = self._keepalive.check(
            now, timings, self, reading=reading, blocked=blocked
        )
        if result == DEAD:
            self._lose("ping timeout")
        elif result == PING and self.state == OPEN:
            self.write_urgent(frame_format.ping(b""))
        return self._keepalive.next_check(timings, by_transport=blocked or not reading)

    def _is_lingering(self) -> bool:
        """Return True while the peer acknowledges output, which a close would cut."""
        before, self._unsent = self._unsent, self.unacked_bytes() + self.queued_bytes
        return self._unsent > 0 and (not before or self._unsent < before)

    def on_error(self, error: Exception) -> None:
        """Called with an internal error while serving this connection."""
        self._handler.on_error(error)
