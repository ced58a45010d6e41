"""Paused streams of a session: each stops alone, and nothing is lost.

The applications are pipes, so that each byte is accounted for. Permission to pause is
tested in tests/programs/test_control.py and tests/unit/control.
"""

from __future__ import annotations

import os
import random
import signal
import socket
from collections.abc import Callable
from hashlib import blake2b
from typing import NamedTuple

import pytest

from chimirror.io.write_buffer import HIGH
from chimirror.process.application_process import EXITED
from chimirror.process.pipes import STDERR, STDIN, STDOUT
from chimirror.protocol import DRAIN
from chimirror.session.connection import CLOSED
from loops import fill
from processes import Memory
from session_harness import SessionHarness
from websocket_peer import CLOSE, Closed, frame, stdin, text

EVERY = STDIN | STDOUT | STDERR
CLOSE_FRAME = frame(CLOSE, b"\x03\xe8")
PIPE_SIZE = 1 << 16  # bytes
STREAM_SIZE = 100_000_000  # bytes
PAUSES = 1000
MAX_GROWTH = 16 << 20  # bytes of memory: much less than the stream


def opened(harness: SessionHarness, framing: str = "stdio") -> SessionHarness:
    harness.open(framing)
    if framing == "stdio":
        harness.peer.message()
    return harness


# Output


def test_paused_output_stops_within_one_buffer() -> None:
    with SessionHarness() as harness:
        opened(harness).print(b"before")
        harness.peer.message()
        harness.session.process.pause(STDOUT)
        data = harness.session.bytes_out
        assert fill(harness.application.stdout) <= PIPE_SIZE
        harness.wait(100)
        assert harness.session.bytes_out == data
        harness.print(b"another matter", "stderr")
        assert harness.peer.message()["type"] == "stderr"
        harness.session.process.resume(STDOUT)
        harness.settle()
        assert len(harness.peer.output(PIPE_SIZE)) == PIPE_SIZE


@pytest.mark.parametrize(
    ("stream", "other"), [("stdout", "stderr"), ("stderr", "stdout")]
)
def test_streams_pause_independently(stream: str, other: str) -> None:
    bit = {"stdout": STDOUT, "stderr": STDERR}[stream]
    with SessionHarness() as harness:
        opened(harness)
        harness.session.process.pause(bit)
        assert harness.session.process.paused == bit
        harness.print(b"later", stream)
        harness.print(b"now", other)
        assert harness.peer.message()["type"] == other
        harness.session.process.resume(EVERY)
        harness.settle()
        assert harness.peer.message()["type"] == stream


def test_pauses_and_backpressure_are_independent() -> None:
    with SessionHarness() as harness:
        application = opened(harness).session.process
        application.pause_output()
        application.pause(STDOUT)
        harness.print(b"x")
        application.resume_output()
        harness.settle()
        assert harness.session.messages_out == 1
        application.pause_output()
        application.resume(STDOUT)
        harness.settle()
        assert harness.session.messages_out == 1
        application.resume_output()
        harness.settle()
        assert harness.peer.output(1) == b"x"


def test_exit_waits_for_paused_streams() -> None:
    with SessionHarness() as harness:
        application = opened(harness).session.process
        application.pause(STDOUT)
        harness.print(b"last words")
        harness.exit(3)
        harness.wait(100)
        assert application.phase == EXITED
        application.resume(EVERY)
        harness.settle()
        assert harness.peer.output(10) == b"last words"
        assert harness.peer.transcript(wait=False).closed == Closed(1011, "exit 3")


def test_exit_waits_for_streams_paused_later() -> None:
    with SessionHarness() as harness:
        application = opened(harness).session.process
        harness.print(b"x")
        held = os.dup(harness.application.stdout)  # a descendant holds the pipe
        harness.exit()
        application.pause(STDOUT)
        os.write(held, b"y")
        harness.wait(100)
        assert application.phase == EXITED
        application.resume(STDOUT)
        harness.settle()
        assert harness.peer.output(2) == b"xy"
        assert application.phase == EXITED, "the linger goes on where it stood"
        harness.wait(2)
        assert harness.peer.transcript(wait=False).closed == Closed(1000, "exit 0")
        os.close(held)


