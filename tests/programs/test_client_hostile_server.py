"""Hostile servers against the client library: they can end the session, but no more.

The server is a bare socket that violates the protocol, or a sequence of bytes where no
socket is needed. The tests check for an exception with a correct text, bounded memory,
and an end of the client.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import websocket_peer
from chimirror.client import (
    Error,
    NotConnected,
    ProtocolViolation,
    SessionLost,
    aio,
    buffers,
    framing,
    handshake,
    session,
    transport,
    url,
    websocket,
)
from client_apis import APIS, Connect
from connect_process import bare_server, frame, read_client_frame, request, upgrade
from fake_server import exited, output
from processes import steady, until

SESSION = frame('{"type":"session","id":"x\\u001b[2J"}')
EVIL = "x\\x1b[2J"


@pytest.fixture(params=sorted(APIS))
def connect(request: pytest.FixtureRequest) -> Connect:
    return APIS[request.param]


@contextmanager
def serving(play: Callable[[websocket_peer.Peer], object]) -> Iterator[str]:
    """Serve one client with `play`. An exception in `play` fails the test."""
    wrong: list[BaseException] = []
    with bare_server() as (where, take):

        def run() -> None:
            try:
                with take() as peer:
                    play(peer)
            except (OSError, EOFError):
                pass  # the client disconnected, and the test checks its exception
            except BaseException as error:  # noqa: BLE001 it fails the test
                wrong.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield where
        finally:
            thread.join()
    assert not wrong


def drain(peer: websocket_peer.Peer) -> None:
    while peer.socket.recv(1 << 16):
        pass


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (frame("{"), "violates chimirror.stdio.v1: a message is not JSON"),
        (frame("[]"), "a message is not a JSON object"),
        (frame("[" * 60000), "a message is not JSON"),
        (frame('{"type":7}'), "a message has no type"),
        (frame('{"type":"session","id":7}'), "lacks its id"),
        (frame('{"type":"stdout","payload":7}'), "lacks its payload"),
        (frame('{"type":"stdout","payload":"*"}'), "a payload is not base64"),
        (frame('{"type":"exit","code":256}'), "not a number from 0 to 255"),
        (frame('{"type":"exit","code":true}'), "not a number from 0 to 255"),
        (frame('{"type":"exit"}'), "lacks its signal"),
        (frame(b"\xff"), "is not UTF-8"),
        (frame(b"x", 0x82), "a message is binary"),
        (frame(b"x", 0xC1), "broke the WebSocket protocol"),
        (frame(b"x", 0x80), "broke the WebSocket protocol"),
        (frame(b"\x03", 0x88), "broke the WebSocket protocol"),
        (b"\x89\x7e\x01\x00" + bytes(256), "broke the WebSocket protocol"),
        (b"\x81\x81abcdx", "broke the WebSocket protocol"),
        (bytes([0x81, 127]) + (1 << 40).to_bytes(8, "big"), "broke the WebSocket"),
    ],
)
def test_protocol_violations(connect: Connect, sent: bytes, text: str) -> None:
    """Earlier messages are still delivered. The client closes the connection."""
    closes = []

    def play(peer: websocket_peer.Peer) -> None:
        upgrade(peer, SESSION, frame(output(b"before")), sent)
        while (opcode := read_client_frame(peer)[0]) != 8:
            pass
        closes.append(opcode)
        peer.half_close()
        drain(peer)

    with serving(play) as where, connect(where) as session:
        outputs = iter(session)
        assert next(outputs).data == b"before"
        with pytest.raises(ProtocolViolation, match=text) as caught:
            next(outputs)
        assert (caught.value.session, caught.value.close_code) == (EVIL, 1006)
        with pytest.raises(ProtocolViolation):
            session.wait()
        with pytest.raises(Error):
            session.send(b"x")
    assert closes == [8]


@pytest.mark.parametrize(
    ("close", "code", "text"),
    [
        (b"\x03\xe9idle", 1001, r"\(session .*\): close 1001 \(going away\): idle"),
        (b"\x0f\xa0\x1b[2J\xe2\x80\xae", 4000, r"close 4000: \\x1b\[2J\\u202e$"),
        (b"\x03\xe8exit 0", 1000, r"close 1000 \(normal\): exit 0"),
        (b"", 1005, "no code given"),
        (None, 1006, "the server closed the connection"),
    ],
)
def test_an_end_without_a_status(
    connect: Connect, close: bytes | None, code: int, text: str
) -> None:
    def play(peer: websocket_peer.Peer) -> None:
        upgrade(peer, SESSION, frame(output(b"cut of")))
        if close is not None:
            peer.send_raw(frame(close, 0x88))
        peer.half_close()
        drain(peer)

    with serving(play) as where, connect(where) as session:
        lines = session.stdout.lines()
        assert next(lines) == "cut of"
        with pytest.raises(SessionLost, match=text) as caught:
            next(lines)
        assert caught.value.close_code == code
        assert "\x1b" not in str(caught.value) + caught.value.reason
        with pytest.raises(SessionLost):
            list(session)
        with pytest.raises(SessionLost):
            session.run()


def test_a_connection_that_is_reset(connect: Connect) -> None:
    def play(peer: websocket_peer.Peer) -> None:
        upgrade(peer, SESSION)
        read_client_frame(peer)
        reset = b"\1\0\0\0\0\0\0\0"  # struct linger: on, 0 seconds
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)

    with serving(play) as where, connect(where) as session:
        session.send(b"x")
        with pytest.raises(SessionLost, match="connection reset by peer"):
            session.wait()


def test_a_server_that_never_closes(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a close by either side, the client waits, but not long."""
    monkeypatch.setattr(websocket, "CLOSE_TIMEOUT", 0.1)
    held = []

    def play(peer: websocket_peer.Peer) -> None:
        upgrade(peer, SESSION, frame(exited(4)), frame(b"\x03\xf3exit 4", 0x88))
        drain(peer)

    def stay(peer: websocket_peer.Peer) -> None:
        upgrade(peer, SESSION)
        held.append(len(peer.exactly(1)))
        drain(peer)

    with serving(play) as where, connect(where) as session:
        assert session.wait().code == 4
    with serving(stay) as where, connect(where):
        pass
    assert held == [1]


