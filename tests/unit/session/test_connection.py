"""One connection over a socketpair or two pipes: frames, keepalive, orderly close.

The handler only records its calls. Time is injected.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from typing import TYPE_CHECKING

import pytest

from chimirror.config import parser
from chimirror.io.loop import NEVER, EventLoop
from chimirror.session.connection import (
    CLOSE_TIMEOUT,
    CLOSED,
    CLOSING,
    CONNECTING,
    LINGERING,
    OPEN,
    RESPONSE_TIMEOUT,
    Connection,
)
from loops import fill
from serve import tcp_pair
from session_harness import FakeClock
from websocket_peer import CLOSE, PING, PONG, TEXT, Closed, Peer, frame, text

if TYPE_CHECKING:
    from chimirror.protocol.frame_reader import Event

RESPONSE = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
BULK = [b"\x81\x7f" + (1 << 20).to_bytes(8), bytes(1 << 20)]


class RecordingHandler:
    """Handler that records its calls."""

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.head = b""
        self.events: list[Event] = []
        self.timeout = NEVER
        self.low_buffer_calls = 0

    def on_head(self, data: bytes) -> None:
        self.head += data

    def on_head_eof(self) -> None:
        self.calls.append("head eof")

    def on_head_timeout(self) -> None:
        self.calls.append("head timeout")

    def on_frames(self, events: list[Event], size: int) -> None:
        self.events += events

    def on_output_buffer_low(self) -> None:
        self.low_buffer_calls += 1

    def on_peer_closing(self) -> None:
        self.calls.append("closing")

    def on_peer_lost(self, reason: str) -> None:
        self.calls.append(reason)

    def on_connection_closed(self) -> None:
        self.calls.append("closed")

    def next_timeout(self, now: float) -> float:
        return self.timeout

    def on_error(self, error: Exception) -> None:
        self.calls.append(error)


class ConnectionHarness:
    """A connection, its handler, its loop and the client's end."""

    def __init__(
        self, client: socket.socket, read_fd: int, write_fd: int, *arguments: str
    ) -> None:
        self.clock = FakeClock()
        self.loop = EventLoop(self.clock, self.clock)
        self.handler = RecordingHandler()
        self.client = client
        self.peer = Peer(client)
        os.set_blocking(read_fd, False)
        os.set_blocking(write_fd, False)
        config = parser.parse_bridge([*arguments, "--", "program"])
        self.connection = Connection(self.handler, self.loop, config, read_fd, write_fd)
        self.connection.start()

    def wait(self, seconds: float = 0) -> None:
        self.clock.limit = self.clock.now + seconds
        self.loop.run_once()
        while not self.clock.idle or self.clock.now < self.clock.limit:
            self.loop.run_once()

    def open(self, early: bytes = b"") -> None:
        self.connection.open(RESPONSE, early)
        self.wait()
        assert self.peer.head().status == 101

    def block(self) -> int:
        """Send output that the client does not read. Returns the queued bytes."""
        self.connection.send(BULK)
        self.wait()
        return self.connection.queued_bytes

    def read(self, size: int) -> None:
        """Read a number of bytes as the client."""
        stream = self.peer.stream
        assert isinstance(stream, BufferedReader)
        while size:
            self.wait()
            size -= len(stream.read1(size))
        self.wait()

    def state(self) -> int:
        """Return the state. A call keeps type checkers from narrowing it."""
        return self.connection.state


@contextmanager
def connected(
    *arguments: str, pair: tuple[socket.socket, socket.socket] | None = None
) -> Iterator[ConnectionHarness]:
    client, server_end = pair or socket.socketpair()
    fd = server_end.detach()
    harness = ConnectionHarness(client, fd, fd, *arguments)
    try:
        yield harness
    finally:
        harness.peer.close()
        harness.connection.abort()
        harness.loop.close_all()


def test_response_is_complete_and_further_input_is_discarded() -> None:
    with connected() as harness:
        harness.client.sendall(b"GET")
        harness.wait()
        assert harness.handler.head == b"GET"
        harness.connection.pause_until_response()
        harness.connection.send_response(b"HTTP/1.1 500 no\r\n\r\n")
        harness.client.sendall(b"more" * 10_000)
        harness.wait()
        assert harness.peer.refusal().status == 500
        assert harness.state() == LINGERING
        assert harness.handler.head == b"GET"
        harness.connection.send_response(b"a second harness")
        harness.peer.close()
        harness.wait()
        assert harness.state() == CLOSED
        assert harness.handler.calls == ["closed"]


