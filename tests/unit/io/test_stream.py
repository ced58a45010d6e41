"""A duplex stream over a socket pair, TCP or two pipes, with either poller.

Covers back-pressure and the end of each direction by itself. A peer that closes is
reported even while nothing is read from it.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from chimirror.io import stream as module
from chimirror.io.loop import READ, EventLoop, best_poller
from chimirror.io.selector_poller import SelectorPoller
from chimirror.io.stream import Stream
from chimirror.io.write_buffer import LOW
from loops import Timer, event_loop, fill, turn_until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.io.loop import Poller

KINDS = ["unix", "tcp", "pipes"]
BULK = 1_000_000  # more than any of them takes at once


class RecordingStream(Stream):
    """Stream that records its events."""

    __slots__ = ("acts", "got", "said")

    def __init__(self, loop: EventLoop, source: int, sink: int) -> None:
        super().__init__(loop, source, sink)
        self.got = b""
        self.said: list[str] = []
        self.acts: dict[str, Callable[[], None]] = {}

    def _note(self, word: str) -> None:
        self.said.append(word)
        if word in self.acts:
            self.acts[word]()

    def on_data(self, data: bytes) -> None:
        self.got += data
        if "data" in self.acts:
            self.acts["data"]()

    def on_held_input(self) -> None:
        self._note("held")

    def on_eof(self) -> None:
        self._note("end")
        if "end" not in self.acts:
            self.abort()

    def on_peer_closing(self) -> None:
        self._note("leaving")

    def on_write_buffer_low(self) -> None:
        self._note("room")

    def on_write_buffer_empty(self) -> None:
        self._note("sent")

    def on_error(self, error: Exception) -> None:
        raise error


class SlowStream(RecordingStream):
    """Stream that processes one byte with each call."""

    __slots__ = ("held",)

    def __init__(self, loop: EventLoop, source: int, sink: int) -> None:
        super().__init__(loop, source, sink)
        self.held = b""

    def on_data(self, data: bytes) -> None:
        assert not self.held
        self.held = data
        self.on_held_input()

    def on_held_input(self) -> None:
        byte, self.held = self.held[:1], self.held[1:]
        self.got += byte
        self._note(byte.decode())
        if self.held and self.read_fd >= 0:
            self.hold_reading()


class FarEnd:
    """The other end, with its own descriptors."""

    def __init__(self, source: int, sink: int) -> None:
        self.source, self.sink = source, sink

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.sink, data) :]

    def read(self) -> bytes:
        """Return the data available now."""
        try:
            return os.read(self.source, 1 << 20)
        except BlockingIOError:
            return b""

    def end_writing(self) -> None:
        if self.source == self.sink:
            handle = socket.socket(fileno=self.sink)
            handle.shutdown(socket.SHUT_WR)
            handle.detach()
        elif self.sink >= 0:
            os.close(self.sink)
            self.sink = -1

    def close(self) -> None:
        for fd in {self.source, self.sink} - {-1}:
            os.close(fd)
        self.source = self.sink = -1


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """A TCP pair with bounded buffers: on a loopback the kernel takes 4 MB and more."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        far = socket.socket()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        far.connect(listener.getsockname())
        return listener.accept()[0], far


class Reader:
    """Handler that reads at the other end."""

    def __init__(self, far: FarEnd) -> None:
        self.far = far
        self.got = bytearray()

    def on_event(self, fd: int, events: int) -> None:
        self.got += self.far.read()

    def on_error(self, error: Exception) -> None:
        raise error


class StreamHarness:
    """A stream, its loop and its other end."""

    def __init__(self, loop: EventLoop, stream: RecordingStream, far: FarEnd) -> None:
        self.loop, self.stream, self.far = loop, stream, far

    def until(self, condition: Callable[[], object]) -> None:
        turn_until(self.loop, condition)

    def drained(self, size: int) -> bytes:
        """Return so much of the sent data, read as it arrives."""
        reader = Reader(self.far)
        self.loop.watch(self.far.source, reader, READ)
        self.until(lambda: len(reader.got) >= size and not self.stream.queued_bytes)
        self.loop.watch(self.far.source, reader, 0)
        return bytes(reader.got)