def test_a_flood_that_ignores_the_close(connect: Connect) -> None:
    def play(peer: websocket_peer.Peer) -> None:
        upgrade(peer, SESSION)
        while True:
            peer.send_raw(frame(output(bytes(1 << 14))))

    with serving(play) as where, connect(where) as session:
        session.receive()
        session.close()
        assert session.receive() is None


def test_a_silent_server(connect: Connect) -> None:
    def play(peer: websocket_peer.Peer) -> None:
        upgrade(peer, SESSION)
        while read_client_frame(peer)[0] != 9:
            pass
        drain(peer)

    pings = {"ping_interval": 0.1, "ping_timeout": 0.1}
    with (
        serving(play) as where,
        connect(where, **pings) as session,
        pytest.raises(SessionLost, match=r"nothing received for 0\.2 s"),
    ):
        session.wait()


def test_messages_over_the_limit(connect: Connect) -> None:
    def play(peer: websocket_peer.Peer) -> None:
        upgrade(peer, SESSION, frame(output(bytes(1000))))
        drain(peer)

    with (
        serving(play) as where,
        connect(where, max_message=1000) as session,
        pytest.raises(ProtocolViolation, match="broke the WebSocket protocol"),
    ):
        session.wait()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, "is not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000, "is not valid HTTP"),
        (b"HTTP/1.1 500 No\r\n\r\n" + b"x" * (2 << 20), "is not valid HTTP"),
        (b"\0" * 100_000, "is not valid HTTP"),
        (b"HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\n\r\n", "of this kind"),
        (b"HTTP/1.1 101 Yes\r\n\r\n", "of this kind"),
        (b"HTTP/1.1 401 No\r\nWWW-Authenticate: \x9b, A\r\nContent-Length: 0\r\n\r\n",
         r"401 No \(it asks for A\)"),
        (b"HTTP/1.1 302 Go\r\nLocation: http://x/\r\nContent-Length: 0\r\n\r\n",
         r"302 Go \(not followed: it points to http://x/\)"),
    ],
)  # fmt: skip
def test_answers_to_the_handshake(connect: Connect, answer: bytes, text: str) -> None:
    def play(peer: websocket_peer.Peer) -> None:
        request(peer)
        peer.send_raw(answer)
        peer.half_close()
        drain(peer)

    with (
        serving(play) as where,
        pytest.raises(NotConnected, match=text),
        connect(where),
    ):
        pass


# Limits.


def test_unread_output_stops_the_server(connect: Connect) -> None:
    size = 1 << 26
    message = frame(output(bytes(1 << 14)))
    sent = [0]

    def play(peer: websocket_peer.Peer) -> None:
        upgrade(peer, SESSION)
        for _ in range(size >> 14):
            peer.send_raw(message)
            sent[0] += len(message)
        peer.send_raw(frame(exited()))
        peer.half_close()
        drain(peer)

    with serving(play) as where, connect(where) as session:
        until(steady(lambda: sent[0]), "the server is held up")
        assert sent[0] < size // 2  # the buffers of sockets hold some megabytes
        read = sum(len(chunk) for chunk in session.stdout)
        assert read == size
        assert session.wait().code == 0


