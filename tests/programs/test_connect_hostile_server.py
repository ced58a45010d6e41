"""Hostile servers against chimirror-connect: they can end it, but no more.

The client is a real process. Except for the output itself, no control character of the
server reaches the terminal. Memory stays bounded for all data of a server, read or
unread. No server makes the client wait for ever. Protocol violations are in
test_client_hostile_server.py.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

import websocket_peer
from chimirror.connect.text_framings import MAX_MESSAGE
from connect_process import (
    ENV,
    bare_server,
    error_text,
    frame,
    ready,
    request,
    running_client,
    upgrade,
)
from fake_server import LONG, exited, output
from processes import Memory, steady, until

EVIL = "evil\x1b]0;x\x07\x9b2J\u202e\x00\x7f\r\n"
HIGH = b"evil\x9b2J\xe2\x80\xae\t"  # longest value of a field
SESSION = frame(json.dumps({"type": "session", "id": EVIL}))
Play = Callable[[websocket_peer.Peer], object]


def run_against(play: Play, *options: str) -> subprocess.CompletedProcess[bytes]:
    """Run the client against a server. Returns the finished process."""
    with (
        bare_server() as (where, take),
        running_client(*options, where, stdin=subprocess.DEVNULL) as process,
    ):
        with take() as peer, suppress(OSError):
            play(peer)
            peer.half_close()
            process.wait(LONG)
        out, err = process.communicate(timeout=LONG)
    return subprocess.CompletedProcess([], process.returncode, out, err)


def answers(answer: bytes) -> Play:
    def play(peer: websocket_peer.Peer) -> None:
        request(peer)
        peer.send_raw(answer)

    return play


def accepts(fields: bytes) -> Play:
    """Send a 101 response with these fields, one of which may use the key."""

    def play(peer: websocket_peer.Peer) -> None:
        key = request(peer).partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0]
        accept = (
            b"\r\nSec-WebSocket-Accept: " + websocket_peer.accept_value(key).encode()
        )
        head = b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade"
        peer.send_raw(head + accept + b"\r\n" + fields + b"\r\n\r\n")

    return play


def says(*frames: bytes) -> Play:
    return lambda peer: upgrade(peer, SESSION, *frames)


def message(**members: object) -> bytes:
    return frame(json.dumps(members))


WORDS: dict[str, Play] = {
    "reason": answers(b"HTTP/1.1 403 %b\r\nContent-Length: 0\r\n\r\n" % HIGH),
    "body": answers(b"HTTP/1.1 403 No\r\n\r\n" + EVIL.encode() * 9),
    "location": answers(b"HTTP/1.1 302 No\r\nLocation: %b\r\n\r\n" % HIGH),
    "later": answers(b"HTTP/1.1 503 No\r\nRetry-After: %b\r\n\r\n" % HIGH),
    "login": answers(b"HTTP/1.1 401 No\r\nWWW-Authenticate: %b\r\n\r\n" % HIGH),
    "subprotocol": accepts(b"Sec-WebSocket-Protocol: %b" % HIGH),
    "extension": accepts(b"Sec-WebSocket-Extensions: %b" % HIGH),
    "version": answers(b"HTTP/%b 200 OK\r\n\r\n" % HIGH),
    "session": says(),
    "close": says(frame(b"\x0f\xa0" + EVIL.encode(), 0x88)),
    "close-1011": says(frame(b"\x03\xf3" + EVIL.encode(), 0x88)),
    "error": says(
        message(type="error", payload=base64.b64encode(EVIL.encode()).decode())
    ),
    "signal": says(message(type="exit", signal=EVIL)),
    "type": says(message(type=EVIL)),
    "payload": says(message(type="stdout", payload=EVIL)),
    "member": says(frame(json.dumps({EVIL: 1, "type": 7}))),
    "text": says(frame(EVIL)),
}


@pytest.mark.parametrize("place", WORDS)
def test_server_texts_are_escaped(place: str) -> None:
    done = run_against(WORDS[place])
    assert (done.returncode, done.stdout) == (255, b"")
    for line in done.stderr.decode().splitlines(keepends=True):
        assert line.startswith("chimirror-connect: ")
        assert line.endswith("\n")
        assert line[:-1].isprintable()
        assert len(line) < 2000


def test_server_texts_use_the_encoding_of_the_locale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In other encodings, bytes of UTF-8 could begin a control sequence."""
    monkeypatch.setitem(ENV, "PYTHONIOENCODING", "latin-1")
    body = "\u00db2J \u0100".encode()
    done = run_against(answers(b"HTTP/1.1 403 No\r\n\r\n" + body))
    assert done.stderr == b"chimirror-connect: 403 No: \xdb2J \\u0100\n"


