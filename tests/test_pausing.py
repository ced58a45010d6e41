"""Pausing the streams of a session: what stops, what waits, and that nothing is lost.

Law: by streams and independent of back-pressure; sessions on a stage, whose
applications are pipes, so that each byte is accounted for. Who may ask for it is in
test_control and test_helm.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable
from hashlib import blake2b
from typing import NamedTuple

import pytest

from chimirror.connection import CLOSED
from chimirror.system.application import EXITED
from chimirror.system.inlet import STDERR, STDIN, STDOUT
from chimirror.system.outbox import HIGH
from looping import fill
from peers import CLOSE, Closed, frame, stdin, text
from settling import Memory
from stage import Stage

EVERY = STDIN | STDOUT | STDERR
GONE = frame(CLOSE, b"\x03\xe8")
BUFFER = 1 << 16  # of a pipe
STREAM = 100_000_000  # bytes
CYCLES = 1000
FLAT = 4 << 20  # bytes that memory may grow by


def opened(stage: Stage, framing: str = "stdio") -> Stage:
    stage.open(framing)
    if framing == "stdio":
        stage.peer.message()
    return stage


# Output


def test_a_flooding_application_stops_within_one_buffer() -> None:
    with Stage() as stage:
        opened(stage).print(b"before")
        stage.peer.message()
        stage.session.application.pause(STDOUT)
        said = stage.session.bytes_out
        assert fill(stage.application.stdout) <= BUFFER
        stage.wait(100)
        assert stage.session.bytes_out == said
        stage.print(b"another matter", "stderr")
        assert stage.peer.message()["type"] == "stderr"
        stage.session.application.resume(STDOUT)
        stage.settle()
        assert len(stage.peer.output(BUFFER)) == BUFFER


@pytest.mark.parametrize(
    ("stream", "other"), [("stdout", "stderr"), ("stderr", "stdout")]
)
def test_streams_are_paused_one_by_one(stream: str, other: str) -> None:
    bit = {"stdout": STDOUT, "stderr": STDERR}[stream]
    with Stage() as stage:
        opened(stage)
        stage.session.application.pause(bit)
        assert stage.session.application.paused == bit
        stage.print(b"later", stream)
        stage.print(b"now", other)
        assert stage.peer.message()["type"] == other
        stage.session.application.resume(EVERY)
        stage.settle()
        assert stage.peer.message()["type"] == stream


def test_back_pressure_lifts_no_pause_and_no_pause_lifts_it() -> None:
    with Stage() as stage:
        application = opened(stage).session.application
        application.pause_output()
        application.pause(STDOUT)
        stage.print(b"x")
        application.resume_output()
        stage.settle()
        assert stage.session.messages_out == 1
        application.pause_output()
        application.resume(STDOUT)
        stage.settle()
        assert stage.session.messages_out == 1
        application.resume_output()
        stage.settle()
        assert stage.peer.output(1) == b"x"


def test_an_exit_waits_for_what_is_paused() -> None:
    with Stage() as stage:
        application = opened(stage).session.application
        application.pause(STDOUT)
        stage.print(b"last words")
        stage.exit(3)
        stage.wait(100)
        assert application.phase == EXITED
        application.resume(EVERY)
        stage.settle()
        assert stage.peer.output(10) == b"last words"
        assert stage.peer.story(wait=False).closed == Closed(1011, "exit 3")


def test_what_is_paused_after_the_exit_waits_too() -> None:
    with Stage() as stage:
        application = opened(stage).session.application
        stage.print(b"x")
        held = os.dup(stage.application.stdout)  # by a descendant
        stage.exit()
        application.pause(STDOUT)
        os.write(held, b"y")
        stage.wait(100)
        assert application.phase == EXITED
        application.resume(STDOUT)
        stage.settle()
        assert stage.peer.output(2) == b"xy"
        assert application.phase == EXITED, "the linger goes on where it stood"
        stage.wait(2)
        assert stage.peer.story(wait=False).closed == Closed(1000, "exit 0")
        os.close(held)


def test_a_stream_that_has_ended_keeps_nobody_waiting() -> None:
    with Stage() as stage:
        application = opened(stage).session.application
        os.close(stage.application.stderr)
        stage.application.stderr = -1
        stage.settle()
        application.pause(STDERR)
        stage.exit()
        assert stage.peer.story(wait=False).closed == Closed(1000, "exit 0")


# Input


def test_paused_input_is_read_no_further_and_keeps_its_order() -> None:
    with Stage("--ping-interval=off") as stage:
        application = opened(stage).session.application
        application.pause(STDIN)
        stage.client.setblocking(False)
        message = text(stdin(b"x" * 50_000))
        sent = b""
        try:
            while True:
                sent += message[: stage.client.send(message)]
                stage.settle()
                assert len(sent) < 5 << 20
        except BlockingIOError:
            pass
        assert HIGH < application.backlog < HIGH + BUFFER
        assert stage.application.heard() == b""
        application.resume(STDIN)
        stage.settle()
        assert stage.application.heard() == b"x" * BUFFER
        application.pause(STDIN)
        application.pause(STDIN)
        stage.settle()
        assert stage.application.heard() == b""


def test_the_end_of_input_waits_in_its_place() -> None:
    with Stage() as stage:
        application = opened(stage).session.application
        application.pause(STDIN)
        stage.say(text(stdin(b"a")) + text({"type": "eof"}))
        application.resume(STDIN)
        assert application.stdin >= 0
        stage.settle()
        assert os.read(stage.application.stdin, 9) == b"a"
        assert os.read(stage.application.stdin, 9) == b""
        application.pause(STDIN)
        application.resume(STDIN)


def test_an_end_with_nothing_before_it_waits_too() -> None:
    with Stage() as stage:
        application = opened(stage).session.application
        application.pause(STDIN)
        stage.say(text({"type": "eof"}))
        assert application.stdin >= 0
        application.resume(STDIN)
        stage.settle()
        assert os.read(stage.application.stdin, 9) == b""


def test_an_application_that_reads_no_more_while_its_input_is_paused() -> None:
    with Stage() as stage:
        application = opened(stage).session.application
        application.pause(STDIN)
        stage.say(text(stdin(b"a")))
        os.close(stage.application.stdin)
        stage.application.stdin = -1
        stage.wait(10)
        application.resume(STDIN)
        stage.settle()
        assert application.stdin < 0


# The end


def closes(stage: Stage) -> None:
    stage.say(GONE)


def vanishes(stage: Stage) -> None:
    stage.peer.close()
    stage.settle()


def drains(stage: Stage) -> None:
    stage.session.close(1001, "drain")
    stage.settle()


@pytest.mark.parametrize("leave", [closes, vanishes, drains])
def test_the_clients_going_lifts_every_pause(leave: Callable[[Stage], None]) -> None:
    with Stage() as stage:
        application = opened(stage).session.application
        application.pause(EVERY)
        stage.say(text(stdin(b"sent before")))
        stage.print(b"printed before")
        leave(stage)
        assert application.paused == 0
        assert os.read(stage.application.stdin, 99) == b"sent before"
        assert os.read(stage.application.stdin, 99) == b""
        application.pause(EVERY)
        assert application.paused == 0, "there is nobody who would resume"
        stage.exit()
        stage.until(lambda: stage.session.connection.state == CLOSED)


def test_what_does_not_run_cannot_be_paused() -> None:
    with Stage() as stage:
        application = stage.session.application
        application.pause(EVERY)
        assert application.paused == 0
        opened(stage).exit()
        application.pause(EVERY)
        assert application.paused == 0


# Long streams


class Block(NamedTuple):
    """Lines, and the frames of both directions that carry them, one each."""

    lines: bytes
    from_client: bytes
    to_client: bytes


def block() -> Block:
    """A megabyte, in lines of drawn lengths."""
    draw = random.Random(1)
    lines = [draw.randbytes(draw.randrange(1, 5000)).hex() for _ in range(200)]
    plain = [line.encode() for line in lines]
    return Block(
        b"".join(line + b"\n" for line in plain),
        b"".join(text(line) for line in plain),
        b"".join(unmasked(line) for line in plain),
    )


def unmasked(line: bytes) -> bytes:
    """A server's text frame."""
    size = len(line)
    return (
        b"\x81" + bytes([size]) if size < 126 else b"\x81\x7e%c%c" % divmod(size, 256)
    ) + line