def test_slow_reader_of_a_response_is_disconnected() -> None:
    """A client that makes progress holds its connection for a limited time."""
    with connected() as harness:
        began = harness.clock.now
        harness.connection.send_response(bytes(8 << 20))
        while harness.state() != CLOSED:
            harness.wait(1)
            assert harness.client.recv(1 << 16)
        took = harness.clock.now - began
        assert RESPONSE_TIMEOUT <= took <= RESPONSE_TIMEOUT + 2 * CLOSE_TIMEOUT


def test_early_request_is_read_without_a_turn() -> None:
    client, server_end = socket.socketpair()
    client.sendall(b"GET")
    with connected(pair=(client, server_end)) as harness:
        assert harness.handler.head == b"GET"
        assert harness.connection.armed


def test_early_complete_request_sets_no_timer() -> None:
    class Quick(RecordingHandler):
        def on_head(self, data: bytes) -> None:
            connection.pause_until_response()

    with connected() as harness:
        client, server_end = socket.socketpair()
        client.sendall(b"GET")
        fd, config = server_end.detach(), harness.connection.config
        connection = Connection(Quick(), harness.loop, config, fd, fd)
        connection.start()
        assert not connection.armed
        connection.abort()
        client.close()


def test_error_during_the_first_read_reaches_the_handler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(handler: RecordingHandler, data: bytes) -> None:
        raise LookupError

    monkeypatch.setattr(RecordingHandler, "on_head", fail)
    client, server_end = socket.socketpair()
    client.sendall(b"GET")
    with connected(pair=(client, server_end)) as harness:
        assert [type(calls) for calls in harness.handler.calls] == [LookupError]


def test_head_timeout() -> None:
    with connected("--handshake-timeout=5") as harness:
        harness.wait(4.9)
        assert harness.handler.calls == []
        harness.wait(0.2)
        assert harness.handler.calls == ["head timeout"]
        assert harness.state() == CONNECTING


def test_client_closes_before_the_request() -> None:
    with connected() as harness:
        harness.peer.close()
        harness.wait()
        assert harness.handler.calls == ["head eof", "closed"]


def test_early_bytes_are_served_after_the_101() -> None:
    with connected() as harness:
        harness.open(text([1]) + text([2])[:3])
        assert harness.handler.events == [b"[1]"]
        harness.client.sendall(text([2])[3:])


def test_client_closes_before_the_101() -> None:
    with connected() as harness:
        harness.connection.pause_until_response()
        harness.peer.close()
        harness.wait()
        assert harness.handler.calls == ["closing"]
        harness.connection.open(RESPONSE, text([1]))
        assert harness.handler.events == [b"[1]"]
        harness.wait()
        assert harness.handler.calls == ["closing", "client gone", "closed"]


def test_nothing_is_sent_after_the_close_frame() -> None:
    with connected() as harness:
        harness.open()
        assert harness.connection.close(1000, "exit 0", discard=False)
        harness.connection.send([b"\x81\x01x"])
        harness.connection.send_pong(b"x")
        assert not harness.connection.close(1001, "drain", discard=True)
        harness.wait()
        assert harness.peer.receive() == Closed(1000, "exit 0")
        harness.peer.end()


def test_input_after_the_close_frame_is_discarded() -> None:
    with connected() as harness:
        harness.open()
        harness.connection.close(1001, "idle", discard=True)
        harness.client.sendall(text([1]) * 5000)
        harness.wait()
        assert harness.handler.events == []
        assert harness.peer.receive() == Closed(1001, "idle")


def test_linger_timeout_without_close() -> None:
    with connected() as harness:
        harness.open()
        harness.connection.close(1000, "exit 0", discard=False)
        harness.wait()
        assert harness.peer.receive() == Closed(1000, "exit 0")
        harness.wait(CLOSE_TIMEOUT - 0.1)
        assert harness.state() == LINGERING
        harness.wait(0.2)
        assert harness.state() == CLOSED
        harness.connection.abort()
        assert harness.handler.calls == ["closed"]


def test_linger_lasts_while_output_is_acknowledged() -> None:
    """A slow client still reads from the kernel. Closing now would lose this output."""
    with connected() as harness:
        harness.open()
        while harness.connection.queued_bytes == 0:
            harness.connection.send([b"\x81\x7e\x10\x00" + bytes(4096)])
            harness.wait()
        while harness.connection.queued_bytes:
            harness.read(1)
        harness.connection.close(1000, "exit 0", discard=False)
        harness.wait()
        assert harness.state() == LINGERING
        for _ in range(3):
            harness.wait(CLOSE_TIMEOUT + 0.1)
            assert harness.state() == LINGERING
            assert harness.client.recv(8192)
        harness.wait(2 * CLOSE_TIMEOUT + 0.2)
        assert harness.state() == CLOSED


