"""chimirror-connect as a process, against fake servers.

The client is always a real process. The server is that of the `websockets` library, or
a bare socket for violations of the protocol. Knows chimirror-protocol(7), and nothing
of chimirror's own server.
"""

from __future__ import annotations

import base64
import errno
import fcntl
import hashlib
import json
import os
import select
import signal
import subprocess
from pathlib import Path

import pytest

import websocket_peer
from connect_process import (
    ARGV,
    ENV,
    bare_server,
    connect,
    error_text,
    frame,
    peak_memory,
    read_client_frame,
    ready,
    request,
    running_client,
    shell,
    upgrade,
)
from fake_server import LONG, Remote, exited, fake, output

# Streams.


def play(ws: Remote) -> None:
    """Echo stdin to both streams, report other messages, and exit with 3."""
    others = []
    for message in ws:
        if message["type"] == "stdin":
            data = base64.b64decode(message["payload"])
            ws.send(output(data))
            ws.send(output(data[::-1], "stderr"))
        else:
            others.append(message)
            break
    assert others == [{"type": "eof"}]
    ws.send('{"type":"from a newer server"}')
    ws.send(exited(3))
    ws.close(1011, "exit 3")


EVERY = bytes(range(256))


def test_streams_are_joined_byte_by_byte() -> None:
    with fake(play) as server:
        done = connect(server.url, stdin=EVERY)
    assert (done.returncode, done.stdout, done.stderr) == (3, EVERY, EVERY[::-1])


@pytest.mark.parametrize("kind", ["file", "pipe", "null", "closed"])
def test_kinds_of_stdin(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(EVERY)
    argv = {
        "file": f"exec \"$@\" <'{file}'",
        "pipe": f"cat '{file}' | \"$@\"",
        "null": 'exec "$@" </dev/null',
        "closed": 'exec "$@" <&-',
    }
    with fake(play) as server:
        done = shell(argv[kind], server.url)
    assert done.returncode == 3
    assert done.stdout == (EVERY if kind in ("file", "pipe") else b"")


def test_a_terminal() -> None:
    ours, theirs = os.openpty()
    with fake(play) as server, running_client(server.url, stdin=theirs) as process:
        os.write(ours, b"one\n")
        assert process.stdout is not None
        assert process.stdout.read(4) == b"one\n"
        assert not fcntl.fcntl(theirs, fcntl.F_GETFL) & os.O_NONBLOCK
        os.write(ours, b"\x04")
        assert process.wait(LONG) == 3
    os.close(ours)
    os.close(theirs)


def test_end_of_input_does_not_end_the_session() -> None:
    def late(ws: Remote) -> None:
        assert ws.message() == {"type": "eof"}
        ws.send(output(b"still here"))
        ws.send(exited(0))

    with fake(late) as server:
        done = connect(server.url)
    assert (done.returncode, done.stdout) == (0, b"still here")


def test_order_of_the_streams_is_kept() -> None:
    def mixed(ws: Remote) -> None:
        for number in range(200):
            ws.send(output(b"%d " % number, "stderr" if number % 2 else "stdout"))
        ws.send(exited())

    with fake(mixed) as server:
        done = shell('"$@" 2>&1', server.url)
    assert done.stdout.split() == [b"%d" % number for number in range(200)]


def test_input_that_cannot_be_read() -> None:
    with fake(list) as server:
        done = shell('"$@" 0>/dev/null', server.url)
    assert (done.returncode, error_text(done)) == (
        255,
        "cannot read standard input: Bad file descriptor",
    )


# Exit statuses.


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ({"code": 0}, 0),
        ({"code": 255}, 255),
        ({"signal": "KILL"}, 137),
        ({"signal": "SEGV"}, 139),
        ({"signal": "32"}, 160),
        ({"signal": "40"}, 168),
        ({"signal": "64"}, 192),
    ],
)
def test_status(message: dict[str, object], status: int) -> None:
    def handler(ws: Remote) -> None:
        ws.send(json.dumps({"type": "exit", **message}))

    with fake(handler) as server:
        done = connect(server.url)
    assert (done.returncode, done.stderr) == (status, b"")


@pytest.mark.parametrize("name", ["", "0", "65", "040", "²", "NONE", "9.5"])
def test_a_signal_that_does_not_exist(name: str) -> None:
    def handler(ws: Remote) -> None:
        ws.send(json.dumps({"type": "exit", "signal": name}))

    with fake(handler) as server:
        done = connect(server.url)
    assert done.returncode == 255
    assert "which is unknown on this system" in error_text(done)