def test_ended_stream_does_not_delay_the_exit() -> None:
    with SessionHarness() as harness:
        application = opened(harness).session.process
        os.close(harness.application.stderr)
        harness.application.stderr = -1
        harness.settle()
        application.pause(STDERR)
        harness.exit()
        assert harness.peer.transcript(wait=False).closed == Closed(1000, "exit 0")


# Input


def test_paused_input_keeps_its_order() -> None:
    with SessionHarness("--ping-interval=off") as harness:
        application = opened(harness).session.process
        application.pause(STDIN)
        harness.client.setblocking(False)
        message = text(stdin(b"x" * 50_000))
        sent = b""
        try:
            while True:
                sent += message[: harness.client.send(message)]
                harness.settle()
                assert len(sent) < 5 << 20
        except BlockingIOError:
            pass
        assert HIGH < application.queued_input < HIGH + PIPE_SIZE
        assert harness.application.read_stdin() == b""
        application.resume(STDIN)
        harness.settle()
        assert harness.application.read_stdin() == b"x" * PIPE_SIZE
        application.pause(STDIN)
        application.pause(STDIN)
        harness.settle()
        assert harness.application.read_stdin() == b""


def test_end_of_input_stays_behind_paused_input() -> None:
    with SessionHarness() as harness:
        application = opened(harness).session.process
        application.pause(STDIN)
        harness.say(text(stdin(b"a")) + text({"type": "eof"}))
        application.resume(STDIN)
        assert application.stdin >= 0
        harness.settle()
        assert os.read(harness.application.stdin, 9) == b"a"
        assert os.read(harness.application.stdin, 9) == b""
        application.pause(STDIN)
        application.resume(STDIN)


def test_end_of_empty_input_is_paused() -> None:
    with SessionHarness() as harness:
        application = opened(harness).session.process
        application.pause(STDIN)
        harness.say(text({"type": "eof"}))
        assert application.stdin >= 0
        application.resume(STDIN)
        harness.settle()
        assert os.read(harness.application.stdin, 9) == b""


def test_application_closes_its_paused_input() -> None:
    with SessionHarness() as harness:
        application = opened(harness).session.process
        application.pause(STDIN)
        harness.say(text(stdin(b"a")))
        os.close(harness.application.stdin)
        harness.application.stdin = -1
        harness.wait(10)
        application.resume(STDIN)
        harness.settle()
        assert application.stdin < 0


# End of the session


def closes(harness: SessionHarness) -> None:
    harness.say(CLOSE_FRAME)


def vanishes(harness: SessionHarness) -> None:
    harness.peer.close()
    harness.settle()


def drains(harness: SessionHarness) -> None:
    harness.session.close(DRAIN)
    harness.settle()


@pytest.mark.parametrize("leave", [closes, vanishes, drains])
def test_end_of_the_client_resumes_all_streams(
    leave: Callable[[SessionHarness], None],
) -> None:
    with SessionHarness() as harness:
        application = opened(harness).session.process
        application.pause(EVERY)
        harness.say(text(stdin(b"sent before")))
        harness.print(b"printed before")
        leave(harness)
        assert application.paused == 0
        assert os.read(harness.application.stdin, 99) == b"sent before"
        assert os.read(harness.application.stdin, 99) == b""
        application.pause(EVERY)
        assert application.paused == 0, "no peer is left to resume it"
        harness.exit()
        harness.until(lambda: harness.session.connection.state == CLOSED)


def test_pausing_needs_a_running_application() -> None:
    with SessionHarness() as harness:
        application = harness.session.process
        application.pause(EVERY)
        assert application.paused == 0
        opened(harness).exit()
        application.pause(EVERY)
        assert application.paused == 0


# Long streams


class Block(NamedTuple):
    """Lines, and one frame per line for each direction."""

    lines: bytes
    from_client: bytes
    to_client: bytes


def block() -> Block:
    """Build a megabyte of lines with random lengths."""
    draw = random.Random(1)
    lines = [draw.randbytes(draw.randrange(1, 5000)).hex() for _ in range(200)]
    plain = [line.encode() for line in lines]
    return Block(
        b"".join(line + b"\n" for line in plain),
        b"".join(text(line) for line in plain),
        b"".join(unmasked(line) for line in plain),
    )


def unmasked(line: bytes) -> bytes:
    """Build a text frame of a server."""
    size = len(line)
    return (
        b"\x81" + bytes([size]) if size < 126 else b"\x81\x7e%c%c" % divmod(size, 256)
    ) + line