def test_a_server_that_does_not_read_blocks_senders(connect: Connect) -> None:
    proceed = threading.Event()
    got = [0]

    def play(peer: websocket_peer.Peer) -> None:
        upgrade(peer, SESSION)
        proceed.wait()
        while data := peer.socket.recv(1 << 16):
            got[0] += len(data)

    size = 1 << 26
    with serving(play) as where, connect(where) as session:
        sending = threading.Thread(target=session.send, args=(bytes(size),))
        sending.start()

        def pending() -> int:
            return session._protocol.websocket.pending_bytes

        until(
            steady(pending, above=websocket.MAX_PENDING - 1), "the sending is held up"
        )
        assert pending() < websocket.MAX_PENDING + (1 << 16)
        with pytest.raises(TimeoutError):
            session.send(b"x", timeout=0)
        proceed.set()
        sending.join()
        until(lambda: got[0] > size // 3 * 4, "all of it has arrived")


class OfflineSession:
    """A session without a socket. Bytes of the server are fed while it reads."""

    def __init__(self, kind: str = "stdio") -> None:
        self.now = 0.0
        params = handshake.ConnectionParams(url.parse("ws://x/"))
        used = framing.create(kind)
        self.websocket = params.create_websocket([used.subprotocol], lambda: self.now)
        self.core = session.SessionProtocol(
            self.websocket,
            [framing.Offer(used.subprotocol, used)],
            params,
            threading.get_ident,
        )
        head = bytes(self.websocket.next_data()).decode()
        self.websocket.on_sent(len(head))
        key = head.partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0]
        self.feed(
            b"HTTP/1.1 101 Y\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\nSec-WebSocket-Protocol: %b\r\n\r\n"
            % (websocket_peer.accept_value(key).encode(), used.subprotocol.encode())
        )

    @property
    def reading(self) -> bool:
        return self.websocket.can_read(self.core.wants_data)

    def feed(self, data: bytes) -> int:
        """Feed data in pieces while the session reads. Returns the number of bytes."""
        fed = 0
        while fed < len(data) and self.reading:
            self.core.data_received(data[fed : fed + (1 << 16)])
            while self.websocket.has_received_data:
                self.core.data_received(b"")
            fed += 1 << 16
        return min(fed, len(data))


