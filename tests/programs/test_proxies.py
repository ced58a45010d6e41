"""Tests the real nginx and the real HAProxy as proxies, with the files of examples/.

The configuration is the published one with other ports and paths. Certificate and users
are made by the commands in it. Behind each proxy the application sees the client's
address, the requested host name and the name of the user. A client without the proxy
can forge none of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from connect_process import connect
from ctl_process import only_this_server
from example_proxies import (
    EXAMPLES,
    FORWARDED,
    HOST,
    IN,
    LOGIN,
    NAME,
    PASSWORD,
    PROGRAM,
    PROXIED,
    USER,
    environment,
    haproxy,
    nginx,
    secured,
)
from fake_host import ctl
from serve import Service, reserved, server
from websocket_peer import Closed, Peer, stdin, text

LIES = (
    "X-Forwarded-For: 192.0.2.66",
    "X-Forwarded-Host: evil.example",
    "X-Forwarded-User: root",
)


def haproxy_v1(directory: Path, behind: int) -> AbstractContextManager[Service]:
    return haproxy(directory, behind, tcp=True, version="")


def haproxy_v2(directory: Path, behind: int) -> AbstractContextManager[Service]:
    return haproxy(directory, behind, tcp=True)


Proxy = Callable[..., AbstractContextManager[Service]]
FRONTS: dict[str, tuple[Proxy, tuple[str, ...]]] = {
    "nginx": (nginx, FORWARDED),
    "haproxy": (haproxy, FORWARDED),
    "haproxy-v1": (haproxy_v1, PROXIED),
    "haproxy-v2": (haproxy_v2, PROXIED),
}


@pytest.fixture(params=list(FRONTS))
def front(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    """A proxy with a server behind it."""
    proxy, options = FRONTS[request.param]
    with ExitStack() as stack:
        behind = stack.enter_context(server(tmp_path, PROGRAM, *options))
        yield stack.enter_context(proxy(tmp_path, behind.port))


def test_a_session(front: Service) -> None:
    with Peer(secured(front)) as peer:
        port = peer.socket.getsockname()[1]
        assert peer.open("/a%20b?c", framing="stdio", fields=IN).status == 101
        seen = environment(peer)
        assert seen["REMOTE_ADDR"] == "127.0.0.1"
        assert seen.get("REMOTE_PORT", str(port)) == str(port)
        assert seen["SERVER_NAME"] == NAME
        assert (seen["PATH_INFO"], seen["QUERY_STRING"]) == ("/a b", "c")
        for size in (1, 1000, 100_000, 500_000):
            peer.send(stdin(b"x" * size))
            assert peer.output(size) == b"x" * size
        peer.send({"type": "eof"})
        # nginx resets the connection if it closes before it has read the close frame.
        assert peer.transcript(wait=False).closed == Closed(1000, "exit 0")


@pytest.mark.parametrize(
    ("backend", "name", "version", "options"),
    [
        ("sessions", "one", "-v2", FORWARDED),
        ("plain", "chimirror", "", PROXIED),
        ("plain", "chimirror", "-v2", PROXIED),
    ],
)
def test_haproxy_finds_the_server_healthy(
    tmp_path: Path, backend: str, name: str, version: str, options: tuple[str, ...]
) -> None:
    """The plain `option httpchk` asks with OPTIONS over HTTP/1.0, without Host."""
    with (
        server(tmp_path, PROGRAM, *options) as behind,
        haproxy(tmp_path, behind.port, version=version, checks=True) as front,
    ):
        front.find(f"{backend}/{name} succeeded.* passed, code: 204")


def test_pipelined_with_the_handshake(front: Service) -> None:
    with Peer(secured(front)) as peer:
        assert peer.open(fields=IN, first=text(["early"])).status == 101
        said = b""
        while not said.endswith(b'["early"]\n'):
            said += peer.output(1)


def test_clients_cannot_forge_their_address(front: Service) -> None:
    with Peer(secured(front)) as peer:
        assert peer.open(fields=(*IN, *LIES)).status == 101
        seen = environment(peer)
        assert (seen["REMOTE_ADDR"], seen["SERVER_NAME"]) == ("127.0.0.1", NAME)
        assert "HTTP_AUTHORIZATION" not in seen


@pytest.mark.parametrize(
    "fields",
    [
        ("Host: evil.example", IN[-1]),
        (HOST[0], "Origin: https://evil.example", IN[-1]),
    ],
    ids=["host", "origin"],
)
def test_a_refusal_comes_through(front: Service, fields: tuple[str, ...]) -> None:
    with Peer(secured(front)) as peer:
        reply = peer.open(fields=fields)
        assert reply.status == 403
        assert b"evil.example" in peer.stream.read(int(reply.fields["content-length"]))


@pytest.fixture(params=["nginx", "haproxy"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a proxy with a login, without the scheme."""
    proxy, options = FRONTS[request.param]
    with (
        server(tmp_path, ["sh", "-c", 'echo "$REMOTE_USER"; cat'], *options) as behind,
        proxy(tmp_path, behind.port) as front,
    ):
        yield f"localhost:{front.port}/"


