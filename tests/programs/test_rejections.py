"""Tests rejections over real sockets: the response is complete and no process starts.

The application of every test creates a file when it runs. A rejected request creates
none. Each response is read to the end of the stream. So the tests notice a second
response, a traceback, and a TCP reset that discards the response.
"""

from __future__ import annotations

import os
import pty
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from processes import descriptors, ended
from serve import Bridge, Service, argv_of, pure_server, server
from websocket_peer import Closed, Peer, Reply, Sender, upgrade

SHAPE = {
    "content-type": "text/plain; charset=utf-8",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "connection": "close",
}
MORE = b"x" * 65536


class Case(NamedTuple):
    request: bytes
    status: int
    text: str  # a part of the response text
    fields: dict[str, str] | None = None


def handshake(*fields: str, framing: str = "json", target: str = "/") -> bytes:
    return upgrade(target, framing, fields)


PLAIN = b"Host: localhost\r\n\r\n"
OLD = handshake().replace(b"Version: 13", b"Version: 8")
CASES = {
    "tls": Case(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "not TLS"),
    "http2": Case(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP/1.1"),
    "http1.0": Case(
        handshake().replace(b"HTTP/1.1", b"HTTP/1.0"), 426, "proxy_http_version 1.1"
    ),
    "noise": Case(bytes(range(256)) * 8, 400, "malformed"),
    "no host": Case(b"GET / HTTP/1.1\r\n\r\n", 400, "Host"),
    "two hosts": Case(handshake("Host: localhost", "Host: ::1"), 400, "Host"),
    "two origins": Case(
        handshake("Origin: http://localhost", "Origin: http://localhost"), 400, "Origin"
    ),
    "body": Case(handshake("Content-Length: 5") + b"hello", 400, "body"),
    "chunks": Case(handshake("Transfer-Encoding: chunked"), 400, "body"),
    "nul": Case(handshake(target="/a%00b"), 400, "NUL"),
    "post": Case(
        b"POST / HTTP/1.1\r\n" + PLAIN,
        405,
        "WebSocket",
        {"allow": "GET, HEAD, OPTIONS"},
    ),
    "version": Case(OLD, 426, "13", {"sec-websocket-version": "13"}),
    "no upgrade": Case(
        b"GET /x HTTP/1.1\r\n" + PLAIN, 426, "WebSocket", {"upgrade": "websocket"}
    ),
    "foreign host": Case(
        handshake("Host: evil.example"),
        403,
        'Host "evil.example" is not served here; '
        "start with --host evil.example to allow it",
    ),
    "rebound name": Case(
        handshake("Host: rebound.example:1", "Origin: http://rebound.example:1"),
        403,
        "rebound.example",
    ),
    "foreign page": Case(
        handshake("Origin: https://evil.example"), 403, "evil.example"
    ),
    "other port": Case(
        handshake("Host: localhost:1", "Origin: http://localhost:2"), 403, "Origin"
    ),
    "null": Case(handshake("Origin: null"), 403, "null"),
    "subprotocol": Case(handshake(framing="lsp"), 400, "chimirror.stdio.v1"),
    "long line": Case(b"GET /" + b"a" * 17000, 431, "16384"),
    "long head": Case(handshake("X-Long: " + "a" * 17000), 431, "16384"),
    "many fields": Case(handshake(*["X: y"] * 101), 431, "100"),
}


def check(reply: Reply, case: Case) -> None:
    assert reply.status == case.status
    shape = SHAPE | (case.fields or {}) | {"content-length": str(len(reply.body))}
    if case.status == 426:
        shape |= {"connection": "close, Upgrade"}
    assert reply.fields.items() >= shape.items()
    assert case.text in reply.body.decode()
    assert reply.body.count(b"\n") == 1
    assert reply.body.endswith(b"\n")


class Marking(NamedTuple):
    """An application that creates a file."""

    mark: Path

    @property
    def command(self) -> list[str]:
        return ["sh", "-c", f"touch {self.mark}; echo up; exec cat"]


@pytest.fixture
def marking(tmp_path: Path) -> Marking:
    return Marking(tmp_path / "mark")


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "unix"])
def test_bridge(marking: Marking, name: str, *, tcp: bool) -> None:
    with Bridge(marking.command, tcp=tcp) as bridge, Peer(bridge.socket) as peer:
        peer.send_raw(CASES[name].request)
        check(peer.refusal(), CASES[name])
        peer.close()
        status, said = bridge.finish()
    assert (status, b"Traceback" in said) == (0, False)
    assert not marking.mark.exists()