@pytest.mark.parametrize(
    ("kind", "flood"),
    [
        ("stdio", frame(output(b"x"))),
        ("stdio", frame(output(b""))),
        ("stdio", frame('{"type":"error","payload":""}')),
        ("stdio", frame('{"type":"session","id":"' + "x" * 9999 + '"}')),
        ("stdio", frame(exited(1)) + frame(output(b"x" * 9999))),
        ("stdio", frame(bytes(125), 0x89)),
        ("stdio", frame(b"", 0x8A)),
        ("stdio", frame(b"", 0x01) + frame(b"", 0x00) * 9999),
        ("lines", frame("")),
        ("json", frame(exited(1))),
    ],
)
def test_floods_are_bounded(kind: str, flood: bytes) -> None:
    offline = OfflineSession(kind)
    block = flood * min(5_000, (1 << 20) // len(flood))
    tracemalloc.start()
    try:
        base = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(4):
            offline.feed(block)
        growth = tracemalloc.get_traced_memory()[1] - base
    finally:
        tracemalloc.stop()
    assert growth < 4 << 20
    assert offline.core._buffer.size < buffers.HIGH_WATER + (8 << 20)
    assert offline.websocket.pending_bytes < websocket.MAX_PENDING + (1 << 20)


# Fairness.

TINY = {
    "fragments": frame(b"", 0x01) + frame(b"", 0x00) * 20_000,
    "empty texts": frame("") * 20_000,
    "pings": frame(b"", 0x89) * 20_000,
    "pongs": frame(b"", 0x8A) * 20_000,
    "unknown": frame('{"type":"x"}') * 4_000,
}
MAX_TURN = websocket.MAX_FRAMES + websocket.MAX_SLICE_SIZE // 2


@pytest.mark.parametrize("kind", TINY)
def test_tiny_frames_are_received_in_turns(kind: str) -> None:
    offline = OfflineSession("lines" if kind == "empty texts" else "stdio")
    offline.core._buffer.discard("stdout")
    ours, peers = socket.socketpair()
    with ours, peers:
        moving = transport.Transport(ours, offline.core)
        peers.send(TINY[kind][:60_000])
        turns = [offline.websocket.frames_received]
        while len(turns) == 1 or moving.has_buffered_data():
            moving.receive()
            moving.flush()
            turns.append(offline.websocket.frames_received)
    assert offline.websocket.fault is None
    assert turns[-1] > 2000
    assert max(later - before for before, later in pairwise(turns)) <= MAX_TURN


@pytest.mark.parametrize("kind", TINY)
def test_other_tasks_run_between_turns(kind: str) -> None:
    """Counts the frames between two turns of another task of the event loop."""

    def play(peer: websocket_peer.Peer) -> None:
        upgrade(peer, SESSION)
        peer.send_raw(TINY[kind])
        peer.half_close()
        drain(peer)

    async def run(where: str) -> int:
        async with aio.connect(where) as flooded:
            websocket = flooded._protocol.websocket
            reading = asyncio.create_task(flooded.run())
            seen, most = websocket.frames_received, 0
            while not reading.done():
                await asyncio.sleep(0)
                most = max(most, websocket.frames_received - seen)
                seen = websocket.frames_received
            await asyncio.gather(reading, return_exceptions=True)
            return most

    with serving(play) as where:
        most = asyncio.run(run(where))
    assert 0 < most <= 2 * MAX_TURN  # received bytes, then the socket


def test_messages_in_fragments() -> None:
    offline = OfflineSession()
    text = output(b"whole").encode()
    first, second, rest = text[:5], text[5:9], text[9:]
    offline.feed(frame(first, 0x01) + frame(b"", 0x89) + frame(second, 0x00))
    assert offline.core._buffer.take(["stdout"]) is None
    offline.feed(frame(rest, 0x80))
    assert offline.core._buffer.take(["stdout"]) == ("stdout", b"whole")


@given(st.binary(max_size=500), st.integers(1, 100))
def test_garbage_as_response(data: bytes, size: int) -> None:
    params = handshake.ConnectionParams(url.parse("ws://x/"))
    response = params.create_websocket(["x"], lambda: 0.0)
    for start in range(0, len(data), size):
        response.data_received(data[start : start + size])
    response.on_connection_lost("")
    with pytest.raises(NotConnected) as caught:
        params.check_response(response, ["x"])
    assert str(caught.value).isprintable()


FIELDS = st.sampled_from(
    b"Upgrade Connection Sec-WebSocket-Accept Sec-WebSocket-Protocol X Location "
    b"Sec-WebSocket-Extensions Content-Length Content-Type Transfer-Encoding".split()
)


@given(
    st.sampled_from([101, 100, 200, 204, 301, 401, 503, 999]),
    st.lists(st.tuples(FIELDS, st.binary(max_size=20))),
    st.binary(max_size=50),
)
def test_almost_valid_responses(
    status: int, fields: list[tuple[bytes, bytes]], body: bytes
) -> None:
    head = b"HTTP/1.1 %d X\r\n" % status
    head += b"".join(b"%b: %b\r\n" % pair for pair in fields)
    params = handshake.ConnectionParams(url.parse("ws://x/"))
    found = params.create_websocket(["x"], lambda: 0.0)
    found.data_received(head + b"\r\n" + body)
    found.on_connection_lost("")
    with pytest.raises(NotConnected) as caught:
        params.check_response(found, ["x"])
    assert str(caught.value).isprintable()


MESSAGES = st.sampled_from(
    [
        *(output(b"x"), output(b"y", "stderr"), exited(), exited(3), "{}", "", '"x"'),
        '{"type":"error","payload":"eA=="}',
        '{"type":"session","id":"\\u0000"}',
        '{"type":"exit","signal":"\\u001b"}',
        '{"type":"new"}',
    ]
)
FRAMES = st.one_of(
    MESSAGES.map(frame),
    st.tuples(st.binary(max_size=130), st.integers(0, 255)).map(lambda p: frame(*p)),
    st.binary(max_size=20),
)


@given(st.lists(FRAMES, max_size=20), st.integers(1, 200), st.sampled_from(
    ["stdio", "json", "lines", "lsp"]
))  # fmt: skip
def test_garbage_in_a_session(said: list[bytes], size: int, kind: str) -> None:
    """All inputs, in all cuts, cause output, an exit or a printable error."""
    offline = OfflineSession(kind)
    data = b"".join(said)
    for start in range(0, len(data), size):
        offline.feed(data[start : start + size])
    offline.websocket.on_connection_lost("")
    offline.core.on("error", print)
    try:
        for _ in offline.core.run():
            pass
        str(offline.core.require_exit()).encode()
    except SessionLost as error:
        assert str(error).isprintable()
        assert error.reason.isprintable()
