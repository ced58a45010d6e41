"""One connection over a socketpair or two pipes: frames, liveness, an orderly end.

Law: the owner here notes what it is told and decides nothing; time is injected.
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

from chimirror import options
from chimirror.connection import (
    CLOSE_TIMEOUT,
    CLOSED,
    CLOSING,
    CONNECTING,
    LINGERING,
    OPEN,
    Connection,
)
from chimirror.system.loop import NEVER, Loop
from launch import tcp_pair
from looping import fill
from peers import CLOSE, PING, PONG, TEXT, Closed, Peer, frame, text
from stage import Hourglass

if TYPE_CHECKING:
    from chimirror.wire.frames import Event

RESPONSE = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
BULK = [b"\x81\x7f" + (1 << 20).to_bytes(8), bytes(1 << 20)]


class Owner:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.head = b""
        self.events: list[Event] = []
        self.timeout = NEVER
        self.room = 0

    def on_head(self, data: bytes) -> None:
        self.head += data

    def on_head_timeout(self) -> None:
        self.told.append("head timeout")

    def on_events(self, events: list[Event], size: int) -> None:
        self.events += events

    def on_output_room(self) -> None:
        self.room += 1

    def on_peer_leaving(self) -> None:
        self.told.append("leaving")

    def on_peer_gone(self, reason: str) -> None:
        self.told.append(reason)

    def on_connection_closed(self) -> None:
        self.told.append("closed")

    def next_timeout(self, now: float) -> float:
        return self.timeout

    def on_fault(self, error: Exception) -> None:
        self.told.append(error)


class Line:
    """A connection, its owner, its loop and the client's end."""

    def __init__(
        self, client: socket.socket, source: int, sink: int, *arguments: str
    ) -> None:
        self.clock = Hourglass()
        self.loop = Loop(self.clock, self.clock)
        self.owner = Owner()
        self.client = client
        self.peer = Peer(client)
        os.set_blocking(source, False)
        os.set_blocking(sink, False)
        config = options.bridge([*arguments, "--", "program"])
        self.connection = Connection(self.owner, self.loop, config, source, sink)
        self.connection.begin()

    def wait(self, seconds: float = 0) -> None:
        self.clock.limit = self.clock.now + seconds
        self.loop.turn()
        while not self.clock.idle or self.clock.now < self.clock.limit:
            self.loop.turn()

    def open(self, early: bytes = b"") -> None:
        self.connection.open(RESPONSE, early)
        self.wait()
        assert self.peer.head().status == 101

    def block(self) -> int:
        """The client does not read what we send."""
        self.connection.send(BULK)
        self.wait()
        return self.connection.backlog

    def read(self, size: int) -> None:
        """The client reads so many bytes, as they come."""
        stream = self.peer.stream
        assert isinstance(stream, BufferedReader)
        while size:
            self.wait()
            size -= len(stream.read1(size))
        self.wait()

    def state(self) -> int:
        """Asked anew each time: type checkers believe in what was once asserted."""
        return self.connection.state


@contextmanager
def line(
    *arguments: str, pair: tuple[socket.socket, socket.socket] | None = None
) -> Iterator[Line]:
    client, theirs = pair or socket.socketpair()
    fd = theirs.detach()
    made = Line(client, fd, fd, *arguments)
    try:
        yield made
    finally:
        made.peer.close()
        made.connection.finish()
        made.loop.close_all()


def test_the_answer_is_sent_whole_and_the_rest_is_read_away() -> None:
    with line() as one:
        one.client.sendall(b"GET")
        one.wait()
        assert one.owner.head == b"GET"
        one.connection.hold()
        one.connection.answer(b"HTTP/1.1 500 no\r\n\r\n")
        one.client.sendall(b"more" * 10_000)
        one.wait()
        assert one.peer.refusal().status == 500
        assert one.state() == LINGERING
        assert one.owner.head == b"GET"
        one.connection.answer(b"a second one")
        one.peer.close()
        one.wait()
        assert one.state() == CLOSED
        assert one.owner.told == ["closed"]


