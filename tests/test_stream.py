"""A duplex stream over a socket pair, TCP or two pipes, under either poller.

Back-pressure, the end of each direction by itself, and that a peer that goes is told
of, also while nothing is read from it.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from chimirror.system import stream as module
from chimirror.system.loop import READ, Loop, best_poller
from chimirror.system.outbox import LOW
from chimirror.system.selecting import SelectorPoller
from chimirror.system.stream import Stream
from looping import fill, looping, turn_until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.system.loop import Poller

KINDS = ["unix", "tcp", "pipes"]
BULK = 1_000_000  # more than any of them takes at once


class Notes(Stream):
    """A stream that notes what it is told."""

    __slots__ = ("acts", "got", "said")

    def __init__(self, loop: Loop, source: int, sink: int) -> None:
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

    def on_input_end(self) -> None:
        self._note("end")
        if "end" not in self.acts:
            self.finish()

    def on_leaving(self) -> None:
        self._note("leaving")

    def on_room(self) -> None:
        self._note("room")

    def on_sent(self) -> None:
        self._note("sent")

    def on_fault(self, error: Exception) -> None:
        raise error


class Far:
    """The other end: where it reads and where it writes."""

    def __init__(self, source: int, sink: int) -> None:
        self.source, self.sink = source, sink

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.sink, data) :]

    def read(self) -> bytes:
        """What there is now."""
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
    """Of bounded buffers: what the kernel would take on a loopback is 4 MB and more."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        far = socket.socket()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        far.connect(listener.getsockname())
        return listener.accept()[0], far


class Reader:
    """The far end reads."""

    def __init__(self, far: Far) -> None:
        self.far = far
        self.got = bytearray()

    def on_event(self, fd: int, events: int) -> None:
        self.got += self.far.read()

    def on_fault(self, error: Exception) -> None:
        raise error


class Line:
    """A stream, its loop and its far end."""

    def __init__(self, loop: Loop, stream: Notes, far: Far) -> None:
        self.loop, self.stream, self.far = loop, stream, far

    def until(self, ask: Callable[[], object]) -> None:
        turn_until(self.loop, ask)

    def drained(self, size: int) -> bytes:
        """So much of what is sent, read as it comes."""
        reader = Reader(self.far)
        self.loop.watch(self.far.source, reader, READ)
        self.until(lambda: len(reader.got) >= size and not self.stream.backlog)
        self.loop.watch(self.far.source, reader, 0)
        return bytes(reader.got)


@contextmanager
def laid(poller: Callable[[], Poller], kind: str) -> Iterator[Line]:
    with looping(poller) as loop:
        if kind == "pipes":
            source, far_sink = os.pipe()
            far_source, sink = os.pipe()
        else:
            ours, theirs = tcp_pair() if kind == "tcp" else socket.socketpair()
            source = sink = ours.detach()
            far_source = far_sink = theirs.detach()
        for fd in (source, sink, far_source, far_sink):
            os.set_blocking(fd, False)
        stream, far = Notes(loop, source, sink), Far(far_source, far_sink)
        with ExitStack() as stack:
            stack.callback(far.close)
            stack.callback(stream.finish)
            yield Line(loop, stream, far)


@pytest.fixture(
    params=[
        (poller, kind) for poller in (best_poller, SelectorPoller) for kind in KINDS
    ],
    ids=lambda param: f"{param[0].__name__}-{param[1]}",
)
def line(request: pytest.FixtureRequest) -> Iterator[Line]:
    with laid(*request.param) as made:
        yield made


@pytest.fixture(params=KINDS)
def epoll_line(request: pytest.FixtureRequest) -> Iterator[Line]:
    """Where the point is what only epoll tells."""
    with laid(best_poller, request.param) as made:
        yield made


def test_bytes_go_both_ways(line: Line) -> None:
    line.far.write(b"hello")
    line.until(lambda: line.stream.got)
    line.stream.put([b"good", b"bye"])
    assert (line.stream.got, line.far.read()) == (b"hello", b"goodbye")
    assert (line.stream.backlog, line.stream.said) == (0, [])


def test_what_is_not_taken_is_kept(line: Line) -> None:
    """Much, to a reader that takes its time arrive whole and in order."""
    numbers = random.Random(1)
    sent = [numbers.randbytes(numbers.randrange(1, 99_999)) for _ in range(80)]
    for unit in sent:
        line.stream.put([unit[:10], unit[10:]])
    assert line.stream.backlog > LOW
    assert line.drained(sum(map(len, sent))) == b"".join(sent)
    assert line.stream.said[-1] == "sent"
    assert set(line.stream.said) == {"room", "sent"}