@contextmanager
def stream_harness(
    poller: Callable[[], Poller],
    kind: str,
    stream_type: type[RecordingStream] = RecordingStream,
) -> Iterator[StreamHarness]:
    with event_loop(poller) as loop:
        if kind == "pipes":
            source, far_sink = os.pipe()
            far_source, sink = os.pipe()
        else:
            ours, theirs = tcp_pair() if kind == "tcp" else socket.socketpair()
            source = sink = ours.detach()
            far_source = far_sink = theirs.detach()
        for fd in (source, sink, far_source, far_sink):
            os.set_blocking(fd, False)
        stream, far = stream_type(loop, source, sink), FarEnd(far_source, far_sink)
        with ExitStack() as stack:
            stack.callback(far.close)
            stack.callback(stream.abort)
            yield StreamHarness(loop, stream, far)


@pytest.fixture(
    params=[
        (poller, kind) for poller in (best_poller, SelectorPoller) for kind in KINDS
    ],
    ids=lambda param: f"{param[0].__name__}-{param[1]}",
)
def harness(request: pytest.FixtureRequest) -> Iterator[StreamHarness]:
    with stream_harness(*request.param) as made:
        yield made


@pytest.fixture(params=KINDS)
def epoll_harness(request: pytest.FixtureRequest) -> Iterator[StreamHarness]:
    """For events that only epoll reports."""
    with stream_harness(best_poller, request.param) as made:
        yield made


def test_bytes_go_both_ways(harness: StreamHarness) -> None:
    harness.far.write(b"hello")
    harness.until(lambda: harness.stream.got)
    harness.stream.write([b"good", b"bye"])
    assert (harness.stream.got, harness.far.read()) == (b"hello", b"goodbye")
    assert (harness.stream.queued_bytes, harness.stream.said) == (0, [])


def test_unwritten_output_is_queued(harness: StreamHarness) -> None:
    """Large output to a slow reader arrives whole and in order."""
    numbers = random.Random(1)
    sent = [numbers.randbytes(numbers.randrange(1, 99_999)) for _ in range(80)]
    for unit in sent:
        harness.stream.write([unit[:10], unit[10:]])
    assert harness.stream.queued_bytes > LOW
    assert harness.drained(sum(map(len, sent))) == b"".join(sent)
    assert harness.stream.said[-1] == "sent"
    assert set(harness.stream.said) == {"room", "sent"}


def test_urgent_units_precede_units_that_have_not_begun(harness: StreamHarness) -> None:
    harness.stream.write_urgent(b"at once")
    assert harness.far.read() == b"at once"
    harness.stream.write([b"a" * BULK])
    harness.stream.write([b"b"])
    harness.stream.write_urgent(b"c")
    assert harness.drained(BULK + 2) == b"a" * BULK + b"cb"


def test_units_that_have_not_begun_can_be_discarded(harness: StreamHarness) -> None:
    harness.stream.discard_queued()
    harness.stream.write([b"a" * BULK])
    harness.stream.write([b"b"])
    harness.stream.discard_queued()
    assert harness.drained(BULK) == b"a" * BULK


def test_flush_without_a_backlog_is_nothing(harness: StreamHarness) -> None:
    harness.stream.flush()
    assert harness.stream.said == []


def test_buffer_empty_waits_for_a_refill(harness: StreamHarness) -> None:
    """`on_write_buffer_empty` waits if the handler sends more."""
    more = [b"m" * BULK]
    emptied: list[int] = []

    def refill() -> None:
        if more and not harness.stream.queued_bytes:
            harness.stream.write([more.pop()])

    harness.stream.acts["room"] = refill
    harness.stream.acts["sent"] = lambda: emptied.append(harness.stream.queued_bytes)
    harness.stream.write([b"a" * BULK])
    assert harness.drained(2 * BULK) == b"a" * BULK + b"m" * BULK
    assert emptied == [0]


