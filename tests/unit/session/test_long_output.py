"""A message longer than all buffers: back-pressure, pings and the end within it."""

from __future__ import annotations

import io
import os

import pytest

from chimirror.framing import MAX_HELD
from chimirror.io.write_buffer import HIGH
from session_harness import SessionHarness
from websocket_peer import CLOSE, PING, PONG, TEXT, Closed, Peer, frame

OPTIONS = ("--framing=lines,lsp", "--ping-interval=off")
READ_SIZE = 1 << 16
SIZE = 8 << 20
HEADERS = {"lines": b"", "lsp": b"Content-Length: %d\r\n\r\n" % SIZE}
BEGINNING = b"x" * 8 * READ_SIZE
by_framing = pytest.mark.parametrize("framing", HEADERS)


def print_until_blocked(harness: SessionHarness, size: int) -> int:
    """Print a part of the message until reading stops. Returns the number of bytes."""
    written = 0
    os.set_blocking(harness.application.stdout, False)
    try:
        while written < size:
            data = b"x" * min(READ_SIZE, size - written)
            written += os.write(harness.application.stdout, data)
            harness.settle()
    except BlockingIOError:
        pass
    return written


def receive_available(harness: SessionHarness) -> bytes:
    """Read as the client until nothing more comes."""
    wire = b""
    harness.client.setblocking(False)
    try:
        while data := harness.client.recv(1 << 20):
            wire += data
            harness.settle()
    except BlockingIOError:
        pass
    harness.client.settimeout(30)
    return wire


def read_back(harness: SessionHarness, wire: bytes) -> Peer:
    """Return the peer, which now reads what the client has received."""
    harness.peer.stream.close()
    harness.peer.stream = io.BufferedReader(io.BytesIO(wire))
    return harness.peer


@by_framing
def test_a_client_that_does_not_read_makes_the_application_wait(framing: str) -> None:
    with SessionHarness(*OPTIONS) as harness:
        harness.open(framing)
        harness.print(HEADERS[framing])
        written = print_until_blocked(harness, SIZE)
        assert written < SIZE // 2
        queued = harness.session.connection.queued_bytes
        assert HIGH < queued < HIGH + MAX_HELD + 2 * READ_SIZE
        harness.say(frame(PING, b"within"))
        wire = b""
        while written < SIZE:
            wire += receive_available(harness)
            written += print_until_blocked(harness, SIZE - written)
        wire += receive_available(harness)
        assert harness.session.messages_out == (framing == "lsp")
        os.set_blocking(harness.application.stdout, True)
        if framing == "lines":
            harness.print(b"\n")
        assert harness.session.messages_out == 1
        harness.exit()
        peer = read_back(harness, wire + receive_available(harness))
        opcodes = []
        while (found := peer.read_fragment()) is not None:
            opcodes.append(found[0])
        assert opcodes[0] == TEXT
        assert opcodes[-2:] == [0x80, 0x80 | CLOSE]
        assert opcodes.count(0x80 | PONG) == 1
        assert {*opcodes[1:-2]} == {0, 0x80 | PONG}
        assert read_back(harness, wire).read_frame() == (PONG, b"within")


@by_framing
def test_the_end_of_the_application_within_a_message(framing: str) -> None:
    """An unterminated line is complete. A body that is cut off is not."""
    with SessionHarness(*OPTIONS) as harness:
        harness.open(framing)
        wire = print_beginning(harness, framing)
        harness.exit()
        peer = read_back(harness, wire + receive_available(harness))
        if framing == "lines":
            assert peer.receive() == BEGINNING
            assert peer.receive() == Closed(1000, "exit 0")
        else:
            check_fault(peer.receive(), "output cut off: ")
            assert BEGINNING.startswith(b"".join(peer.partial))
    assert harness.session.messages_out == (framing == "lines")


def check_fault(closed: object, reason: str) -> None:
    assert isinstance(closed, Closed)
    assert closed.code == 1011
    assert closed.reason.startswith(reason)


def print_beginning(harness: SessionHarness, framing: str) -> bytes:
    """Print the beginning of a message. Returns the bytes that the client got."""
    wire = b""
    harness.print(HEADERS[framing])
    for at in range(0, len(BEGINNING), READ_SIZE):
        harness.print(BEGINNING[at : at + READ_SIZE])
        wire += receive_available(harness)
    return wire


@by_framing
def test_the_session_can_be_closed_within_a_message(framing: str) -> None:
    with SessionHarness(*OPTIONS, "--session-timeout=10") as harness:
        harness.open(framing)
        wire = print_beginning(harness, framing)
        harness.wait(11)
        peer = read_back(harness, wire + receive_available(harness))
        assert peer.receive() == Closed(1001, "time")
        assert BEGINNING.startswith(b"".join(peer.partial))
        assert peer.partial


def test_a_line_over_the_limit_ends_the_session_within_its_message() -> None:
    with SessionHarness(*OPTIONS, "--max-line=400K") as harness:
        harness.open("lines")
        harness.print(b"good\n")
        wire = print_beginning(harness, "lines")
        peer = read_back(harness, wire)
        assert peer.receive() == b"good"
        check_fault(peer.receive(), "line over --max-line: ")
        assert 0 < len(b"".join(peer.partial)) <= 400 << 10
    assert harness.session.messages_out == 1