def test_a_request_that_is_here_takes_no_turn() -> None:
    client, theirs = socket.socketpair()
    client.sendall(b"GET")
    with line(pair=(client, theirs)) as one:
        assert one.owner.head == b"GET"
        assert one.connection.armed


def test_a_request_that_is_here_and_whole_takes_no_timer() -> None:
    class Quick(Owner):
        def on_head(self, data: bytes) -> None:
            connection.hold()

    with line() as one:
        client, theirs = socket.socketpair()
        client.sendall(b"GET")
        fd, config = theirs.detach(), one.connection.config
        connection = Connection(Quick(), one.loop, config, fd, fd)
        connection.begin()
        assert not connection.armed
        connection.finish()
        client.close()


def test_a_fault_at_the_beginning_is_answered_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(owner: Owner, data: bytes) -> None:
        raise LookupError

    monkeypatch.setattr(Owner, "on_head", fail)
    client, theirs = socket.socketpair()
    client.sendall(b"GET")
    with line(pair=(client, theirs)) as one:
        assert [type(told) for told in one.owner.told] == [LookupError]


def test_the_head_timeout() -> None:
    with line("--handshake-timeout=5") as one:
        one.wait(4.9)
        assert one.owner.told == []
        one.wait(0.2)
        assert one.owner.told == ["head timeout"]
        assert one.state() == CONNECTING


def test_a_client_that_goes_early() -> None:
    with line() as one:
        one.peer.close()
        one.wait()
        assert one.owner.told == ["closed"]


def test_early_bytes_are_served_with_the_opening() -> None:
    with line() as one:
        one.open(text([1]) + text([2])[:3])
        assert one.owner.events == [b"[1]"]
        one.client.sendall(text([2])[3:])


def test_a_client_that_is_gone_at_the_opening() -> None:
    with line() as one:
        one.connection.hold()
        one.peer.close()
        one.wait()
        assert one.owner.told == ["leaving"]
        one.connection.open(RESPONSE, text([1]))
        assert one.owner.events == [b"[1]"]
        one.wait()
        assert one.owner.told == ["leaving", "client gone", "closed"]


def test_nothing_is_sent_after_the_close_frame() -> None:
    with line() as one:
        one.open()
        assert one.connection.close(1000, "exit 0", discard=False)
        one.connection.send([b"\x81\x01x"])
        one.connection.send_pong(b"x")
        assert not one.connection.close(1001, "drain", discard=True)
        one.wait()
        assert one.peer.receive() == Closed(1000, "exit 0")
        one.peer.end()


def test_input_after_the_close_frame_is_read_away() -> None:
    with line() as one:
        one.open()
        one.connection.close(1001, "idle", discard=True)
        one.client.sendall(text([1]) * 5000)
        one.wait()
        assert one.owner.events == []
        assert one.peer.receive() == Closed(1001, "idle")


def test_a_client_that_does_not_close_has_two_seconds() -> None:
    with line() as one:
        one.open()
        one.connection.close(1000, "exit 0", discard=False)
        one.wait()
        assert one.peer.receive() == Closed(1000, "exit 0")
        one.wait(CLOSE_TIMEOUT - 0.1)
        assert one.state() == LINGERING
        one.wait(0.2)
        assert one.state() == CLOSED
        one.connection.finish()
        assert one.owner.told == ["closed"]


def test_a_client_that_still_takes_is_not_cut_off() -> None:
    """What the kernel has is read on, slowly: closing now would lose it."""
    with line() as one:
        one.open()
        while one.connection.backlog == 0:
            one.connection.send([b"\x81\x7e\x10\x00" + bytes(4096)])
            one.wait()
        while one.connection.backlog:
            one.read(1)
        one.connection.close(1000, "exit 0", discard=False)
        one.wait()
        assert one.state() == LINGERING
        for _ in range(3):
            one.wait(CLOSE_TIMEOUT + 0.1)
            assert one.state() == LINGERING
            assert one.client.recv(8192)
        one.wait(2 * CLOSE_TIMEOUT + 0.2)
        assert one.state() == CLOSED