# Input


def test_a_paused_stream_reads_nothing(harness: StreamHarness) -> None:
    harness.stream.pause_reading()
    harness.stream.pause_reading()
    assert harness.stream.paused
    harness.far.write(b"later")
    harness.stream.write([b"x" * BULK])
    assert harness.drained(BULK) == b"x" * BULK
    assert harness.stream.got == b""
    harness.stream.resume_reading()
    harness.stream.resume_reading()
    harness.until(lambda: harness.stream.got)
    assert harness.stream.got == b"later"


def test_a_pause_reaches_the_poller_with_the_next_data(harness: StreamHarness) -> None:
    mask = harness.loop._masks[harness.stream.read_fd]
    harness.stream.pause_reading()
    assert harness.loop._masks[harness.stream.read_fd] == mask
    harness.far.write(b"x")
    harness.until(lambda: harness.loop._masks[harness.stream.read_fd] != mask)
    assert harness.stream.got == b""
    harness.stream.resume_reading()
    assert harness.loop._masks[harness.stream.read_fd] == mask
    harness.until(lambda: harness.stream.got)


def test_a_stream_that_is_paused_while_it_reads_stops(harness: StreamHarness) -> None:
    harness.stream.acts["data"] = harness.stream.pause_reading
    harness.far.write(b"x" * 1000)
    harness.until(lambda: harness.stream.got)
    harness.far.write(b"y")
    harness.stream.write([b"x" * BULK])
    harness.drained(BULK)
    assert harness.stream.got == b"x" * 1000


def test_backpressure_stops_the_writer(harness: StreamHarness) -> None:
    harness.stream.pause_reading()
    filled = fill(harness.far.sink)
    harness.stream.resume_reading()
    harness.until(lambda: len(harness.stream.got) == filled)


def test_the_end_of_input_is_reported(harness: StreamHarness) -> None:
    harness.far.write(b"last")
    harness.far.end_writing()
    harness.until(lambda: harness.stream.read_fd < 0)
    assert (harness.stream.got, harness.stream.said) == (b"last", ["end"])


def test_output_continues_after_the_end_of_input(harness: StreamHarness) -> None:
    harness.stream.acts["end"] = harness.stream.stop_reading
    harness.stream.write([b"x" * BULK])
    harness.far.end_writing()
    harness.until(lambda: harness.stream.eof_received)
    assert harness.drained(BULK) == b"x" * BULK
    assert harness.stream.said == [
        "end",
        *["room"] * harness.stream.said.count("room"),
        "sent",
    ]


def test_a_peer_may_close_after_the_end_of_input(harness: StreamHarness) -> None:
    harness.stream.acts["end"] = harness.stream.stop_reading
    harness.stream.write([b"x" * BULK])
    harness.far.end_writing()
    harness.until(lambda: harness.stream.eof_received)
    harness.far.close()
    harness.until(lambda: harness.stream.write_fd < 0)
    assert harness.stream.said == ["end", "leaving", "room", "sent"]
    assert harness.stream.read_fd >= 0


# Input that is held


@pytest.fixture(
    params=[
        (poller, kind) for poller in (best_poller, SelectorPoller) for kind in KINDS
    ],
    ids=lambda param: f"{param[0].__name__}-{param[1]}",
)
def slow_harness(request: pytest.FixtureRequest) -> Iterator[StreamHarness]:
    poller, kind = request.param
    with stream_harness(poller, kind, SlowStream) as made:
        yield made


def test_held_input_precedes_all_that_follows(slow_harness: StreamHarness) -> None:
    slow_harness.far.write(b"abc")
    slow_harness.until(lambda: slow_harness.stream.got)
    slow_harness.far.write(b"def")
    slow_harness.far.end_writing()
    slow_harness.until(lambda: slow_harness.stream.read_fd < 0)
    assert slow_harness.stream.said == [*"abcdef", "end"]


