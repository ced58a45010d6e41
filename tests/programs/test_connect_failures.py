"""Failures of chimirror-connect before a session, and its requests.

The client is a real process. Each failure is one escaped line on stderr with status
255, or 64 for the command line. Misbehaving servers are bare sockets.
"""

from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path

import pytest

from connect_process import (
    bare_server,
    connect,
    error_text,
    read_client_frame,
    ready,
    request,
    running_client,
    upgrade,
)
from fake_server import LONG, Remote, exited, fake, output
from tls_servers import certificate, server_context

__all__ = ["certificate"]


def test_nothing_listens() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        done = connect(f"ws://user:secret@127.0.0.1:{port}/")
    assert done.returncode == 255
    assert error_text(done).startswith(
        f"cannot connect to 127.0.0.1 port {port}: connection refused; nothing listens"
    )


def test_no_such_host() -> None:
    done = connect("ws://no-such-host.invalid/")
    assert done.returncode == 255
    assert error_text(done).startswith("cannot find the host no-such-host.invalid: ")


def test_no_such_socket(tmp_path: Path) -> None:
    done = connect(f"ws+unix:{tmp_path}/none")
    assert done.returncode == 255
    assert error_text(done).startswith(
        f"cannot connect to {tmp_path}/none: no such file or directory; is the server"
    )


UNANSWERED = (
    "{} closed the connection without a response; is it a WebSocket server, "
    "and should it be wss://?"
)
PLAIN = b"Content-Type: text/plain; charset=utf-8\r\n"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (
            b"HTTP/1.1 403 Forbidden\r\n"
            + PLAIN
            + b"Content-Length: 8\r\n\r\nnot\x1b[1m\n",
            "403 Forbidden: not\\x1b[1m",
        ),
        (
            b"HTTP/1.1 503 Full\r\nRetry-After: 5\r\n\r\nno\r\nroom",
            "503 Full: no room (try again after 5)",
        ),
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n\r\n<html>",
            "404 Not Found; --list shows the applications of a server",
        ),
        (
            b"HTTP/1.1 301 Moved\r\nLocation: wss://x/\x9b\r\n\r\n",
            "301 Moved (not followed: it points to wss://x/\\x9b)",
        ),
        (
            b"HTTP/1.1 200 OK\r\n" + PLAIN + b"\r\n" + b"x" * 5000,
            "200 OK: " + "x" * 1000 + "... (no WebSocket at this URL)",
        ),
        (
            b"SSH-2.0-x\r\n",
            "{} is not a WebSocket server: its response is not valid HTTP",
        ),
        (
            b"",
            UNANSWERED,
        ),
    ],
    ids=["403", "503", "404", "301", "200", "ssh", "nothing"],
)
def test_refusals_are_reported(answer: bytes, text: str) -> None:
    with (
        bare_server() as (where, take),
        running_client(where + "x") as process,
        take() as peer,
    ):
        request(peer)
        peer.send_raw(answer)
        peer.half_close()
        out, err = process.communicate(timeout=LONG)
    done = subprocess.CompletedProcess([], process.returncode, out, err)
    place = "127.0.0.1 port " + where.rpartition(":")[2].strip("/")
    assert (done.returncode, out, error_text(done)) == (255, b"", text.format(place))


def test_an_answer_that_does_not_come() -> None:
    with bare_server() as (where, _):
        done = connect("--connect-timeout", "100ms", where)
    assert done.returncode == 255
    assert error_text(done).startswith(
        "timeout: no response to the handshake from 127.0.0.1"
    )


def test_a_server_that_does_not_choose_the_subprotocol() -> None:
    with fake(list, subprotocol=None) as server:
        done = connect("--framing=stdio", server.url)
    assert done.returncode == 255
    assert "does not speak chimirror.stdio.v1" in error_text(done)
    assert error_text(done).endswith("; text goes with --framing lines")


# TLS.


def much(ws: Remote) -> None:
    for _ in range(16):
        ws.send(output(bytes(1 << 16)))
    ws.send(exited(9))


def test_tls_with_own_authority(certificate: Path) -> None:
    with fake(much, context=server_context(certificate)) as server:
        done = connect("--ca", str(certificate), server.url)
    assert (done.returncode, done.stdout) == (9, bytes(1 << 20))


def test_tls_that_is_not_trusted(certificate: Path) -> None:
    with fake(much, context=server_context(certificate)) as server:
        done = connect(server.url)
    assert done.returncode == 255
    assert error_text(done).endswith(
        "is not trusted: it is self-signed; if it is your own, trust it with --ca FILE"
    )


def test_a_server_without_tls() -> None:
    with (
        bare_server() as (where, take),
        running_client("wss" + where[2:]) as process,
        take() as peer,
    ):
        peer.send_raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        assert process.stderr is not None
        assert b"does not speak TLS; use ws://" in process.stderr.read()
        assert process.wait(LONG) == 255


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--ca", "/none"], "--ca: /none cannot be read: no such file or directory; "),
        (["--cert", "/dev/null"], "--cert: /dev/null is empty; it must hold a cert"),
    ],
)
def test_files_that_cannot_be_used(options: list[str], text: str) -> None:
    done = connect(*options, "wss://localhost/")
    assert done.returncode == 255
    assert error_text(done).startswith(text)