def test_close_with_discard() -> None:
    """The frame in progress is completed, and the others are dropped."""
    with connected() as harness:
        harness.open()
        harness.block()
        harness.connection.send([b"\x81\x07", b"dropped"])
        harness.connection.close(1001, "drain", discard=True)
        harness.read((1 << 20) + 10)
        assert harness.peer.receive() == Closed(1001, "drain")


def test_close_waits_behind_output() -> None:
    with connected("--ping-interval=off") as harness:
        harness.open()
        harness.block()
        harness.connection.send([b"\x81\x02", b"[]"])
        harness.connection.close(1000, "exit 0", discard=False)
        harness.wait(1000)
        assert harness.state() == CLOSING
        harness.read((1 << 20) + 10)
        assert harness.peer.receive() == b"[]"
        assert harness.peer.receive() == Closed(1000, "exit 0")


def test_waiting_close_is_replaced() -> None:
    with connected("--ping-interval=off") as harness:
        harness.open()
        harness.block()
        harness.connection.send([b"\x81\x02", b"[]"])
        harness.connection.close(1000, "exit 0", discard=False)
        assert harness.connection.close(1001, "drain", discard=True)
        harness.read((1 << 20) + 10)
        assert harness.peer.receive() == Closed(1001, "drain")
        harness.peer.end()


def test_partly_sent_close_frame_is_not_replaced() -> None:
    with connected("--ping-interval=off") as harness:
        harness.open()
        filled = fill(harness.connection.write_fd)
        harness.connection.close(1000, "exit 0", discard=False)
        harness.wait(1)
        assert harness.state() == CLOSING
        assert not harness.connection.close(1001, "drain", discard=True)
        harness.read(filled)
        assert harness.peer.receive() == Closed(1000, "exit 0")
        harness.peer.end()


def test_close_with_discard_times_out() -> None:
    with connected() as harness:
        harness.open()
        harness.block()
        harness.connection.close(1001, "time", discard=True)
        harness.wait(CLOSE_TIMEOUT - 0.1)
        assert harness.state() == CLOSING
        harness.wait(0.2)
        assert harness.handler.calls == ["closed"]


def test_half_closed_client_gets_the_queued_output() -> None:
    with connected() as harness:
        harness.open()
        harness.block()
        harness.connection.close(1000, "exit 0", discard=False)
        harness.peer.half_close()
        harness.wait()
        assert harness.connection.eof_received
        harness.read((1 << 20) + 10)
        assert harness.peer.receive() == Closed(1000, "exit 0")
        assert harness.state() == CLOSED


def test_client_closes_with_output_queued() -> None:
    with connected() as harness:
        harness.open()
        harness.block()
        harness.connection.close(1000, "exit 0", discard=False)
        harness.peer.close()
        harness.wait()
        assert harness.handler.calls == ["closed"]


def test_half_close_ends_an_open_connection() -> None:
    with connected() as harness:
        harness.open()
        harness.client.sendall(text([1]))
        harness.peer.half_close()
        harness.wait()
        assert harness.handler.events == [b"[1]"]
        assert harness.handler.calls == ["client gone", "closed"]


def test_client_closes_while_reading_is_paused() -> None:
    """Input sent before the client closed is read once reading resumes."""
    with connected() as harness:
        harness.open()
        harness.connection.pause_reading()
        harness.client.sendall(text([1]))
        harness.peer.close()
        harness.wait()
        assert (harness.handler.calls, harness.handler.events) == (["closing"], [])
        harness.connection.resume_reading()
        harness.wait()
        assert harness.handler.calls == ["closing", "client gone", "closed"]
        assert harness.handler.events == [b"[1]"]


def test_reset_with_output_queued() -> None:
    with connected(pair=tcp_pair()) as harness:
        harness.open()
        harness.block()
        harness.peer.reset()
        harness.wait()
        assert harness.handler.calls[-2:] == ["client gone", "closed"]


def test_handler_learns_of_a_low_buffer() -> None:
    with connected() as harness:
        harness.open()
        waiting = harness.block()
        assert harness.handler.low_buffer_calls == 0
        harness.read((1 << 20) + 10)
        assert harness.handler.low_buffer_calls > 0
        assert waiting > 1 << 16 > harness.connection.queued_bytes


# Keepalive


