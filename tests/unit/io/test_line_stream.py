"""A stream of lines: every cut, few lines in one call, and the end after all lines."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import given
from hypothesis import strategies as st

from chimirror.io.line_stream import MAX_LINES, LineStream
from chimirror.io.loop import READ, EventLoop
from chimirror.io.write_buffer import HIGH
from loops import event_loop, turn_until


class RecordingStream(LineStream):
    """Stream that records its lines, and the number of lines of each turn."""

    __slots__ = ("lines",)

    def __init__(self, loop: EventLoop, fd: int) -> None:
        super().__init__(loop, fd, 100)
        self.lines: list[bytes] = []

    def on_line(self, line: bytes) -> None:
        self.lines.append(line)

    def on_eof(self) -> None:
        self.abort()

    def on_peer_closing(self) -> None:
        self.abort()


@contextmanager
def line_stream(
    kind: type[RecordingStream] = RecordingStream,
) -> Iterator[tuple[EventLoop, RecordingStream, socket.socket]]:
    ours, theirs = socket.socketpair()
    with event_loop() as loop, theirs:
        fd = ours.detach()
        os.set_blocking(fd, False)
        stream = kind(loop, fd)
        yield loop, stream, theirs
        stream.abort()


def test_a_flood_of_lines_takes_little_of_a_turn() -> None:
    with line_stream() as (loop, stream, peer):
        sent = [b"%d" % number for number in range(1000)]
        peer.sendall(b"\n".join(sent) + b"\n\n\n" + b"end")
        peer.shutdown(socket.SHUT_WR)
        while stream.read_fd >= 0:
            before = len(stream.lines)
            loop.run_once()
            assert len(stream.lines) - before <= 2 * MAX_LINES  # an event and a turn
        assert stream.lines == [*sent, b"", b""]


def test_slow_lines_wait_for_other_handlers() -> None:
    """Lines that take long, and those of a late turn, come one in a turn."""
    with line_stream() as (loop, stream, peer):
        peer.sendall(b"a\nb\nc\nd\n")
        times = iter(range(100))
        loop.clock = lambda: float(next(times))
        counts = []
        while len(stream.lines) < 4:
            loop.run_once()
            counts.append(len(stream.lines))
        assert counts == [2, 3, 4]  # an event and a turn, then turns
        loop.is_late = True
        stream.on_data(b"e\n")
        assert len(stream.lines) == 4
        loop.run_once()
        assert stream.lines == [b"a", b"b", b"c", b"d", b"e"]


class AnsweringStream(RecordingStream):
    """Stream that answers each line with more than a socket takes."""

    __slots__ = ()

    def on_line(self, line: bytes) -> None:
        super().on_line(line)
        self.write([bytes(32 * HIGH)])


def test_lines_wait_while_output_is_high() -> None:
    with line_stream(AnsweringStream) as (_, stream, peer):
        peer.setblocking(False)
        peer.sendall(b"a\nb\nc\n")
        stream.on_event(stream.read_fd, READ)
        assert stream.lines == [b"a"]
        assert stream.queued_bytes > HIGH


@given(st.lists(st.integers(0, 400), max_size=6).map(sorted), st.integers(1, 200))
def test_every_cut_gives_the_same_lines(cuts: list[int], count: int) -> None:
    data = b"".join(b"%d\n" % number for number in range(count))
    with line_stream() as (loop, stream, peer):
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            peer.sendall(data[start:end])
            loop.run_once() if data[start:end] else None
        turn_until(loop, lambda: len(stream.lines) == count)
        assert stream.lines == data.split()
