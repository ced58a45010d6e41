"""The first output of an application, which is read together with its start.

The fake application writes before its start is reported. No turn of the loop follows
the start, except where a test says so.
"""

from __future__ import annotations

import os
import socket

import pytest

from chimirror.framing.lines import LinesFraming
from chimirror.io.write_buffer import HIGH
from session_harness import SessionHarness
from websocket_peer import CLOSE, Closed, frame, text, upgrade

GONE = frame(CLOSE, b"\x03\xe8")
LARGE = b"%4095d\n" * 15 % tuple(range(15))  # less than a pipe holds


def start(harness: SessionHarness, output: bytes, first: bytes = b"") -> None:
    """Send the request, and let the application write and start."""
    harness.application.answers_late = True
    harness.application.first_output = output
    harness.ask(upgrade("/", "lines", ()) + first)
    harness.application.answer()


def opened(*arguments: str) -> SessionHarness:
    return SessionHarness("--framing=lines", *arguments)


def test_first_output_needs_no_turn_of_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writes: list[int] = []
    write = os.writev

    def spy(fd: int, buffers: list[bytes]) -> int:
        writes.append(len(buffers))
        return write(fd, buffers)

    monkeypatch.setattr("chimirror.io.write_buffer.os.writev", spy)
    with opened() as harness:
        start(harness, b"here\n")
        assert harness.peer.head().status == 101
        assert harness.peer.receive() == b"here"
        assert writes == [2], "the response and the output are sent by one call"
        harness.exit()
        assert harness.peer.receive() == Closed(1000, "exit 0")


def test_a_program_without_output_is_read_later() -> None:
    with opened() as harness:
        start(harness, b"")
        assert harness.peer.head().status == 101
        harness.print(b"later\n")
        assert harness.peer.receive() == b"later"


@pytest.mark.parametrize("size", [4096, 1 << 20])
def test_order_is_kept(size: int) -> None:
    """A client that reads slowly gets the response, the output and the rest in turn."""
    ends = socket.socketpair()
    ends[1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
    with SessionHarness("--framing=lines", ends=ends) as harness:
        start(harness, LARGE)
        harness.settle()
        is_queued = harness.session.connection.queued_bytes > 0
        assert is_queued == (size == 4096)
        harness.print(b"last\n")
        assert harness.peer.head().status == 101
        for line in LARGE.splitlines():
            harness.settle()
            assert harness.peer.receive() == line
        harness.settle()
        assert harness.peer.receive() == b"last"
        harness.exit(3)
        assert harness.peer.receive() == Closed(1011, "exit 3")


def test_output_ends_with_the_start() -> None:
    with opened() as harness:
        harness.application.closes_stdout = True
        start(harness, b"only")
        harness.settle()
        harness.exit()
        assert harness.peer.head().status == 101
        assert harness.peer.receive() == b"only"
        assert harness.peer.receive() == Closed(1000, "exit 0")


def test_no_output_and_its_end() -> None:
    with opened() as harness:
        harness.application.closes_stdout = True
        start(harness, b"")
        assert harness.session.process.stdout < 0
        assert harness.peer.head().status == 101
        harness.exit()
        assert harness.peer.receive() == Closed(1000, "exit 0")


def test_early_messages_precede_the_output() -> None:
    with opened() as harness:
        start(harness, b"one\n", text("in"))
        assert harness.application.read_stdin() == b'"in"\n'
        assert harness.peer.head().status == 101
        assert harness.peer.receive() == b"one"


def test_client_that_closes_with_its_request() -> None:
    """The close frame precedes the output, which reaches no client."""
    with opened() as harness:
        start(harness, b"unheard\n", GONE)
        assert harness.peer.head().status == 101
        assert harness.peer.receive() == Closed(1000, "")


def test_client_that_disconnects_meanwhile() -> None:
    with opened() as harness:
        harness.application.answers_late = True
        harness.application.first_output = b"unheard\n"
        harness.ask(upgrade("/", "lines", ()))
        harness.peer.close()
        harness.application.answer()
        harness.settle()
        harness.exit()
    assert harness.event_log.of("end")[0]["reason"] == "client gone"


def test_framing_error_in_the_first_output() -> None:
    with opened("--max-line=100") as harness:
        start(harness, b"good\n" + b"\xff\n")
        assert harness.peer.head().status == 101
        assert harness.peer.receive() == b"good"
        closed = harness.peer.receive()
        assert isinstance(closed, Closed)
        assert closed.code == 1011
        harness.exit()


def test_error_in_the_first_output(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    with opened() as harness:
        monkeypatch.setattr(LinesFraming, "encode", fail)
        harness.application.first_output = b"here\n"
        harness.ask(upgrade("/", "lines", ()))
        assert harness.peer.head().status == 101
        assert harness.peer.receive() == Closed(1011, "error internal")
        harness.exit()


def test_logged_output_is_read_by_the_loop_too() -> None:
    with opened("--direction=send") as harness:
        start(harness, b"for the log\n")
        harness.print(b"more\n")
        assert harness.peer.head().status == 101
        lines = [fields["line"] for fields in harness.event_log.of("stdout")]
        assert lines == [b"for the log", b"more"]


def test_a_full_client_stops_the_application() -> None:
    """The held response does not count as a client that reads slowly."""
    with opened() as harness:
        start(harness, b"x\n")
        assert harness.session.connection.write_buffer is None
        assert not harness.session.connection.paused
        assert harness.session.connection.queued_bytes < HIGH