@pytest.fixture
def refusing(tmp_path: Path, marking: Marking) -> Iterator[Service]:
    """A server that has started no application before, and still serves at the end."""
    with server(tmp_path, marking.command) as service:
        yield service
        assert not marking.mark.exists()
        with Peer(service.connect()) as peer:
            assert peer.open().status == 101
            assert peer.output(3) == b"up\n"
        assert marking.mark.exists()
        assert "Traceback" not in service.log.read_text()


def test_server(refusing: Service) -> None:
    for case in CASES.values():
        with Peer(refusing.connect()) as peer:
            peer.send_raw(case.request)
            check(peer.refusal(), case)


def test_no_reset_eats_the_answer(refusing: Service) -> None:
    """The client goes on sending, which must not cause a reset before the response."""
    for name, case in CASES.items():
        with Peer(refusing.connect()) as peer:
            peer.send_raw(case.request)
            if not case.request.endswith(b"\r\n\r\n"):
                continue
            with Sender(peer, [MORE], endless=True):
                check(peer.refusal(), case)
            assert name


def test_byte_by_byte(refusing: Service) -> None:
    for case in CASES.values():
        if len(case.request) > 500:
            continue
        with Peer(refusing.connect()) as peer:
            try:
                for number in range(len(case.request)):
                    peer.send_raw(case.request[number : number + 1])
            except ConnectionError:
                pytest.fail("refused early, and reset before it was read")
            check(peer.refusal(), case)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_page(refusing: Service, method: str) -> None:
    with Peer(refusing.connect()) as peer:
        peer.send_raw(f"{method} / HTTP/1.1\r\n".encode() + PLAIN)
        reply = peer.refusal()
    assert reply.status == 200
    assert int(reply.fields["content-length"]) > 100
    assert (b"chimirror" in reply.body) == (method == "GET")
    assert (reply.body == b"") == (method == "HEAD")


def test_head_is_refused_without_a_body(refusing: Service) -> None:
    with Peer(refusing.connect()) as peer:
        peer.send_raw(b"HEAD /x HTTP/1.1\r\n" + PLAIN)
        reply = peer.refusal()
    assert (reply.status, reply.body) == (426, b"")


@pytest.mark.parametrize("part", [b"", b"GET / HT", handshake()[:-2]])
def test_a_slow_head(tmp_path: Path, marking: Marking, part: bytes) -> None:
    option = "--handshake-timeout=200ms"
    with Bridge(marking.command, option) as bridge, Peer(bridge.socket) as peer:
        peer.send_raw(part)
        check(peer.refusal(), Case(b"", 408, "in time"))
        peer.close()
        assert bridge.finish()[0] == 0
    with server(tmp_path, marking.command, option) as service:
        peers = [Peer(service.connect()) for _ in range(20)]
        for peer in peers:
            peer.send_raw(part)
        for peer in peers:
            check(peer.refusal(), Case(b"", 408, "in time"))
            peer.close()
    assert not marking.mark.exists()


@pytest.mark.parametrize("part", [b"", b"GET / HT", handshake()[:-2]])
def test_client_disconnects_before_its_request(marking: Marking, part: bytes) -> None:
    for leave in (Peer.close, Peer.reset):
        with Bridge(marking.command, tcp=True) as bridge, Peer(bridge.socket) as peer:
            peer.send_raw(part)
            leave(peer)
            assert ended(bridge.pid, 30)
            assert b"Traceback" not in bridge.finish()[1]
    assert not marking.mark.exists()