def test_silent_client_that_answers_pings_stays_connected() -> None:
    with connected("--ping-interval=10", "--ping-timeout=5") as harness:
        harness.open()
        for _ in range(3):
            harness.wait(10.1)
            assert harness.peer.read_frame() == (PING, b"")
            harness.wait(4)
            harness.client.sendall(frame(PONG, b""))
            harness.wait()
        assert harness.state() == OPEN


def test_silent_client_is_disconnected() -> None:
    with connected("--ping-interval=10", "--ping-timeout=5") as harness:
        harness.open()
        harness.wait(10.1)
        assert harness.peer.read_frame() == (PING, b"")
        harness.wait(4.8)
        assert harness.state() == OPEN
        harness.wait(0.3)
        assert harness.handler.calls == ["ping timeout", "closed"]


def test_keepalive_stops_while_reading_is_paused() -> None:
    with connected("--ping-interval=10", "--ping-timeout=5") as harness:
        harness.open()
        harness.wait(5)
        harness.connection.pause_reading()
        harness.wait(100)
        harness.connection.resume_reading()
        harness.wait(9)
        while harness.client in select_readable(harness.client):
            assert harness.peer.read_frame() == (PING, b"")
        harness.wait(1.1)
        assert harness.peer.read_frame() == (PING, b"")
        assert harness.state() == OPEN


def select_readable(client: socket.socket) -> list[socket.socket]:
    import select

    return select.select([client], [], [], 0)[0]


def test_dead_client_with_output_queued_is_disconnected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with connected("--ping-interval=10", "--ping-timeout=5") as harness:
        harness.open()
        harness.block()
        harness.connection.close(1000, "exit 0", discard=False)
        harness.wait(100)
        assert harness.state() == CLOSING
        monkeypatch.setattr(Connection, "is_retransmitting", lambda self: True)
        harness.wait(20)
        assert harness.handler.calls == ["closed"]


def test_handler_may_close_in_next_timeout() -> None:
    with connected() as harness:
        harness.open()

        def close(now: float) -> float:
            harness.connection.close(1001, "time", discard=True)
            return NEVER

        harness.handler.next_timeout = close  # type: ignore[method-assign]
        harness.wait(1)
        assert harness.peer.receive() == Closed(1001, "time")


def test_without_pings_only_the_handler_sets_timers() -> None:
    with connected("--ping-interval=off") as harness:
        harness.open()
        harness.handler.timeout = harness.clock.now + 50
        harness.wait(1000)
        assert not select_readable(harness.client)
        assert harness.state() == OPEN


def test_errors_reach_the_handler() -> None:
    with connected() as harness:
        harness.open()
        error = ValueError()
        harness.connection.on_error(error)
        assert harness.handler.calls == [error]


# Two pipes


def test_two_pipes() -> None:
    read_fd, client_write_fd = os.pipe()
    client_read_fd, write_fd = os.pipe()
    spare, rest = socket.socketpair()
    with spare, rest:
        harness = ConnectionHarness(spare, read_fd, write_fd)
        harness.connection.open(RESPONSE, b"")
        os.write(client_write_fd, text([1]) + frame(PING, b"a"))
        harness.wait()
        assert harness.handler.events[0] == b"[1]"
        harness.connection.close(1000, "exit 0", discard=False)
        harness.wait()
        assert os.read(client_read_fd, 9999) == RESPONSE + frame_of(CLOSE, b"exit 0")
        assert os.read(client_read_fd, 1) == b""
        os.close(client_write_fd)
        harness.wait()
        assert harness.handler.calls == ["closed"]
        os.close(client_read_fd)
        harness.loop.close_all()
        harness.peer.close()


def frame_of(opcode: int, reason: bytes) -> bytes:
    payload = struct.pack("!H", 1000) + reason
    return bytes((0x80 | opcode, len(payload))) + payload


def test_two_pipes_with_a_closed_reader() -> None:
    read_fd, client_write_fd = os.pipe()
    client_read_fd, write_fd = os.pipe()
    spare, rest = socket.socketpair()
    with spare, rest:
        harness = ConnectionHarness(spare, read_fd, write_fd)
        harness.connection.open(RESPONSE, b"")
        os.close(client_read_fd)
        harness.connection.send([bytes((0x80 | TEXT, 0))])
        assert harness.handler.calls == ["closing"]
        os.write(client_write_fd, text([1]))
        harness.wait()
        assert harness.handler.events == [b"[1]"]
        harness.connection.close(1000, "exit 0", discard=False)
        assert harness.handler.calls == ["closing", "closed"]
        os.close(client_write_fd)
        harness.loop.close_all()
        harness.peer.close()