def test_the_client_logs_in(url: str, tmp_path: Path) -> None:
    """By the URL or by a header. The certificate is checked."""
    trust = ("--ca", str(tmp_path / "chimirror.crt"))
    password = PASSWORD.replace(" ", "%20")
    done = connect(*trust, f"wss://{USER}:{password}@{url}", stdin=b"hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"anna\nhello", b"")
    header = f"Authorization:Basic {LOGIN}"
    done = connect(*trust, "--header", header, f"wss://{url}", stdin=b"hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"anna\nhello", b"")
    for wrong in (f"wss://{USER}:wrong@{url}", f"wss://{url}"):
        done = connect(*trust, wrong)
        assert (done.returncode, done.stdout) == (255, b"")
        assert b"401" in done.stderr
    done = connect(f"wss://{USER}:{password}@{url}")
    assert b"certificate" in done.stderr


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
def test_clients_go_to_the_server_that_accepts(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second server is not there at first, and then the first one drains."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    proxy, options = FRONTS[name]
    with ExitStack() as stack:
        port = stack.enter_context(reserved())
        commands = ["sh", "-c", "echo one; cat"], ["sh", "-c", "echo two; cat"]
        one = stack.enter_context(server(tmp_path, commands[0], *options))
        front = stack.enter_context(proxy(tmp_path, one.port, port))

        def opened(greeting: bytes) -> Peer:
            peer = stack.enter_context(Peer(secured(front)))
            assert peer.open(framing="stdio", fields=IN).status == 101
            assert peer.output(4) == greeting
            return peer

        first, second = opened(b"one\n"), opened(b"one\n")
        listen = f"127.0.0.1:{port}"
        other = tmp_path / "two"
        other.mkdir()
        stack.enter_context(server(other, commands[1], *options, listen=listen))
        ctl(only_this_server(tmp_path, one), "drain")
        third, fourth = opened(b"two\n"), opened(b"two\n")
        for peer in (first, second, third, fourth):
            peer.send(stdin(b"on"))
            assert peer.output(2) == b"on"
            peer.send({"type": "eof"})
            assert peer.transcript(wait=False).closed == Closed(1000, "exit 0")


def test_timeouts_are_longer_than_the_time_between_pings() -> None:
    """A session without traffic has a ping every 20 s (--ping-interval)."""
    longer = r"(?:_read_timeout|_send_timeout|tunnel|client|server) +(\d+)s\b"
    for example in ("nginx.conf", "haproxy.cfg"):
        found = re.findall(longer, (EXAMPLES / example).read_text())
        assert found
        assert all(int(seconds) > 3 * 20 for seconds in found)


def test_without_trust_such_fields_are_data(tmp_path: Path) -> None:
    fields = ("Host: localhost", *LIES)
    with server(tmp_path, PROGRAM) as service, Peer(service.connect()) as peer:
        assert peer.open(fields=fields).status == 101
        seen = environment(peer)
        assert (seen["REMOTE_ADDR"], seen["SERVER_NAME"]) == ("127.0.0.1", "localhost")
        assert seen["HTTP_X_FORWARDED_FOR"] == "192.0.2.66"


def test_clients_without_the_proxy_are_rejected(tmp_path: Path) -> None:
    """With the PROXY protocol enabled, requests without its header are rejected."""
    with server(tmp_path, PROGRAM, *PROXIED) as service:
        with Peer(service.connect()) as peer:
            assert peer.open(fields=HOST).status == 400
        with Peer(service.connect()) as peer:
            peer.send_raw(b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n")
            assert peer.open(fields=HOST).status == 101
            seen = environment(peer)
            assert (seen["REMOTE_ADDR"], seen["REMOTE_PORT"]) == ("192.0.2.1", "1234")


def test_the_examples_say_how_to_start_the_server() -> None:
    for example in ("nginx.conf", "haproxy.cfg"):
        content = (EXAMPLES / example).read_text()
        for option in FORWARDED:
            assert option in content
    assert "--proxy-protocol" in (EXAMPLES / "haproxy.cfg").read_text()