def test_a_certificate_without_its_key(certificate: Path) -> None:
    alone = certificate.with_name("cert.pem")
    done = connect("--cert", str(alone), "wss://localhost/")
    assert done.returncode == 255
    assert error_text(done) == (
        f"--cert: {alone} holds no private key; name its file with --key FILE"
    )
    done = connect("--cert", str(alone), "--key", str(alone), "wss://localhost/")
    assert error_text(done).startswith(f"--key: {alone} holds no private key in PEM")


# Request.


def test_the_request(tmp_path: Path) -> None:
    asked = []

    def handler(ws: Remote) -> None:
        asked.append(ws.request)
        ws.send(exited())

    fields = [
        "--header",
        "X-A: 1",
        "--header=X-A:\u00e4",
        "--origin",
        "https://x.example",
    ]
    with fake(handler, path=f"{tmp_path}/s:x") as server:
        done = connect(*fields, f"ws+unix:{tmp_path}/s%3Ax:/a%20b?c=d")
    assert done.returncode == 0, server.url
    (head,) = asked
    assert head.path == "/a%20b?c=d"
    assert head.headers.get_all("Host") == ["localhost"]
    assert head.headers.get_all("Origin") == ["https://x.example"]
    assert head.headers.get_all("X-A") == ["1", "\u00e4".encode().decode("latin-1")]
    assert "Sec-WebSocket-Extensions" not in head.headers


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        ([], "no URL"),
        (["ws://x/", "y"], "cannot use the URL y"),
        (["--head", "a:b", "ws://x/"], "--head is not an option"),
        (["--framing", "xml", "ws://x/"], '--framing: "xml" is not stdio, json, lines'),
        (["--subprotocol", "a b", "ws://x/"], "--subprotocol: write a name without"),
        (["--linger", "soon", "ws://x/"], '--linger: "soon" is not'),
        (["--pty", "--no-pty", "ws://x/"], "write one of them"),
        (["--ca"], "--ca needs a value"),
        (["--help=x"], "--help takes no value"),
        (["--ca", "x", "--ca", "y", "wss://x/"], "--ca is given twice"),
        (["--ca", "x", "ws://x/"], "--ca: only wss:// URLs"),
        (["--cert", "x", "ws://x/"], "--cert: only wss:// URLs"),
        (["--key", "x", "wss://x/"], "--key: name its certificate with --cert FILE"),
        (["--ping-interval", "often", "ws://x/"], '--ping-interval: "often" is not'),
        (["--header", "Bad Name:x", "ws://x/"], "--header: write NAME:VALUE"),
        (
            ["--header", "A:b\nC:d", "ws://x/"],
            "--header A: a value must not contain control",
        ),
        (["--header", "Origin:x", "ws://x/"], "use --origin"),
        (["--header", "Sec-WebSocket-Key:x", "ws://x/"], "belongs to the handshake"),
        (["ws://x/", "--list"], "write options before the URL"),
        (["ftp://x:1/"], "it must begin with ws://, wss:// or ws+unix:"),
        (["x\x1b:1"], "cannot use the URL x\\x1b:1"),
    ],
)
def test_usage(argv: list[str], text: str) -> None:
    done = connect(*argv)
    assert done.returncode == 64
    first, second = done.stderr.decode().splitlines()
    assert first.startswith("chimirror-connect: ")
    assert text in first
    assert second == "Usage: chimirror-connect [options]... [--] URL..."


# Silence.


def test_a_server_that_is_silent_for_too_long() -> None:
    options = ("--ping-interval", "100ms", "--ping-timeout", "100ms")
    with (
        bare_server() as (where, take),
        running_client(*options, where) as process,
        take() as peer,
    ):
        upgrade(peer)
        while read_client_frame(peer)[0] != 9:
            pass  # the end of input comes first
        out, err = process.communicate(timeout=LONG)
    done = subprocess.CompletedProcess([], process.returncode, out, err)
    assert done.returncode == 255
    assert "nothing received for 0.2 s, not even a pong" in error_text(done)


def test_a_client_that_cannot_read_still_pings() -> None:
    from connect_process import frame

    options = ("--ping-interval", "50ms", "--ping-timeout", "50ms")
    block = frame(output(bytes(1 << 14)))
    with (
        bare_server() as (where, take),
        running_client(*options, where) as process,
        take() as peer,
    ):
        # in one piece: a server that pauses here would be silent for too long
        upgrade(peer, frame(output(b"ready")), block * 40)
        ready(process)
        for _ in range(10):  # longer than the client's own limit for a silent server
            assert read_client_frame(peer)[0] == 9
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        assert process.wait(LONG) < 0