def test_a_command_that_cannot_be_started(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("not a program\n")
    for command in ("/nonexistent/program", "no-such-program", f"{tmp_path}/plain"):
        with Bridge([command]) as bridge, Peer(bridge.socket) as peer:
            peer.send_raw(handshake())
            check(peer.refusal(), Case(b"", 500, "could not be started"))
            peer.close()
            status, said = bridge.finish()
            assert (status, b"Traceback" in said) == (0, False)


def test_a_command_that_vanishes(tmp_path: Path) -> None:
    """The server is there for the next connection, and the log has the reason."""
    program = tmp_path / "program"
    program.symlink_to("/bin/cat")
    with server(tmp_path, [str(program)]) as service:
        program.unlink()
        for _ in range(3):
            with Peer(service.connect()) as peer:
                peer.send_raw(handshake())
                check(peer.refusal(), Case(b"", 500, "could not be started"))
        service.find("program: No such file or directory")
        program.symlink_to("/bin/cat")
        with Peer(service.connect()) as peer:
            assert peer.open().status == 101


@pytest.mark.parametrize("pure", [False, True])
def test_a_command_that_cannot_be_started_just_now(
    tmp_path: Path, *, pure: bool
) -> None:
    """No descriptor is free. The next session starts as soon as one is."""
    kind = resource.RLIMIT_NOFILE
    serve = pure_server if pure else server
    with serve(tmp_path, ["cat"], "--workers=1") as service:
        with Peer(service.connect()) as peer:  # the worker has its link to the zygote
            assert peer.open().status == 101
        (starter,) = service.zygotes() if pure else service.workers()
        before = resource.prlimit(starter, kind)
        # one is left for the connection
        limit = 3 if pure else descriptors(starter) + 1
        resource.prlimit(starter, kind, (limit, before[1]))
        for _ in range(3):
            with Peer(service.connect()) as peer:
                peer.send_raw(handshake())
                reply = peer.refusal()
                check(reply, Case(b"", 503, "no application can be started just now"))
                assert int(reply.fields["retry-after"]) > 0
        assert '"CHIMIRROR_CAUSE":"start-shortage"' in service.log.read_text()
        resource.prlimit(starter, kind, before)
        with Peer(service.connect()) as peer:
            assert peer.open().status == 101


LIMITS = ["--max-sessions=2", "--max-sessions-per-source=2"]


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("workers", [1, 2])
def test_no_room(tmp_path: Path, limit: str, workers: int) -> None:
    """The limit is exact over all workers, and rejects only while it is reached."""
    options = (limit, f"--workers={workers}", "--stop-grace=50ms")
    with server(tmp_path, ["cat"], *options) as service:
        for turn in range(1, 4):
            first, second = Peer(service.connect()), Peer(service.connect())
            assert (first.open().status, second.open().status) == (101, 101)
            for _ in range(4):
                with Peer(service.connect()) as peer:
                    peer.send_raw(handshake())
                    reply = peer.refusal()
                    check(reply, Case(b"", 503, ""))
                    assert int(reply.fields["retry-after"]) > 0
            for peer in (first, second):
                peer.send_close()
                assert peer.transcript().closed == Closed(1000, "")
                peer.close()
            service.await_ends(2 * turn)


def test_too_fast(tmp_path: Path) -> None:
    """A burst beyond the rate is rejected, by all workers."""
    with server(tmp_path, ["true"], "--max-rate=1/h", "--workers=2") as service:
        statuses = []
        for _ in range(10):
            with Peer(service.connect()) as peer:
                statuses.append(peer.open().status)
    assert statuses == [101] + [503] * 9


def test_nothing_harmful_reaches_the_environment() -> None:
    fields = ("Proxy: evil", "Cookie: a=b", "Authorization: x", "X_Y: z", "X-Y: fine")
    with Bridge(["env"], tcp=True) as bridge, Peer(bridge.socket) as peer:
        assert peer.open("/pa%20th?query", fields=fields).status == 101
        found = dict(
            line.split(b"=", 1) for line in peer.transcript().stdout.splitlines()
        )
    assert not {b"HTTP_PROXY", b"HTTP_COOKIE", b"HTTP_AUTHORIZATION"} & set(found)
    assert found[b"HTTP_X_Y"] == b"fine"
    assert found[b"PATH_INFO"] == b"/pa th"
    assert found[b"QUERY_STRING"] == b"query"
    assert found[b"REMOTE_ADDR"] == b"127.0.0.1"
    assert found[b"PYTHONUNBUFFERED"] == b"1"


def test_no_connection_on_fd_0() -> None:
    """Descriptor 0 is a terminal, a file or closed: the error says how to run it."""
    argv = argv_of("bridge", ["cat"], (), "x")
    terminal, other = pty.openpty()
    with tempfile.TemporaryFile() as file:
        for stdin in (other, file.fileno(), subprocess.DEVNULL):
            done = subprocess.run(argv, stdin=stdin, capture_output=True, check=False)
            assert 64 <= done.returncode <= 78
            assert b"socat" in done.stderr
            assert b"Traceback" not in done.stderr
            assert done.stdout == b""
    closed = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *argv], capture_output=True, check=False
    )
    assert b"socat" in closed.stderr
    os.close(terminal)
    os.close(other)
