"""chimirror-connect with framings of text, against real servers and foreign ones.

Without options it takes the best framing that a server has. Where the end of input
cannot be sent, the session ends by itself or after quiet.
"""

from __future__ import annotations

import hashlib
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import serve
from connect_process import (
    bare_server,
    connect,
    error_text,
    frame,
    read_client_frame,
    ready,
    request,
    running_client,
)
from fake_server import LONG
from processes import MARK, kill_processes
from tls_servers import server_url
from websocket_peer import Peer, accept_value

ANSWER = 'read -r a; read -r b; echo "got $a $b"; echo oops >&2; exit 3'


@pytest.mark.parametrize(
    ("framing", "stdin", "reported", "stderr"),
    [
        ("lines", b"x\xff\n1\r\n2", "line 1 of the input is not sent: not UTF-8", ""),
        ("json", b"1\n\noops\n2", "line 3 of the input is not sent: not JSON", "oops"),
    ],
)
def test_lines_of_text(
    framing: str, stdin: bytes, reported: str, stderr: str, tmp_path: Path
) -> None:
    with serve.server(tmp_path, ["sh", "-c", ANSWER], "--framing", framing) as service:
        done = connect(server_url(service), stdin=stdin)
    assert (done.returncode, done.stdout) == (3, b"got 1 2\n")
    first, *rest = done.stderr.decode().splitlines()
    assert first.startswith(f"chimirror-connect: {reported}")
    assert rest == ([stderr] if stderr else [])


BODY = b"Content-Length: 7\r\n\r\n"


@pytest.mark.parametrize(
    ("stdin", "stdout"),
    [
        (b'{"a":1}\n', b'{"a":1}\n'),
        (BODY + b'{"a":1}', BODY + b'{"a":1}'),
    ],
)
def test_lsp_in_both_forms(stdin: bytes, stdout: bytes, tmp_path: Path) -> None:
    command = ["head", "-c", str(len(BODY) + 7)]
    with serve.server(tmp_path, command, "--framing", "lsp") as service:
        done = connect(server_url(service), stdin=stdin)
    assert (done.returncode, done.stdout, done.stderr) == (0, stdout, b"")


@pytest.mark.parametrize("framing", ["lines", "json", "lsp"])
def test_no_input_never_hangs(framing: str, tmp_path: Path) -> None:
    with serve.server(tmp_path, ["cat"], "--framing", framing) as service:
        done = connect("--linger=100ms", server_url(service))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_best_framing(tmp_path: Path) -> None:
    """stdio is taken in any order of the server, and shown with --verbose."""
    options = ("--framing", "lines,json,stdio")
    with serve.server(tmp_path, ["cat"], *options) as service:
        done = connect("--verbose", server_url(service), stdin=b"\xff")
        other = connect("--framing=lines", "-v", server_url(service), "--linger=0")
        refused = connect("--framing=lsp", server_url(service))
    assert (done.returncode, done.stdout) == (0, b"\xff")
    place, answer, session = done.stderr.decode().splitlines()
    assert place == f"chimirror-connect: connected to 127.0.0.1 port {service.port}"
    assert answer.endswith("101 Switching Protocols: chimirror.stdio.v1, stdio")
    assert session.startswith("chimirror-connect: session ")
    assert other.returncode == 64
    assert error_text(refused).endswith(
        "ours: chimirror.lines.v1, chimirror.json.v1, chimirror.stdio.v1; "
        "choose one with --framing or --subprotocol"
    )


def test_a_long_line(tmp_path: Path) -> None:
    size = 64 << 20
    command = ["sh", "-c", f"head -c {size} /dev/zero | tr '\\0' x"]
    options = ("--framing", "lines", "--max-line", "64M")
    with serve.server(tmp_path, command, *options) as service:
        done = connect(server_url(service))
    assert (done.returncode, done.stderr) == (0, b"")
    expected = hashlib.sha256(b"x" * size + b"\n").digest()
    assert hashlib.sha256(done.stdout).digest() == expected


def test_a_signal_ends_the_client(tmp_path: Path) -> None:
    command = ["sh", "-c", "trap '' TERM; printf 'ready\n'; exec sleep 1000"]
    with (
        serve.server(tmp_path, command, "--framing", "lines") as service,
        running_client(server_url(service)) as client,
    ):
        ready(client)
        client.send_signal(signal.SIGTERM)
        assert client.wait(LONG) == -signal.SIGTERM


# Foreign servers.