def test_first_goes_before_what_has_not_begun(line: Line) -> None:
    line.stream.put_first(b"at once")
    assert line.far.read() == b"at once"
    line.stream.put([b"a" * BULK])
    line.stream.put([b"b"])
    line.stream.put_first(b"c")
    assert line.drained(BULK + 2) == b"a" * BULK + b"cb"


def test_what_has_not_begun_can_be_dropped(line: Line) -> None:
    line.stream.drop_unsent()
    line.stream.put([b"a" * BULK])
    line.stream.put([b"b"])
    line.stream.drop_unsent()
    assert line.drained(BULK) == b"a" * BULK


def test_flush_without_a_backlog_is_nothing(line: Line) -> None:
    line.stream.flush()
    assert line.stream.said == []


def test_room_that_is_used_at_once_is_not_sent(line: Line) -> None:
    """`on_sent` means that nothing waits; with more to send, it comes later."""
    more = [b"m" * BULK]
    emptied: list[int] = []

    def refill() -> None:
        if more and not line.stream.backlog:
            line.stream.put([more.pop()])

    line.stream.acts["room"] = refill
    line.stream.acts["sent"] = lambda: emptied.append(line.stream.backlog)
    line.stream.put([b"a" * BULK])
    assert line.drained(2 * BULK) == b"a" * BULK + b"m" * BULK
    assert emptied == [0]


# Input


def test_a_paused_stream_reads_nothing(line: Line) -> None:
    line.stream.pause()
    line.stream.pause()
    assert line.stream.paused
    line.far.write(b"later")
    line.stream.put([b"x" * BULK])
    assert line.drained(BULK) == b"x" * BULK
    assert line.stream.got == b""
    line.stream.resume()
    line.stream.resume()
    line.until(lambda: line.stream.got)
    assert line.stream.got == b"later"


def test_the_poller_learns_of_a_pause_when_something_comes(line: Line) -> None:
    mask = line.loop._masks[line.stream.source]
    line.stream.pause()
    assert line.loop._masks[line.stream.source] == mask
    line.far.write(b"x")
    line.until(lambda: line.loop._masks[line.stream.source] != mask)
    assert line.stream.got == b""
    line.stream.resume()
    assert line.loop._masks[line.stream.source] == mask
    line.until(lambda: line.stream.got)


def test_a_stream_that_is_paused_while_it_reads_stops(line: Line) -> None:
    line.stream.acts["data"] = line.stream.pause
    line.far.write(b"x" * 1000)
    line.until(lambda: line.stream.got)
    line.far.write(b"y")
    line.stream.put([b"x" * BULK])
    line.drained(BULK)
    assert line.stream.got == b"x" * 1000


def test_a_full_line_holds_its_writer(line: Line) -> None:
    line.stream.pause()
    filled = fill(line.far.sink)
    line.stream.resume()
    line.until(lambda: len(line.stream.got) == filled)


def test_the_end_of_input_is_told(line: Line) -> None:
    line.far.write(b"last")
    line.far.end_writing()
    line.until(lambda: line.stream.source < 0)
    assert (line.stream.got, line.stream.said) == (b"last", ["end"])


def test_output_is_owed_to_a_peer_that_only_ended_its_input(line: Line) -> None:
    line.stream.acts["end"] = line.stream.end_input
    line.stream.put([b"x" * BULK])
    line.far.end_writing()
    line.until(lambda: line.stream.ended)
    assert line.drained(BULK) == b"x" * BULK
    assert line.stream.said == [
        "end",
        *["room"] * line.stream.said.count("room"),
        "sent",
    ]


def test_an_ended_stream_whose_peer_goes_is_broken(line: Line) -> None:
    line.stream.acts["end"] = line.stream.end_input
    line.stream.put([b"x" * BULK])
    line.far.end_writing()
    line.until(lambda: line.stream.ended)
    line.far.close()
    line.until(lambda: line.stream.sink < 0)
    assert line.stream.said == ["end", "leaving", "room", "sent"]
    assert line.stream.source >= 0


# The peer goes