# Time.


def slow_response(head: bytes, drop: bytes) -> Play:
    """Send an endless response in small pieces, until the client closes."""

    def play(peer: websocket_peer.Peer) -> None:
        request(peer)
        peer.send_raw(head)
        while True:
            peer.send_raw(drop)
            with suppress(BlockingIOError):
                while peer.socket.recv(1, 0x40):  # MSG_DONTWAIT
                    pass

    return play


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"HTTP/1.1 403 No\r\n\r\n", b"x"),
        (b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 403 No\r\nContent-Length: 999999999\r\n\r\n", b"x"),
        (b"", b"\r\n"),
    ],
)
def test_an_endless_response(head: bytes, drop: bytes) -> None:
    """The client stops at the size limit or the time limit."""
    done = run_against(slow_response(head, drop), "--connect-timeout", "1")
    assert done.returncode == 255
    assert "is not valid HTTP" in error_text(
        done
    ) or "timeout: no response" in error_text(done)


# Size.


@pytest.mark.full
def test_unread_output(*, full: bool) -> None:
    """Unread output stays at the server. When it is read, it is complete."""
    size, piece = 200_000_000 if full else 48_000_000, frame(output(bytes(40_000)))
    sent = [0]

    def play(peer: websocket_peer.Peer) -> None:
        for _ in range(size // 40_000):
            peer.send_raw(piece)
            sent[0] += len(piece)
        peer.send_raw(frame(exited(3)))
        peer.half_close()

    with (
        bare_server() as (where, take),
        running_client(where) as process,
        take() as peer,
    ):
        upgrade(peer, frame(output(b"ready")))
        ready(process)
        memory = Memory([process.pid])
        with beside(lambda: play(peer)):
            until(steady(lambda: sent[0]), "the server is held up")
            assert sent[0] < size // 2
            assert process.stdout is not None
            rest = size
            while rest:
                rest -= len(os.read(process.stdout.fileno(), min(rest, 1 << 20)))
            assert memory.growth() < 32 << 20
            assert process.wait(LONG) == 3


@contextmanager
def beside(play: Callable[[], object]) -> Iterator[None]:
    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield
    finally:
        thread.join()


LENGTH = bytes([0x81, 127]) + (200_000_000).to_bytes(8, "big")
SOME, ALL = 20_000_000, 200_000_000  # bytes
MANY = {
    "message": (ALL, LENGTH, bytes(1 << 16)),
    "fragments": (ALL, frame(b"{", 0x01), frame(bytes(60_000), 0x00)),
    "empty fragments": (SOME, frame(b"", 0x01), frame(b"", 0x00) * 30_000),
    "pings": (ALL, b"", frame(bytes(125), 0x89) * 500),
    "unknown": (SOME, b"", message(type="x", more="x" * 900) * 70),
    "sessions": (ALL, b"", message(type="session", id="x" * 60_000)),
    "exits": (SOME, b"", frame(exited()) * 4_000),
}


@pytest.mark.full
@pytest.mark.parametrize("what", MANY)
def test_floods_without_output(what: str, *, full: bool) -> None:
    """It is refused, ignored or not read. The user can still leave."""
    size, first, piece = MANY[what]
    if not full:
        size = min(size, 48_000_000)  # more than the allowed growth of memory
    growth = sent = 0
    with (
        bare_server() as (where, take),
        running_client(where) as process,
        take() as peer,
    ):
        upgrade(peer, frame(output(b"ready")))
        ready(process)
        memory = Memory([process.pid])
        peer.socket.settimeout(0.5)
        # the client does not read, has closed, or has ended
        with suppress(OSError, LookupError):
            for data in (first, *[piece] * (size // len(piece))):
                peer.send_raw(data)
                sent += len(data)
                growth = memory.growth()
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LONG)
    # The client may refuse the first piece, and then it does not grow.
    assert sent >= min(len(first + piece), 1 << 16)
    # A message of 64 MiB is legal: it is collected in a buffer that grows by steps.
    assert growth < (32 << 20) + (MAX_MESSAGE * 5 // 4 if what == "fragments" else 0)