@contextmanager
def websocketd(directory: Path, script: str) -> Iterator[str]:
    mark = uuid.uuid4().hex
    with serve.reserved() as port:
        argv = ["websocketd", "--address=127.0.0.1", f"--port={port}"]
        argv += [f"--passenv=PATH,{MARK}", "sh", "-c", script]
        with serve.running(directory, argv, mark) as service:
            serve.await_port(service, port)
            yield f"ws://127.0.0.1:{port}/"
            kill_processes(service.applications())


def test_websocketd(tmp_path: Path) -> None:
    with websocketd(tmp_path, "read -r a; echo got $a; exit 3") as url:
        done = connect("-v", url, stdin=b"hello\n")
    assert (done.returncode, done.stdout) == (0, b"got hello\n")
    assert b"101 Switching Protocols: no subprotocol, lines\n" in done.stderr


def answer(peer: Peer, status: str, body: bytes = b"") -> None:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n"
    peer.send_raw(head.encode() + body)
    peer.half_close()


def accept(peer: Peer, subprotocol: str, *frames: bytes) -> str:
    """Accept a session. Returns the head of the request."""
    head = request(peer)
    key = head.partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0]
    response = (
        "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Protocol: {subprotocol}\r\n"
        f"Sec-WebSocket-Accept: {accept_value(key)}\r\n\r\n"
    )
    peer.send_raw(response.encode() + b"".join(frames))
    return head


MANIFEST = b"""{"channels": {"lines": {"bindings": {"ws": {"headers": {"properties":
{"Sec-WebSocket-Protocol": {"enum": ["bad name", 7, "\\u001b[2J", "mcp"]}}}}}},
"lsp": [], "json": {"bindings": 0}}}"""
EXIT = frame(b"\x03\xe8exit 0", 0x88)


def test_foreign_names_are_taken_from_the_manifest() -> None:
    with (
        bare_server() as (where, take),
        running_client(
            "ws+unix:/none", where + "a?b", stdin=subprocess.DEVNULL
        ) as client,
    ):
        with take() as peer:
            offered = request(peer).partition("Sec-WebSocket-Protocol: ")[2]
            answer(peer, "400 Bad Request", b"unknown subprotocol")
        with take() as peer:
            asked = request(peer)
            answer(peer, "200 OK", MANIFEST)
        with take() as peer:
            head = accept(peer, "mcp", frame("hello"), EXIT)
            out, err = client.communicate(timeout=LONG)
    assert (client.returncode, out, err) == (0, b"hello\n", b"")
    own = [f"chimirror.{name}.v1" for name in ("stdio", "json", "lines", "lsp")]
    assert offered.partition("\r\n")[0] == ", ".join(own)
    assert asked.startswith("GET /a/asyncapi.json HTTP/1.1\r\n")
    assert "Upgrade" not in asked
    assert "Sec-WebSocket" not in asked
    assert "\r\nSec-WebSocket-Protocol: mcp\r\n" in head
    assert head.startswith("GET /a?b HTTP/1.1\r\n")


@pytest.mark.parametrize("option", [(), ("--framing", "lsp")])
def test_a_foreign_name(option: tuple[str, ...]) -> None:
    """--subprotocol alone takes the framing of the manifest, here none."""
    with (
        bare_server() as (where, take),
        running_client("--subprotocol", "mcp", *option, where) as client,
    ):
        if not option:
            with take() as peer:
                assert request(peer).startswith("GET /asyncapi.json ")
                answer(peer, "404 Not Found")
        with take() as peer:
            assert client.stdin is not None
            client.stdin.write(BODY + b'{"a":1}' if option else b"x\n")
            client.stdin.flush()
            accept(peer, "mcp")
            said = read_client_frame(peer)[1]
            assert said == (b'{"a":1}' if option else b"x")
            peer.send_raw(EXIT)
            out, err = client.communicate(timeout=LONG)
    assert (client.returncode, out, err) == (0, b"", b"")


@pytest.mark.parametrize("manifest", [b"", b"{", b"[" * 9999, b'{"channels": 1}'])
def test_a_manifest_that_does_not_help(manifest: bytes) -> None:
    with bare_server() as (where, take), running_client(where) as client:
        with take() as peer:
            request(peer)
            answer(peer, "400 Bad Request", b"unknown subprotocol")
        with take() as peer:
            request(peer)
            answer(peer, "200 OK", manifest)
            out, err = client.communicate(timeout=LONG)
    done = subprocess.CompletedProcess([], client.returncode, out, err)
    assert done.returncode == 255
    assert error_text(done) == (
        "400 Bad Request: unknown subprotocol; "
        "choose one with --framing or --subprotocol"
    )