def test_held_input_is_paused(slow_harness: StreamHarness) -> None:
    stream = slow_harness.stream
    stream.acts["b"] = stream.pause_reading
    slow_harness.far.write(b"abc")
    slow_harness.until(lambda: stream.paused)
    slow_harness.far.write(b"d")
    slow_harness.loop.set_timer(timer := Timer(slow_harness.loop), 0)
    slow_harness.until(lambda: timer.calls)
    assert stream.got == b"ab"
    stream.resume_reading()
    stream.pause_reading()
    stream.resume_reading()
    slow_harness.until(lambda: len(stream.got) == 4)
    assert stream.got == b"abcd"


@pytest.mark.parametrize("kind", KINDS)
def test_a_closing_peer_is_reported_while_held_input_is_paused(kind: str) -> None:
    with stream_harness(best_poller, kind, SlowStream) as harness:
        stream = harness.stream
        stream.acts["b"] = stream.pause_reading
        harness.far.write(b"abc")
        harness.until(lambda: stream.paused)
        harness.far.close()
        harness.until(lambda: "leaving" in stream.said)
        stream.resume_reading()
        harness.until(lambda: stream.read_fd < 0)
        assert stream.said == ["a", "b", "leaving", "c", "end"]


def test_held_input_is_discarded(slow_harness: StreamHarness) -> None:
    stream = slow_harness.stream
    assert isinstance(stream, SlowStream)
    slow_harness.far.write(b"abc")
    slow_harness.until(lambda: stream.got)
    stream.held = b""
    stream.release_reading()
    stream.release_reading()
    slow_harness.far.write(b"d")
    slow_harness.until(lambda: stream.got.endswith(b"d"))
    assert not slow_harness.loop._runnable


def test_a_closed_stream_with_held_input_is_released(
    slow_harness: StreamHarness,
) -> None:
    stream = slow_harness.stream
    stream.acts["b"] = stream.abort
    slow_harness.far.write(b"abc")
    slow_harness.until(lambda: stream.read_fd < 0)
    assert stream.got == b"ab"
    assert not slow_harness.loop._runnable


# The peer goes


def test_a_closing_peer_is_reported_while_paused(epoll_harness: StreamHarness) -> None:
    """The event comes once. Data sent before can still be read."""
    harness = epoll_harness
    harness.far.write(b"last words")
    harness.stream.pause_reading()
    harness.far.end_writing()
    harness.until(lambda: harness.stream.said)
    assert (harness.stream.said, harness.stream.got) == (["leaving"], b"")
    assert harness.loop._masks[harness.stream.read_fd] == 0, (
        "it would be told again and again"
    )
    harness.stream.resume_reading()
    harness.until(lambda: harness.stream.read_fd < 0)
    assert (harness.stream.said, harness.stream.got) == (
        ["leaving", "end"],
        b"last words",
    )


def test_a_peer_that_reads_no_more(harness: StreamHarness) -> None:
    """Output is dropped, input is read to its end."""
    harness.far.write(b"last words")
    harness.stream.pause_reading()
    harness.stream.write([b"x" * BULK])
    harness.far.read()
    harness.far.close()
    harness.until(lambda: harness.stream.write_fd < 0)
    assert sorted(harness.stream.said) == ["leaving", "room", "sent"]
    harness.stream.write([b"unread"])
    assert harness.stream.queued_bytes == 0
    harness.stream.resume_reading()
    harness.until(lambda: harness.stream.read_fd < 0)
    assert harness.stream.said[-1] == "end"