class PausedStream:
    """A long stream through a session, paused at random points for some turns.

    Args:
        stream: the stream to pause.
        source: bytes to send repeatedly.
        expected: bytes to arrive for each round of `source`.
        put: sends some of the given bytes, and returns their number.
        get: returns the bytes that have arrived.
    """

    def __init__(
        self,
        harness: SessionHarness,
        stream: int,
        source: bytes,
        expected: bytes,
        put: Callable[[bytes], int],
        get: Callable[[], bytes],
    ) -> None:
        self.harness = harness
        self.stream = stream
        self.source, self.expected = source, expected
        self.put, self.get = put, get
        self.rounds = -(-STREAM_SIZE // len(source))
        self.total = self.rounds * len(source)
        self.draw = random.Random(stream)
        self.points = sorted(self.draw.sample(range(1, self.total), PAUSES))

    def run(self) -> None:
        """Run all rounds, and compare the digest of the result."""
        application, got, size, done = self.harness.session.process, blake2b(), 0, 0
        for point in [*self.points, self.total]:
            while done < point:
                done += self.give(done, point)
                self.harness.loop.run_once()
                data = self.get()
                got.update(data)
                size += len(data)
            application.pause(self.stream)
            for _ in range(self.draw.randrange(5)):
                self.harness.loop.run_once()
            application.resume(self.stream)
        while size < self.rounds * len(self.expected):
            self.harness.loop.run_once()
            data = self.get()
            got.update(data)
            size += len(data)
        assert got.digest() == self.expected_digest()

    def expected_digest(self) -> bytes:
        whole = blake2b()
        for _ in range(self.rounds):
            whole.update(self.expected)
        return whole.digest()

    def give(self, done: int, point: int) -> int:
        at = done % len(self.source)
        end = at + min(point - done, 1 << 16)
        try:
            return self.put(self.source[at:end])
        except BlockingIOError:
            return 0


def receive_available(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1 << 18)
    except BlockingIOError:
        return b""


def test_many_pauses_of_a_long_output() -> None:
    with SessionHarness("--framing=lines", "--ping-interval=off") as harness:
        opened(harness, "lines")
        os.set_blocking(harness.application.stdout, False)
        harness.client.setblocking(False)
        sample, memory = block(), Memory([os.getpid()])
        PausedStream(
            harness,
            STDOUT,
            sample.lines,
            sample.to_client,
            lambda data: os.write(harness.application.stdout, data),
            lambda: receive_available(harness.client),
        ).run()
        assert memory.growth() < MAX_GROWTH


def test_many_pauses_of_a_long_input() -> None:
    with SessionHarness("--framing=lines", "--ping-interval=off") as harness:
        opened(harness, "lines")
        harness.client.setblocking(False)
        sample, memory = block(), Memory([os.getpid()])
        PausedStream(
            harness,
            STDIN,
            sample.from_client,
            sample.lines,
            harness.client.send,
            harness.application.read_stdin,
        ).run()
        assert memory.growth() < MAX_GROWTH


# Signals that are not taken


def test_a_client_whose_signals_wait_is_not_read() -> None:
    with SessionHarness() as harness:
        harness.open("stdio")
        harness.application.takes_signals = False
        harness.say(text({"type": "signal", "name": "CONT"}) * 100)
        assert harness.session.connection.paused
        assert harness.application.signals == [signal.SIGCONT] * 100
        before = harness.session.messages_in
        harness.say(text(stdin(b"later")))
        assert harness.session.messages_in == before
        harness.session.process.on_signals_taken()
        harness.settle()
        assert harness.application.read_stdin() == b"later"
        harness.exit()


def test_signals_of_a_control_peer_pause_no_client() -> None:
    with SessionHarness() as harness:
        harness.open("stdio")
        harness.application.takes_signals = False
        harness.session.process.signal("CONT")
        harness.say(text(stdin(b"now")))
        assert harness.application.read_stdin() == b"now"
        harness.exit()


def test_a_pause_for_signals_ends_with_the_session() -> None:
    with SessionHarness() as harness:
        harness.open("stdio")
        harness.application.takes_signals = False
        harness.say(text({"type": "signal", "name": "CONT"}) * 2)
        harness.exit(3)
        assert harness.peer.transcript(wait=False).closed == Closed(1011, "exit 3")
