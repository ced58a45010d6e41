"""Floods of short items: few in one turn, all of them in order, light clients between.

An item costs time however short it is, so a turn is bounded in items. The tests count
items, bytes and the order of service, and measure no time.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest

from chimirror.config import parser
from chimirror.framing.json_framing import JsonFraming
from chimirror.framing.lines import LinesFraming
from chimirror.io.loop import EventLoop
from chimirror.io.stream import Stream
from chimirror.io.write_buffer import HIGH, WriteBuffer
from chimirror.protocol.request_cache import RequestCache
from chimirror.session import connection, relay
from chimirror.session.connection import MAX_FRAMES, MAX_LATE_FRAMES, OPEN
from chimirror.session.relay import MAX_EVENTS
from session_harness import FakeClock, SessionHarness
from websocket_peer import (
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Closed,
    frame,
    stdin,
    text,
    upgrade,
)

FLOODS = {
    "fragments": (
        "lines",
        frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"b"),
        b"ab\n",
    ),
    "empty texts": ("lines", frame(TEXT, b""), b"\n"),
    "mixed texts": ("lines", frame(TEXT, b"a") + frame(TEXT, b"bc"), b"a\nbc\n"),
    "pings": ("lines", frame(PING, b""), b""),
    "refused": ("json", text(b"x"), b""),
    "empty stdin": ("stdio", text(stdin(b"")), b""),
    "stdin": ("stdio", text(stdin(b"ab")), b"ab"),
    "signals": ("stdio", text({"type": "signal", "name": "CONT"}), b""),
    "windows": ("stdio", text({"type": "window", "bytes": 1}), b""),
    "unknown": ("stdio", text({"type": "resize", "columns": 1, "rows": 1}), b""),
}
by_flood = pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())


class Deliveries:
    """Counts the frames that sessions get with each call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.order: list[tuple[SessionHarness | None, int]] = []
        self.sizes: list[int] = []
        deliver = relay.Relay.on_frames

        def on_frames(session: relay.Relay, events: list[Any], size: int) -> None:
            before = session.messages_in
            deliver(session, events, size)
            self.sizes.append(max(len(events), session.messages_in - before))

        monkeypatch.setattr(relay.Relay, "on_frames", on_frames)