def test_a_peer_that_goes_is_told_of_while_we_do_not_read(epoll_line: Line) -> None:
    """And once; what it sent before is still there to be read."""
    line = epoll_line
    line.far.write(b"last words")
    line.stream.pause()
    line.far.end_writing()
    line.until(lambda: line.stream.said)
    assert (line.stream.said, line.stream.got) == (["leaving"], b"")
    assert line.loop._masks[line.stream.source] == 0, "it would be told again and again"
    line.stream.resume()
    line.until(lambda: line.stream.source < 0)
    assert (line.stream.said, line.stream.got) == (["leaving", "end"], b"last words")


def test_a_peer_that_does_not_read_us_any_more(line: Line) -> None:
    """Output is dropped, input is read to its end."""
    line.far.write(b"last words")
    line.stream.pause()
    line.stream.put([b"x" * BULK])
    line.far.read()
    line.far.close()
    line.until(lambda: line.stream.sink < 0)
    assert sorted(line.stream.said) == ["leaving", "room", "sent"]
    line.stream.put([b"nobody hears this"])
    assert line.stream.backlog == 0
    line.stream.resume()
    line.until(lambda: line.stream.source < 0)
    assert line.stream.said[-1] == "end"


def test_a_broken_sink_is_noticed_by_the_write(line: Line) -> None:
    line.far.close()
    while line.stream.sink >= 0:
        line.stream.put([b"x"])
    assert line.stream.said == ["leaving", "room", "sent"]
    line.stream.end_output()
    assert (line.stream.stalled(), line.stream.unsent()) == (False, 0)
    assert line.stream.unanswered_for() == 0


def test_a_stream_may_be_finished_when_its_sink_breaks(line: Line) -> None:
    line.stream.acts["leaving"] = line.stream.finish
    line.far.close()
    while line.stream.sink >= 0:
        line.stream.put([b"x"])
    assert line.stream.said == ["leaving"]


def test_a_stream_may_be_finished_while_it_is_flushed(line: Line) -> None:
    """Readable and writable in one event; nothing is read from what is closed."""
    line.stream.acts["sent"] = line.stream.finish
    line.stream.put([b"x" * BULK])
    assert line.drained(BULK) == b"x" * BULK
    assert line.stream.source < 0
    line.stream.finish()
    line.stream.pause()
    assert line.stream.got == b""


def test_a_reset_is_an_end() -> None:
    with laid(best_poller, "tcp") as line:
        handle = socket.socket(fileno=line.far.sink)
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        handle.close()
        line.far.source = line.far.sink = -1
        line.until(lambda: line.stream.source < 0)
        assert line.stream.said == ["end"]


def test_a_false_alarm_is_nothing(line: Line) -> None:
    line.stream.on_event(line.stream.source, 0x1)
    assert (line.stream.said, line.stream.got) == ([], b"")


# The end


def test_each_direction_ends_by_itself(line: Line) -> None:
    line.stream.put([b"last"])
    line.stream.end_output()
    line.loop.turn() if line.stream.sink < 0 else None
    os.set_blocking(line.far.source, True)
    assert os.read(line.far.source, 99) == b"last"
    assert os.read(line.far.source, 99) == b""
    line.far.write(b"still")
    line.until(lambda: line.stream.got == b"still")
    line.stream.end_output()
    assert line.stream.source >= 0


def test_finish_closes_everything_and_may_be_repeated(line: Line) -> None:
    fds = {line.stream.source, line.stream.sink}
    line.stream.put([b"x" * BULK])
    line.stream.finish()
    line.stream.finish()
    line.loop.turn()
    for fd in fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    assert (line.stream.backlog, line.stream.source, line.stream.sink) == (0, -1, -1)


def test_the_kernel_is_asked() -> None:
    with laid(best_poller, "tcp") as line:
        line.stream.put([b"x"])
        assert line.stream.stalled() is False
        assert line.stream.unanswered_for() == 0
    with laid(best_poller, "unix") as line:
        line.stream.put([b"x"])
        assert line.stream.unsent() > 0


def test_a_subclass_says_what_it_means() -> None:
    reader, writer = os.pipe()
    with looping() as loop:
        bare = Stream(loop, reader, writer)
        for call in (
            bare.on_input_end,
            bare.on_leaving,
            bare.on_room,
            bare.on_sent,
            lambda: bare.on_data(b""),
            lambda: bare.on_fault(OSError()),
        ):
            with pytest.raises(NotImplementedError):
                call()
        bare.finish()


def test_one_read_per_turn(epoll_line: Line) -> None:
    """A flood of one session does not starve the others."""
    line = epoll_line
    filled = fill(line.far.sink)
    assert filled >= module.READ_SIZE
    line.loop.turn()
    assert 0 < len(line.stream.got) <= module.READ_SIZE