def test_a_close_that_discards() -> None:
    """What has begun is finished, the rest is dropped."""
    with line() as one:
        one.open()
        one.block()
        one.connection.send([b"\x81\x07", b"dropped"])
        one.connection.close(1001, "drain", discard=True)
        one.read((1 << 20) + 10)
        assert one.peer.receive() == Closed(1001, "drain")


def test_a_close_that_waits_for_its_turn() -> None:
    with line("--ping-interval=off") as one:
        one.open()
        one.block()
        one.connection.send([b"\x81\x02", b"[]"])
        one.connection.close(1000, "exit 0", discard=False)
        one.wait(1000)
        assert one.state() == CLOSING
        one.read((1 << 20) + 10)
        assert one.peer.receive() == b"[]"
        assert one.peer.receive() == Closed(1000, "exit 0")


def test_a_close_that_waits_is_overtaken() -> None:
    with line("--ping-interval=off") as one:
        one.open()
        one.block()
        one.connection.send([b"\x81\x02", b"[]"])
        one.connection.close(1000, "exit 0", discard=False)
        assert one.connection.close(1001, "drain", discard=True)
        one.read((1 << 20) + 10)
        assert one.peer.receive() == Closed(1001, "drain")
        one.peer.end()


def test_a_close_frame_that_has_begun_is_not_overtaken() -> None:
    with line("--ping-interval=off") as one:
        one.open()
        filled = fill(one.connection.sink)
        one.connection.close(1000, "exit 0", discard=False)
        one.wait(1)
        assert one.state() == CLOSING
        assert not one.connection.close(1001, "drain", discard=True)
        one.read(filled)
        assert one.peer.receive() == Closed(1000, "exit 0")
        one.peer.end()


def test_a_discarding_close_has_two_seconds() -> None:
    with line() as one:
        one.open()
        one.block()
        one.connection.close(1001, "time", discard=True)
        one.wait(CLOSE_TIMEOUT - 0.1)
        assert one.state() == CLOSING
        one.wait(0.2)
        assert one.owner.told == ["closed"]


def test_a_half_closed_client_gets_what_it_is_owed() -> None:
    with line() as one:
        one.open()
        one.block()
        one.connection.close(1000, "exit 0", discard=False)
        one.peer.half_close()
        one.wait()
        assert one.connection.ended
        one.read((1 << 20) + 10)
        assert one.peer.receive() == Closed(1000, "exit 0")
        assert one.state() == CLOSED


def test_a_client_that_goes_while_it_is_owed() -> None:
    with line() as one:
        one.open()
        one.block()
        one.connection.close(1000, "exit 0", discard=False)
        one.peer.close()
        one.wait()
        assert one.owner.told == ["closed"]


def test_a_half_closed_client_is_gone() -> None:
    with line() as one:
        one.open()
        one.client.sendall(text([1]))
        one.peer.half_close()
        one.wait()
        assert one.owner.events == [b"[1]"]
        assert one.owner.told == ["client gone", "closed"]


def test_a_client_that_goes_unread_is_told_of() -> None:
    """It goes while we do not read; what it sent before is read afterwards."""
    with line() as one:
        one.open()
        one.connection.pause()
        one.client.sendall(text([1]))
        one.peer.close()
        one.wait()
        assert (one.owner.told, one.owner.events) == (["leaving"], [])
        one.connection.resume()
        one.wait()
        assert one.owner.told == ["leaving", "client gone", "closed"]
        assert one.owner.events == [b"[1]"]


def test_a_reset_with_output_waiting() -> None:
    with line(pair=tcp_pair()) as one:
        one.open()
        one.block()
        one.peer.reset()
        one.wait()
        assert one.owner.told[-2:] == ["client gone", "closed"]


def test_the_owner_is_told_of_room() -> None:
    with line() as one:
        one.open()
        waiting = one.block()
        assert one.owner.room == 0
        one.read((1 << 20) + 10)
        assert one.owner.room > 0
        assert waiting > 1 << 16 > one.connection.backlog


# Life