@by_flood
@pytest.mark.parametrize("limit", [None, 1])
def test_a_flood_arrives_in_order_and_complete(
    flood: tuple[str, bytes, bytes],
    limit: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if limit:
        for module, name in ((connection, "MAX_FRAMES"), (relay, "MAX_EVENTS")):
            monkeypatch.setattr(module, name, limit)
    framing, data, expected = flood
    deliveries = Deliveries(monkeypatch)
    count = 300 if limit else 3000
    with SessionHarness("--framing=lines,json,stdio") as harness:
        harness.open(framing)
        if framing == "stdio":
            harness.peer.message()
        harness.session.connection.write_buffer = None
        received = b""
        stream = data * count + frame(PING, b"last")
        for at in range(0, len(stream), 65536):
            harness.client.sendall(stream[at : at + 65536])
            harness.settle()
            received += harness.application.read_stdin()
            drain(harness)
        received += harness.application.read_stdin()
        assert received == expected * count
        assert harness.session.bytes_in >= len(stream)
        assert not harness.loop._runnable
    assert max(deliveries.sizes) <= MAX_FRAMES


def drain(harness: SessionHarness) -> None:
    """Read as the client, without looking at it."""
    harness.client.setblocking(False)
    try:
        while harness.client.recv(1 << 20):
            pass
    except BlockingIOError:
        pass
    harness.client.settimeout(30)


@by_flood
def test_a_turn_processes_few_items(
    flood: tuple[str, bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each turn decodes a bounded number of messages, one by one or in one batch."""
    framing, data, _ = flood
    decoded: list[int] = []
    for kind in (JsonFraming, LinesFraming):
        decode: Callable[..., Any] = kind.decode

        def counted(self: Any, message: bytes, decode: Any = decode) -> Any:
            decoded[-1] += 1
            return decode(self, message)

        monkeypatch.setattr(kind, "decode", counted)
    with SessionHarness("--framing=lines,json,stdio") as harness:
        harness.open(framing)
        harness.client.sendall(data * (60_000 // len(data)))
        decoded.append(0)
        harness.loop.run_once()
        turns = 1
        while harness.loop._runnable:
            decoded.append(0)
            harness.loop.run_once()
            turns += 1
        assert max(decoded) <= 2 * MAX_EVENTS  # an event, and a turn of the rest
        least = 60_000 // len(data) // (2 * MAX_FRAMES)
        assert turns >= least


class RecordingHandler:
    """Handler of a connection that records the number of frames of each call."""

    def __init__(self, name: str, story: list[tuple[str, int]]) -> None:
        self.name = name
        self.story = story

    def on_frames(self, events: list[Any], size: int) -> None:
        self.story.append((self.name, len(events)))

    def next_timeout(self, now: float) -> float:
        return now + 3600

    def on_connection_closed(self) -> None:
        """Do nothing: the test ends."""


def test_floods_take_turns_and_a_light_client_waits_for_none() -> None:
    """Each flood gets its share in turn. New input of another client comes between."""
    story: list[tuple[str, int]] = []
    clock = FakeClock()
    loop = EventLoop(clock, clock)
    config = parser.parse_bridge(["--ping-interval=off", "--", "program"])
    clients, connections = {}, []
    for name in ("a", "b", "light"):
        ours, clients[name] = socket.socketpair()
        ours.setblocking(False)
        fd = ours.detach()
        handler: Any = RecordingHandler(name, story)
        connections.append(connection.Connection(handler, loop, config, fd, fd))
        connections[-1].open(b"", b"")
    for name in ("a", "b"):
        clients[name].sendall(frame(PING, b"") * 5 * MAX_FRAMES)
    for _ in range(2):
        clients["light"].sendall(frame(TEXT, b"x"))
        loop.run_once()
    assert story[:2] in ([("a", MAX_FRAMES), ("b", MAX_FRAMES)], story[:2][::-1])
    served = [name for name, _ in story]
    assert served.index("light") <= 2
    assert len(served) - 1 - served[::-1].index("light") == 5, "first of its turn"
    while loop._runnable:
        loop.run_once()
    floods = [(name, count) for name, count in story if name != "light"]
    assert len(floods) == 10
    assert all(one[0] != other[0] for one, other in pairwise(floods))
    for each in connections:
        each.abort()
    for client in clients.values():
        client.close()
    loop.close_all()


def test_a_late_turn_processes_less() -> None:
    with SessionHarness("--framing=lines") as harness:
        harness.open("lines")
        harness.loop.is_late = True
        harness.session.connection.on_data(frame(TEXT, b"a") * 200)
        assert harness.session.messages_in == MAX_LATE_FRAMES
        harness.settle()
        assert harness.session.messages_in == 200


@pytest.mark.parametrize("cut", [0, 1, 5000])
def test_a_late_turn_leaves_large_messages_to_others(cut: int) -> None:
    """The JSON check of a large message takes as long as thousands of frames."""
    message = b"[%b1]" % (b"[]," * 20_000)
    data = frame(TEXT, message)
    with SessionHarness() as harness:
        harness.open("json")
        connection = harness.session.connection
        connection.on_data(data[:-cut] if cut else b"")
        harness.loop.is_late = True
        connection.on_data(data[-cut:])
        assert harness.session.messages_in == 0
        harness.settle()
        assert harness.session.messages_in == 1
        assert harness.session.bytes_in == len(data)


def test_a_late_turn_reads_little_output() -> None:
    with SessionHarness("--framing=lines") as harness:
        harness.open("lines")
        os.write(harness.application.stdout, b"\n" * 60_000)
        harness.loop.is_late = True
        process = harness.session.process
        process.on_event(process.stdout, 1)
        assert 0 < harness.session.messages_out <= 2048
        harness.settle()
        drain(harness)
        harness.settle()
        assert harness.session.messages_out == 60_000


def test_input_that_is_held_precedes_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_FRAMES", 1)
    with SessionHarness("--framing=lines") as harness:
        harness.open("lines")
        harness.client.sendall(b"".join(frame(TEXT, b"%d" % n) for n in range(7)))
        harness.peer.close()
        harness.settle()
        assert harness.application.read_stdin() == b"0\n1\n2\n3\n4\n5\n6\n"
        assert harness.session.reason == "client gone"


def test_a_close_frame_comes_after_held_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_FRAMES", 1)
    with SessionHarness("--framing=lines") as harness:
        harness.open("lines")
        harness.client.sendall(frame(TEXT, b"a") * 3)
        harness.peer.send_close(4000)
        harness.settle()
        assert harness.application.read_stdin() == b"a\n" * 3
        assert harness.peer.receive() == Closed(4000, "")
        assert harness.session.reason == "client close 4000"


def test_nothing_is_delivered_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Held input is discarded with the close frame of this side."""
    monkeypatch.setattr(connection, "MAX_FRAMES", 1)
    with SessionHarness("--framing=lines") as harness:
        harness.open("lines")
        harness.client.sendall(
            frame(TEXT, b"a") + frame(TEXT, b"\n") + frame(TEXT, b"c") * 5
        )
        harness.settle()
        assert harness.application.read_stdin() == b"a\n"
        reason = r"line break outside JSON: \x0a"
        assert harness.peer.receive() == Closed(1007, reason)
        assert harness.session.messages_in == 2
        assert not harness.loop._runnable


def test_backpressure_holds_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read before the pause waits too, and is delivered in order."""
    monkeypatch.setattr(connection, "MAX_FRAMES", 4)
    with SessionHarness("--ping-interval=off") as harness:
        harness.open("stdio")
        harness.peer.message()
        messages = [b"%06d" % number * 5000 for number in range(40)]
        harness.client.setblocking(False)
        stream = b"".join(text(stdin(message)) for message in messages)
        received, sent = b"", 0
        while len(received) < 40 * 30_000:
            try:
                sent += harness.client.send(stream[sent : sent + 4096])
            except BlockingIOError:
                pass
            harness.settle()
            assert harness.session.process.queued_input <= HIGH + 5 * 30_000
            if sent == len(stream) or harness.session.connection.paused:
                received += harness.application.read_stdin()
        assert received == b"".join(messages)
        harness.client.setblocking(True)


def test_answers_to_refused_messages_are_one_unit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []
    write = Stream.write

    def counted(stream: Stream, buffers: Sequence[bytes]) -> None:
        calls.append(len(buffers))
        write(stream, buffers)

    with SessionHarness("--ping-interval=off") as harness:
        harness.open("json")
        monkeypatch.setattr(Stream, "write", counted)
        harness.say(text(b"x") * 100)
        assert calls == [100]
        for _ in range(100):
            assert harness.peer.message()["type"] == "error"
        assert harness.session.messages_out == 100


def stdin_buffer(harness: SessionHarness) -> WriteBuffer | None:
    return harness.session.process.stdin_buffer


def test_empty_input_is_never_queued() -> None:
    """It has no bytes, so a bound on bytes would not count it."""
    with SessionHarness("--ping-interval=off") as harness:
        harness.open("stdio")
        harness.session.process.pause(1)
        harness.say(text(stdin(b"")) * 1000)
        assert stdin_buffer(harness) is None
        harness.say(text(stdin(b"x")))
        harness.say(text(stdin(b"")) * 1000 + text(stdin(b"y")) * 1000)
        queued = stdin_buffer(harness)
        assert queued is not None
        assert (queued.size, len(queued._units)) == (1001, 2)
        harness.say(text({"type": "eof"}) * 1000)
        assert harness.session.connection.state == OPEN
        harness.session.process.resume(1)
        harness.settle()
        assert harness.application.read_stdin() == b"x" + b"y" * 1000


def test_a_request_head_in_single_bytes_is_parsed_a_few_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parsed: list[int] = []
    read = RequestCache.read

    def counted(cache: RequestCache, data: bytes, *peer: Any) -> Any:
        parsed.append(len(data))
        return read(cache, data, *peer)

    monkeypatch.setattr(RequestCache, "read", counted)
    head = upgrade("/" + "a" * 5000, "json", ("X-Long: " + "b" * 5000,))
    with SessionHarness() as harness:
        for at in range(len(head)):
            harness.session.connection.on_data(head[at : at + 1])
        harness.settle()
        assert harness.peer.head().status == 101
    assert len(parsed) <= head.count(b"\n") + 15
    assert sum(parsed) < 20 * len(head)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/2.0\r\n", 505),
        (b"\x16\x03", 400),
        (b"GET / HTTP/1.1\r\nA: b\r\n C", 400),
        (b"GET / HTTP/1.1\r\nA: " + b"b" * 16384, 431),
    ],
)
def test_errors_of_a_head_in_single_bytes(head: bytes, status: int) -> None:
    """A line is judged at its end, and a part of a line when the head has doubled."""
    with SessionHarness() as harness:
        for at in range(len(head)):
            harness.session.connection.on_data(head[at : at + 1])
            harness.settle()
        harness.wait(20)
        assert harness.peer.head().status in (status, 408)
        assert (b"C" in head) == (harness.event_log.of("refused")[0]["status"] == 408)


def test_pongs_of_a_flood() -> None:
    """Each call of a flood of pings gets one pong."""
    with SessionHarness("--ping-interval=off") as harness:
        harness.open("json")
        harness.say(b"".join(frame(PING, b"%d" % n) for n in range(1000)))
        pongs: list[bytes] = []
        while not pongs or pongs[-1] != b"999":
            got = harness.peer.read_frame()
            assert got is not None
            assert got[0] == PONG
            pongs.append(got[1])
        assert 1 <= len(pongs) <= 1000 // MAX_EVENTS + 2