def test_output_and_exit_in_one_segment() -> None:
    with (
        bare_server() as (where, take),
        running_client(where) as process,
        take() as peer,
    ):
        upgrade(
            peer,
            frame('{"type":"session","id":"x"}'),
            frame(output(b"no newline")),
            frame(exited(7)),
            frame(b"\x03\xf3exit 7", 0x88),
        )
        peer.half_close()
        out, err = process.communicate(timeout=LONG)
    assert (process.returncode, out, err) == (7, b"no newline", b"")


def test_a_status_counts_after_a_lost_connection() -> None:
    with (
        bare_server() as (where, take),
        running_client(where) as process,
        take() as peer,
    ):
        upgrade(peer, frame(exited(4)))
        peer.half_close()
        process.communicate(timeout=LONG)
    assert process.returncode == 4


@pytest.mark.parametrize(
    ("close", "text"),
    [
        (
            b"\x03\xe9idle",
            "close 1001 (going away): idle",
        ),
        (
            b"\x03\xe9drain",
            "close 1001 (going away): drain (the server is shutting down)",
        ),
        (
            b"\x03\xe9closed by operator",
            "close 1001 (going away): closed by operator",
        ),
        (
            b"\x0f\xa0\x1b[2J\xe2\x80\xae",
            "close 4000: \\x1b[2J\\u202e",
        ),
        (
            None,
            "close 1006 (connection cut): the server closed the connection",
        ),
    ],
)
def test_no_status(close: bytes | None, text: str) -> None:
    with (
        bare_server() as (where, take),
        running_client(where) as process,
        take() as peer,
    ):
        upgrade(peer, frame('{"type":"session","id":"x"}'))
        peer.send_raw(frame(close, 0x88) if close else b"")
        peer.half_close()
        out, err = process.communicate(timeout=LONG)
    done = subprocess.CompletedProcess([], process.returncode, out, err)
    came = "the session ended before its exit status came (session x): "
    assert (done.returncode, error_text(done)) == (255, came + text)


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (frame("{"), "violates chimirror.stdio.v1: a message is not JSON"),
        (frame("[]"), "a message is not a JSON object"),
        (frame("[" * 60000), "a message is not JSON"),
        (frame('{"type":"stdout","payload":"*"}'), "a payload is not base64"),
        (frame('{"type":"exit","code":256}'), "not a number from 0 to 255"),
        (frame('{"type":"exit"}'), "lacks its signal"),
        (frame(b"\xff"), "is not UTF-8"),
        (frame(b"x", 0x82), "a message is binary"),
        (frame(b"x", 0xC1), "broke the WebSocket protocol"),
        (bytes([0x81, 127]) + (1 << 40).to_bytes(8, "big"), "broke the WebSocket"),
    ],
)
def test_a_server_that_violates_the_protocol(sent: bytes, text: str) -> None:
    with (
        bare_server() as (where, take),
        running_client(where) as process,
        take() as peer,
    ):
        upgrade(peer, sent)
        while read_client_frame(peer)[0] != 8:
            pass
        peer.half_close()
        out, err = process.communicate(timeout=LONG)
    done = subprocess.CompletedProcess([], process.returncode, out, err)
    assert done.returncode == 255
    assert text in error_text(done)


def test_errors_are_shown_and_escaped() -> None:
    def handler(ws: Remote) -> None:
        payload = base64.b64encode(b"unknown type \x1b]0;x\x07\xff").decode()
        ws.send(json.dumps({"type": "error", "payload": payload}))
        ws.send(exited())

    with fake(handler) as server:
        done = connect(server.url)
    assert done.returncode == 0
    assert error_text(done) == "the server says: unknown type \\x1b]0;x\\x07\\xff"


# Signals.


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP", "QUIT", "USR1", "USR2"])
def test_signals_are_forwarded(name: str) -> None:
    def handler(ws: Remote) -> None:
        ws.send(output(b"ready"))
        assert ws.message() == {"type": "signal", "name": name}
        ws.send(json.dumps({"type": "exit", "signal": name}))

    number = signal.Signals[f"SIG{name}"]
    with fake(handler) as server, running_client(server.url) as process:
        ready(process)
        process.send_signal(number)
        assert process.wait(LONG) == 128 + number