def test_a_silent_client_is_pinged_and_lives_if_it_answers() -> None:
    with line("--ping-interval=10", "--ping-timeout=5") as one:
        one.open()
        for _ in range(3):
            one.wait(10.1)
            assert one.peer.read_frame() == (PING, b"")
            one.wait(4)
            one.client.sendall(frame(PONG, b""))
            one.wait()
        assert one.state() == OPEN


def test_a_silent_client_dies() -> None:
    with line("--ping-interval=10", "--ping-timeout=5") as one:
        one.open()
        one.wait(10.1)
        assert one.peer.read_frame() == (PING, b"")
        one.wait(4.8)
        assert one.state() == OPEN
        one.wait(0.3)
        assert one.owner.told == ["ping timeout", "closed"]


def test_the_clock_stands_while_we_do_not_read() -> None:
    with line("--ping-interval=10", "--ping-timeout=5") as one:
        one.open()
        one.wait(5)
        one.connection.pause()
        one.wait(100)
        one.connection.resume()
        one.wait(9)
        while one.client in select_readable(one.client):
            assert one.peer.read_frame() == (PING, b"")
        one.wait(1.1)
        assert one.peer.read_frame() == (PING, b"")
        assert one.state() == OPEN


def select_readable(client: socket.socket) -> list[socket.socket]:
    import select

    return select.select([client], [], [], 0)[0]


def test_a_dead_client_that_is_still_owed_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with line("--ping-interval=10", "--ping-timeout=5") as one:
        one.open()
        one.block()
        one.connection.close(1000, "exit 0", discard=False)
        one.wait(100)
        assert one.state() == CLOSING
        monkeypatch.setattr(Connection, "stalled", lambda self: True)
        one.wait(20)
        assert one.owner.told == ["closed"]


def test_the_owner_may_close_when_asked_for_its_timeout() -> None:
    with line() as one:
        one.open()

        def close(now: float) -> float:
            one.connection.close(1001, "time", discard=True)
            return NEVER

        one.owner.next_timeout = close  # type: ignore[method-assign]
        one.wait(1)
        assert one.peer.receive() == Closed(1001, "time")


def test_without_pings_only_the_owner_has_a_timer() -> None:
    with line("--ping-interval=off") as one:
        one.open()
        one.owner.timeout = one.clock.now + 50
        one.wait(1000)
        assert not select_readable(one.client)
        assert one.state() == OPEN


def test_a_fault_is_the_owners() -> None:
    with line() as one:
        one.open()
        error = ValueError()
        one.connection.on_fault(error)
        assert one.owner.told == [error]


# Two pipes


def test_two_pipes() -> None:
    source, their_sink = os.pipe()
    their_source, sink = os.pipe()
    spare, rest = socket.socketpair()
    with spare, rest:
        one = Line(spare, source, sink)
        one.connection.open(RESPONSE, b"")
        os.write(their_sink, text([1]) + frame(PING, b"a"))
        one.wait()
        assert one.owner.events[0] == b"[1]"
        one.connection.close(1000, "exit 0", discard=False)
        one.wait()
        assert os.read(their_source, 9999) == RESPONSE + frame_of(CLOSE, b"exit 0")
        assert os.read(their_source, 1) == b""
        os.close(their_sink)
        one.wait()
        assert one.owner.told == ["closed"]
        os.close(their_source)
        one.loop.close_all()
        one.peer.close()


def frame_of(opcode: int, reason: bytes) -> bytes:
    payload = struct.pack("!H", 1000) + reason
    return bytes((0x80 | opcode, len(payload))) + payload


def test_two_pipes_of_which_nobody_reads_one() -> None:
    source, their_sink = os.pipe()
    their_source, sink = os.pipe()
    spare, rest = socket.socketpair()
    with spare, rest:
        one = Line(spare, source, sink)
        one.connection.open(RESPONSE, b"")
        os.close(their_source)
        one.connection.send([bytes((0x80 | TEXT, 0))])
        assert one.owner.told == ["leaving"]
        os.write(their_sink, text([1]))
        one.wait()
        assert one.owner.events == [b"[1]"]
        one.connection.close(1000, "exit 0", discard=False)
        assert one.owner.told == ["leaving", "closed"]
        os.close(their_sink)
        one.loop.close_all()
        one.peer.close()
