"""A duplex byte stream with back-pressure, over one socket or two pipes.

Knows bytes and readiness, no protocol. A subclass interprets the data and decides when
the stream ends. Input and output are closed by themselves. A peer that closes is
reported early (`on_peer_closing`), even while reading is paused. Data that the peer
sent before is still read.

A read can hold thousands of items. A subclass processes some of them and calls
`hold_reading`. Nothing more is read until `on_held_input` has processed the rest, in
turn with all other streams.
"""

from __future__ import annotations

from chimirror.builtin_modules import os
from chimirror.io.loop import ERROR, HANGUP, PEER_CLOSED, READ, WRITE
from chimirror.io.write_buffer import LOW, WriteBuffer, write_now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from chimirror.io.loop import EventLoop
    from chimirror.io.write_buffer import Bytes

READ_SIZE = 64 * 1024
# Reasons not to read, as bits.
PAUSED, HELD = 1, 2


class Stream:
    """Base of connections. A subclass defines the `on_` methods.

    Args:
        loop: reports readiness.
        read_fd, write_fd: descriptors to read and write. Owned by this stream from now
            on. They are equal for a socket, and -1 once closed.

    Attributes:
        write_buffer: output that the peer has not taken yet, or None.
    """

    __slots__ = (
        "_eof_received",
        "_is_peer_closing",
        "_loop",
        "_paused",
        "write_buffer",
        "write_fd",
        "read_fd",
    )
    read_size = READ_SIZE  # bytes, once per turn

    def __init__(self, loop: EventLoop, read_fd: int, write_fd: int) -> None:
        self._loop = loop
        self.read_fd = read_fd
        self.write_fd = write_fd
        self.write_buffer: WriteBuffer | None = None
        self._paused = 0  # PAUSED, HELD
        self._is_peer_closing = False  # its last input may still be unread
        self._eof_received = False  # no more input, but output may be queued
        loop.watch(read_fd, self, READ)

    # For the subclass to define

    def on_data(self, data: bytes) -> None:
        """Called when data has arrived."""
        raise NotImplementedError

    def on_held_input(self) -> None:
        """Called after `hold_reading`, while reading is not paused.

        Processes a part of the input that was read before. Calls `hold_reading` again
        if a rest is left.
        """
        raise NotImplementedError

    def on_eof(self) -> None:
        """Called at the end of input.

        `abort` closes the stream. After `stop_reading` it can still send.
        """
        raise NotImplementedError

    def on_peer_closing(self) -> None:
        """Called once when the peer closes the connection or stops reading."""
        raise NotImplementedError

    def on_write_buffer_low(self) -> None:
        """Called when the write buffer has drained to LOW bytes."""
        raise NotImplementedError

    def on_write_buffer_empty(self) -> None:
        """Called when the write buffer is empty."""
        raise NotImplementedError

    def on_error(self, error: Exception) -> None:
        """Called on an internal error in a method of this stream."""
        raise NotImplementedError

    # Output

    @property
    def queued_bytes(self) -> int:
        """Bytes in the write buffer."""
        return self.write_buffer.size if self.write_buffer else 0

    def write(self, buffers: Sequence[Bytes]) -> None:
        """Send one unit, or queue the part that the kernel does not take now."""
        if self.write_fd < 0:
            return
        if self.write_buffer is not None:
            self.write_buffer.append(buffers)
            return
        try:
            rest = write_now(self.write_fd, buffers)
        except OSError:
            self._on_write_failed()
            return
        if rest:
            self.write_buffer = WriteBuffer(rest)
            self._watch()

    def hold_output(self, unit: Bytes) -> None:
        """Queue a unit, which is the first, and all others until `release_output`."""
        if self.write_fd >= 0:
            self.write_buffer = WriteBuffer(unit)

    def release_output(self) -> None:
        """Send the output that is held, as far as the kernel takes it."""
        self.flush()
        if self.write_buffer is not None:
            self._watch()

    def write_urgent(self, unit: bytes) -> None:
        """Send a unit before all queued units that have not begun."""
        if self.write_buffer is None:
            self.write([unit])
        else:
            self.write_buffer.prepend(unit)

    def flush(self) -> None:
        """Send queued output, as far as the kernel takes it."""
        write_buffer = self.write_buffer
        if write_buffer is None:
            return
        try:
            is_empty = self._flush_buffer(write_buffer)
        except OSError:
            self._on_write_failed()
            return
        if is_empty:
            self.write_buffer = None
            self._watch()
        if write_buffer.size <= LOW:
            self.on_write_buffer_low()
        if is_empty and self.write_buffer is None:
            self.on_write_buffer_empty()

    def _flush_buffer(self, write_buffer: WriteBuffer) -> bool:
        """Write queued output. Returns True if the kernel has taken all of it."""
        return write_buffer.flush(self.write_fd)

    def discard_queued(self) -> None:
        """Discard the queued units that have not begun."""
        if self.write_buffer is not None:
            self.write_buffer.drop_unsent()

    def shutdown_write(self) -> None:
        """Close the outgoing direction: shutdown(SHUT_WR), or close the second pipe."""
        if self.write_fd < 0:
            return
        if self.write_fd == self.read_fd:
            from chimirror.io import tcp_info

            tcp_info.shutdown_write(self.write_fd)
        else:
            self._loop.close(self.write_fd)
            self.write_fd = -1

    def _on_write_failed(self) -> None:
        """Called when the peer reads no more. Data that it sent may still be unread."""
        if self.write_fd != self.read_fd:
            self._loop.close(self.write_fd)
        self.write_fd = -1
        self.write_buffer = None
        self._on_hangup()
        if self.read_fd >= 0:
            self._watch()
            self.on_write_buffer_low()
            self.on_write_buffer_empty()

    # Input

    @property
    def paused(self) -> bool:
        """Whether reading is paused."""
        return self._paused & PAUSED > 0

    def pause_reading(self) -> None:
        """Stop reading until `resume_reading`. The TCP window of the peer fills.

        The poller is not changed until there is unread data. Most pauses, such as the
        one at each start, end before that.
        """
        self._paused |= PAUSED

    def resume_reading(self) -> None:
        """Continue reading, after the input that is held."""
        if self._paused & PAUSED:
            self._paused &= ~PAUSED
            if self._paused:
                self._loop.call_soon(self)
            else:
                self._watch()

    def hold_reading(self) -> None:
        """Stop reading until `on_held_input` has processed the input read before."""
        self._paused |= HELD
        self._loop.call_soon(self)

    def release_reading(self) -> None:
        """Continue reading. Input that is still held has been discarded."""
        if self._paused & HELD:
            self._paused &= ~HELD
            self._loop.cancel_soon(self)
            if not self._paused:
                self._watch()

    def on_turn(self) -> None:
        """Called in turn with other streams. Processes input that is held."""
        if self._paused != HELD:
            return  # `resume_reading` calls it again
        self._paused = 0
        self.on_held_input()
        if self._paused != HELD:
            self._watch()

    def stop_reading(self) -> None:
        """Stop polling for input, because its end has been read."""
        self._eof_received = True
        self._watch()

    @property
    def eof_received(self) -> bool:
        """Whether the end of input has been read."""
        return self._eof_received

    def _watch(self) -> None:
        """Poll for the events that are wanted now. This is the whole back-pressure."""
        if self.read_fd < 0:
            return
        mask = READ
        if self._eof_received:
            mask = 0
        elif self._paused:
            held = self._paused == HELD  # read soon: its end comes after its input
            mask = 0 if held or self._is_peer_closing else PEER_CLOSED
        output = WRITE if self.write_buffer is not None else 0
        if self.write_fd == self.read_fd:
            self._loop.watch(self.read_fd, self, mask | output)
            return
        self._loop.watch(self.read_fd, self, mask)
        if self.write_fd >= 0:
            self._loop.watch(self.write_fd, self, output)

    def on_event(self, fd: int, events: int) -> None:
        """Called when a descriptor is ready. Reads or writes."""
        if events != READ and (
            events & WRITE or (fd == self.write_fd != self.read_fd and events & ERROR)
        ):
            self.flush()
        if self.read_fd < 0 or fd != self.read_fd or self._eof_received:
            return
        if not self._paused:
            if events & (READ | ERROR | HANGUP):
                self._read()
        else:
            if self._paused & PAUSED and events & (ERROR | HANGUP | PEER_CLOSED):
                self._on_hangup()
            self._watch()

    def _read(self) -> None:
        try:
            data = os.read(self.read_fd, self.read_size)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.on_data(data)
        else:
            self.on_eof()

    def _on_hangup(self) -> None:
        if not self._is_peer_closing:
            self._is_peer_closing = True
            self.on_peer_closing()

    # The end

    def abort(self) -> None:
        """Close both descriptors now. May be called again."""
        self.write_buffer = None
        self._loop.cancel_soon(self)
        if self.write_fd >= 0 and self.write_fd != self.read_fd:
            self._loop.close(self.write_fd)
        if self.read_fd >= 0:
            self._loop.close(self.read_fd)
        self.read_fd = self.write_fd = -1

    # TCP state

    def is_retransmitting(self) -> bool:
        """Return True while TCP retransmits or probes without an acknowledgement."""
        from chimirror.io import tcp_info

        return self.write_fd >= 0 and tcp_info.is_retransmitting(self.write_fd)

    def limit_unsent(self, size: int) -> None:
        """Let TCP hold at most about `size` bytes that it has not sent yet."""
        from chimirror.io import tcp_info

        if self.write_fd >= 0:
            tcp_info.limit_unsent(self.write_fd, size)

    def seconds_since_ack(self) -> float:
        """Return seconds since the last acknowledgement while retransmitting."""
        from chimirror.io import tcp_info

        return tcp_info.seconds_since_ack(self.write_fd) if self.write_fd >= 0 else 0.0

    def unacked_bytes(self) -> int:
        """Return the number of bytes sent that the peer has not acknowledged."""
        from chimirror.io import tcp_info

        return tcp_info.unacked_bytes(self.write_fd) if self.write_fd >= 0 else 0