def test_the_same_signal_again_ends_the_client() -> None:
    def handler(ws: Remote) -> None:
        ws.send(output(b"ready"))
        ws.message()
        ws.send(output(b"ready"))
        assert list(ws) == []
        assert ws.close_code == 1001

    with fake(handler) as server, running_client(server.url) as process:
        for _ in range(2):
            ready(process)
            process.send_signal(signal.SIGINT)
        assert process.wait(LONG) == -signal.SIGINT
        server.join()


def test_a_signal_to_a_server_that_does_not_answer_ends_the_client() -> None:
    with (
        bare_server() as (where, take),
        running_client(where) as process,
        take() as peer,
    ):
        upgrade(peer, frame(output(b"ready")))
        ready(process)
        process.send_signal(signal.SIGINT)
        while b'"INT"' not in read_client_frame(peer)[1]:
            pass  # the end of input comes first
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONG) == -signal.SIGTERM


def test_a_signal_before_the_session_ends_the_client() -> None:
    with (
        bare_server() as (where, take),
        running_client(where) as process,
        take() as peer,
    ):
        request(peer)
        process.send_signal(signal.SIGINT)
        assert process.wait(LONG) == -signal.SIGINT
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_signals_ignored_by_nohup_are_not_forwarded() -> None:
    def handler(ws: Remote) -> None:
        ws.send(output(b"ready"))
        assert ws.message() == {"type": "signal", "name": "USR1"}
        ws.send(exited())

    argv = ["sh", "-c", 'trap "" HUP INT; exec "$@"', "sh", *ARGV]
    with (
        fake(handler) as server,
        subprocess.Popen(
            [*argv, server.url],
            env=ENV,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process,
    ):
        ready(process)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1):
            process.send_signal(number)
        assert process.wait(LONG) == 0


# Local output.


def talk(ws: Remote) -> None:
    ws.send(output(b"hello"))
    assert not [message for message in ws if message["type"] != "eof"]
    assert ws.close_code == 1000


def test_a_reader_that_leaves() -> None:
    closed = []

    def handler(ws: Remote) -> None:
        # More than the client buffers, but less than the kernel does: no deadlock.
        for _ in range(8):
            ws.send(output(bytes(1 << 16)))
        closed.append(list(ws)[:0] or ws.close_code)

    with fake(handler) as server:
        done = shell('"$@" | head -c 5; echo ${PIPESTATUS[0]}', server.url)
        server.join()
    assert (done.stdout, done.stderr) == (bytes(5) + b"141\n", b"")
    assert closed == [1000]


@pytest.mark.parametrize(
    ("redirection", "text"),
    [(">/dev/full", os.strerror(errno.ENOSPC)), (">&-", os.strerror(errno.EBADF))],
)
def test_output_that_cannot_be_written(redirection: str, text: str) -> None:
    with fake(talk) as server:
        done = shell(f'"$@" {redirection}', server.url)
        server.join()
    assert done.returncode == 255
    assert error_text(done) == f"cannot write standard output: {text}"


def test_stderr_that_cannot_be_written_is_dropped() -> None:
    def handler(ws: Remote) -> None:
        ws.send(output(b"lost", "stderr"))
        ws.send(output(b"kept"))
        ws.send(exited(5))

    with fake(handler) as server:
        done = shell('"$@" 2>/dev/full', server.url)
    assert (done.returncode, done.stdout) == (5, b"kept")


def stalled(descriptor: int, event: int) -> bool:
    """Whether the descriptor stays unready for a while."""
    poll = select.poll()
    poll.register(descriptor, event)
    return not poll.poll(500)


def test_unread_output_stops_the_server() -> None:
    size = 1 << 25
    message = frame(output(bytes(1 << 14)))
    with (
        bare_server() as (where, take),
        running_client(where) as process,
        take() as peer,
    ):
        upgrade(peer, frame(output(b"ready")))
        ready(process)
        before = peak_memory(process.pid)
        peer.socket.setblocking(False)
        rest = message * (size >> 14)
        sent = 0
        while not stalled(peer.socket.fileno(), select.POLLOUT):
            sent += peer.socket.send(rest[sent : sent + (1 << 16)])
        assert sent < len(rest)
        peer.socket.settimeout(LONG)
        sender = websocket_peer.Sender(peer, [rest[sent:], frame(exited())])
        assert process.stdout is not None
        with sender:
            digest = hashlib.sha256(process.stdout.read(size)).digest()
        assert digest == hashlib.sha256(bytes(size)).digest()
        assert peak_memory(process.pid) - before < 8 << 20
        peer.half_close()
        assert process.wait(LONG) == 0