def test_a_write_error_is_noticed(harness: StreamHarness) -> None:
    harness.far.close()
    while harness.stream.write_fd >= 0:
        harness.stream.write([b"x"])
    assert harness.stream.said == ["leaving", "room", "sent"]
    harness.stream.shutdown_write()
    assert (harness.stream.is_retransmitting(), harness.stream.unacked_bytes()) == (
        False,
        0,
    )
    assert harness.stream.seconds_since_ack() == 0


def test_a_stream_may_be_aborted_on_a_write_error(harness: StreamHarness) -> None:
    harness.stream.acts["leaving"] = harness.stream.abort
    harness.far.close()
    while harness.stream.write_fd >= 0:
        harness.stream.write([b"x"])
    assert harness.stream.said == ["leaving"]


def test_a_stream_may_be_aborted_during_a_flush(harness: StreamHarness) -> None:
    """Readable and writable in one event: a closed stream is not read."""
    harness.stream.acts["sent"] = harness.stream.abort
    harness.stream.write([b"x" * BULK])
    assert harness.drained(BULK) == b"x" * BULK
    assert harness.stream.read_fd < 0
    harness.stream.abort()
    harness.stream.pause_reading()
    assert harness.stream.got == b""


def test_a_reset_is_an_end() -> None:
    with stream_harness(best_poller, "tcp") as harness:
        handle = socket.socket(fileno=harness.far.sink)
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        handle.close()
        harness.far.source = harness.far.sink = -1
        harness.until(lambda: harness.stream.read_fd < 0)
        assert harness.stream.said == ["end"]


def test_a_false_alarm_is_nothing(harness: StreamHarness) -> None:
    harness.stream.on_event(harness.stream.read_fd, 0x1)
    assert (harness.stream.said, harness.stream.got) == ([], b"")


# The end


def test_each_direction_ends_by_itself(harness: StreamHarness) -> None:
    harness.stream.write([b"last"])
    harness.stream.shutdown_write()
    harness.loop.run_once() if harness.stream.write_fd < 0 else None
    os.set_blocking(harness.far.source, True)
    assert os.read(harness.far.source, 99) == b"last"
    assert os.read(harness.far.source, 99) == b""
    harness.far.write(b"still")
    harness.until(lambda: harness.stream.got == b"still")
    harness.stream.shutdown_write()
    assert harness.stream.read_fd >= 0


def test_abort_closes_both_descriptors_and_may_be_repeated(
    harness: StreamHarness,
) -> None:
    fds = {harness.stream.read_fd, harness.stream.write_fd}
    harness.stream.write([b"x" * BULK])
    harness.stream.abort()
    harness.stream.abort()
    harness.loop.run_once()
    for fd in fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    assert (
        harness.stream.queued_bytes,
        harness.stream.read_fd,
        harness.stream.write_fd,
    ) == (
        0,
        -1,
        -1,
    )


def test_tcp_state_comes_from_the_kernel() -> None:
    with stream_harness(best_poller, "tcp") as harness:
        harness.stream.write([b"x"])
        assert harness.stream.is_retransmitting() is False
        assert harness.stream.seconds_since_ack() == 0
    with stream_harness(best_poller, "unix") as harness:
        harness.stream.write([b"x"])
        assert harness.stream.unacked_bytes() > 0


def test_methods_for_subclasses_are_abstract() -> None:
    reader, writer = os.pipe()
    with event_loop() as loop:
        bare = Stream(loop, reader, writer)
        for call in (
            bare.on_eof,
            bare.on_peer_closing,
            bare.on_write_buffer_low,
            bare.on_write_buffer_empty,
            lambda: bare.on_data(b""),
            lambda: bare.on_error(OSError()),
        ):
            with pytest.raises(NotImplementedError):
                call()
        bare.abort()


def test_one_read_per_turn(epoll_harness: StreamHarness) -> None:
    """A flood of one session does not starve the others."""
    harness = epoll_harness
    filled = fill(harness.far.sink)
    assert filled >= module.READ_SIZE
    harness.loop.run_once()
    assert 0 < len(harness.stream.got) <= module.READ_SIZE