class Flow:
    """A long stream through a session, paused at drawn points for some turns each.

    Args:
        given: what goes in, over and over; the other arguments are for one of these.
        wanted: what has to come out.
        stream: that is paused.
        put: takes what it can of some bytes, and says how much that was.
        get: gives what there is.
    """

    def __init__(
        self,
        stage: Stage,
        stream: int,
        given: bytes,
        wanted: bytes,
        put: Callable[[bytes], int],
        get: Callable[[], bytes],
    ) -> None:
        self.stage = stage
        self.stream = stream
        self.given, self.wanted = given, wanted
        self.put, self.get = put, get
        self.rounds = -(-STREAM // len(given))
        self.total = self.rounds * len(given)
        self.draw = random.Random(stream)
        self.points = sorted(self.draw.sample(range(1, self.total), CYCLES))

    def run(self) -> None:
        """To the end; what comes out has to be what went in."""
        application, got, size, done = self.stage.session.application, blake2b(), 0, 0
        for point in [*self.points, self.total]:
            while done < point:
                done += self.give(done, point)
                self.stage.loop.turn()
                said = self.get()
                got.update(said)
                size += len(said)
            application.pause(self.stream)
            for _ in range(self.draw.randrange(5)):
                self.stage.loop.turn()
            application.resume(self.stream)
        while size < self.rounds * len(self.wanted):
            self.stage.loop.turn()
            said = self.get()
            got.update(said)
            size += len(said)
        assert got.digest() == self.expected()

    def expected(self) -> bytes:
        whole = blake2b()
        for _ in range(self.rounds):
            whole.update(self.wanted)
        return whole.digest()

    def give(self, done: int, point: int) -> int:
        at = done % len(self.given)
        end = at + min(point - done, 1 << 16)
        try:
            return self.put(self.given[at:end])
        except BlockingIOError:
            return 0


def arrived(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1 << 18)
    except BlockingIOError:
        return b""


def test_a_thousand_pauses_of_a_hundred_megabytes_of_output() -> None:
    with Stage("--framing=lines", "--ping-interval=off") as stage:
        opened(stage, "lines")
        os.set_blocking(stage.application.stdout, False)
        stage.client.setblocking(False)
        sample, memory = block(), Memory([os.getpid()])
        Flow(
            stage,
            STDOUT,
            sample.lines,
            sample.to_client,
            lambda data: os.write(stage.application.stdout, data),
            lambda: arrived(stage.client),
        ).run()
        assert memory.growth() < FLAT


def test_a_thousand_pauses_of_a_hundred_megabytes_of_input() -> None:
    with Stage("--framing=lines", "--ping-interval=off") as stage:
        opened(stage, "lines")
        stage.client.setblocking(False)
        sample, memory = block(), Memory([os.getpid()])
        Flow(
            stage,
            STDIN,
            sample.from_client,
            sample.lines,
            stage.client.send,
            stage.application.heard,
        ).run()
        assert memory.growth() < FLAT
