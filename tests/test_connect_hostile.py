"""What a hostile server can do to chimirror-connect: end it, and no more.

Law: a real client process. Beyond the output, which passes as it is, not one control
character of the server's reaches the terminal; nothing that the server sends, however
much and whoever reads it, makes the process large; and nothing keeps it waiting. (What
the library makes of broken rules is in test_library_hostile.py.)
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

import peers
from remote import LONG, exited, output
from settling import Memory, steady, until
from test_connect import ENV, bare, frame, ready, request, said, started, upgrade

EVIL = "evil\x1b]0;x\x07\x9b2J\u202e\x00\x7f\r\n"
HIGH = b"evil\x9b2J\xe2\x80\xae\t"  # all that a field can hold
SESSION = frame(json.dumps({"type": "session", "id": EVIL}))
Play = Callable[[peers.Peer], object]


def told(play: Play, *options: str) -> subprocess.CompletedProcess[bytes]:
    """What the client says of such a server."""
    with (
        bare() as (where, take),
        started(*options, where, stdin=subprocess.DEVNULL) as process,
    ):
        with take() as peer, suppress(OSError):
            play(peer)
            peer.half_close()
            process.wait(LONG)
        out, err = process.communicate(timeout=LONG)
    return subprocess.CompletedProcess([], process.returncode, out, err)


def answers(answer: bytes) -> Play:
    def play(peer: peers.Peer) -> None:
        request(peer)
        peer.send_raw(answer)

    return play


def accepts(fields: bytes) -> Play:
    """A 101 with these fields, of which one may need the key."""

    def play(peer: peers.Peer) -> None:
        key = request(peer).partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0]
        accept = b"\r\nSec-WebSocket-Accept: " + peers.accept_value(key).encode()
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
def test_its_words_are_escaped(place: str) -> None:
    done = told(WORDS[place])
    assert (done.returncode, done.stdout) == (255, b"")
    for line in done.stderr.decode().splitlines(keepends=True):
        assert line.startswith("chimirror-connect: ")
        assert line.endswith("\n")
        assert line[:-1].isprintable()
        assert len(line) < 2000


def test_its_words_are_in_the_encoding_of_the_locale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where that is another, UTF-8 would hold what begins a control sequence."""
    monkeypatch.setitem(ENV, "PYTHONIOENCODING", "latin-1")
    body = "\u00db2J \u0100".encode()
    done = told(answers(b"HTTP/1.1 403 No\r\n\r\n" + body))
    assert done.stderr == b"chimirror-connect: 403 No: \xdb2J \\u0100\n"


# Time


def drips(head: bytes, drop: bytes) -> Play:
    """An answer without an end, in drops, until nobody takes any."""

    def play(peer: peers.Peer) -> None:
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
def test_an_answer_without_an_end(head: bytes, drop: bytes) -> None:
    """It is given up, for its size or for its time, whichever comes first."""
    done = told(drips(head, drop), "--connect-timeout", "1")
    assert done.returncode == 255
    assert "is not valid HTTP" in said(done) or "timeout: no answer" in said(done)


# Size


def test_output_that_nobody_reads() -> None:
    """200 MB wait where they are; then they come, and all of them."""
    size, piece = 200_000_000, frame(output(bytes(40_000)))
    sent = [0]

    def play(peer: peers.Peer) -> None:
        for _ in range(size // 40_000):
            peer.send_raw(piece)
            sent[0] += len(piece)
        peer.send_raw(frame(exited(3)))
        peer.half_close()

    with bare() as (where, take), started(where) as process, take() as peer:
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


def endless(size: int, first: bytes, piece: bytes) -> tuple[bytes, ...]:
    return (first, *[piece] * (size // len(piece)))


LENGTH = bytes([0x81, 127]) + (200_000_000).to_bytes(8, "big")
SOME, ALL = 20_000_000, 200_000_000
MANY = {
    "message": endless(ALL, LENGTH, bytes(1 << 16)),
    "fragments": endless(ALL, frame(b"{", 0x01), frame(bytes(60_000), 0x00)),
    "empty fragments": endless(SOME, frame(b"", 0x01), frame(b"", 0x00) * 30_000),
    "pings": endless(ALL, b"", frame(bytes(125), 0x89) * 500),
    "unknown": endless(SOME, b"", message(type="x", more="x" * 900) * 70),
    "sessions": endless(ALL, b"", message(type="session", id="x" * 60_000)),
    "exits": endless(SOME, b"", frame(exited()) * 4_000),
}


@pytest.mark.parametrize("what", MANY)
def test_much_of_what_is_no_output(what: str) -> None:
    """It is refused, passed over or not read; the user can still go."""
    growth = 0
    with bare() as (where, take), started(where) as process, take() as peer:
        upgrade(peer, frame(output(b"ready")))
        ready(process)
        memory = Memory([process.pid])
        peer.socket.settimeout(0.5)
        with suppress(OSError, LookupError):  # it is not read, closed upon, or over
            for piece in MANY[what]:
                peer.send_raw(piece)
                growth = memory.growth()
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LONG)
    assert 0 < growth < 32 << 20
