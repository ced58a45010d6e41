"""Tests the real nginx and the real HAProxy as proxies, with the files of examples/.

The configuration is the published one with other ports. Behind each proxy the
application sees the client's address and the requested host name. A client without the
proxy can forge neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from serve import Service, await_port, reserved, running, server
from websocket_peer import Closed, Peer, stdin, text

EXAMPLES = Path(__file__).parents[2] / "examples"
NAME = "chat.example.org"
HOST = (f"Host: {NAME}", f"Origin: http://{NAME}")
LIES = ("X-Forwarded-For: 192.0.2.66", "X-Forwarded-Host: evil.example")
FORWARDED = ("--host", NAME, "--trusted-proxy", "127.0.0.1")
PROXIED = ("--host", NAME, "--proxy-protocol")
PROGRAM = ["sh", "-c", "env; echo end; exec cat"]

NGINX = """\
daemon off;
pid {directory}/nginx.pid;
error_log stderr;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {directory};
    proxy_temp_path {directory};
    fastcgi_temp_path {directory};
    uwsgi_temp_path {directory};
    scgi_temp_path {directory};
    include {directory}/site.conf;
}}
"""


# Each change of a server's health is a line of the log.
HEALTH = """
    log stdout format raw local0
    option log-health-checks
"""


def filled(example: str, ports: dict[str, int]) -> str:
    """Return the published file with the ports of this test."""
    content = (EXAMPLES / example).read_text()
    for old, new in ports.items():
        assert f"127.0.0.1:{old}" in content
        content = content.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}")
    return content


@contextmanager
def nginx(directory: Path, behind: int) -> Iterator[Service]:
    with reserved() as port:
        site = filled("nginx.conf", {"8080": port, "30747": behind})
        (directory / "site.conf").write_text(site)
        config = directory / "nginx.conf"
        config.write_text(NGINX.format(directory=directory))
        argv = ["nginx", "-e", "stderr", "-p", str(directory), "-c", str(config)]
        with running(directory, argv, f"nginx{port}") as service:
            await_port(service, port)
            yield service


@contextmanager
def haproxy(
    directory: Path,
    behind: int,
    *,
    tcp: bool = False,
    version: str = "-v2",
    checks: bool = False,
) -> Iterator[Service]:
    with reserved() as http, reserved() as plain:
        ports = {"8081": http, "8082": plain, "30747": behind, "30748": behind}
        content = filled("haproxy.cfg", ports)
        assert "send-proxy-v2\n" in content
        config = directory / "haproxy.cfg"
        content = content.replace("send-proxy-v2\n", f"send-proxy{version}\n")
        content = content.replace("\ndefaults\n", f"\ndefaults{HEALTH}")
        # Under load, a check that is not wanted could take the server out of service.
        config.write_text(
            content.replace(" check", " check inter 100" if checks else "")
        )
        argv = ["haproxy", "-db", "-f", str(config)]
        with running(directory, argv, f"haproxy{http}") as service:
            await_port(service, plain if tcp else http)
            yield service


def haproxy_v1(directory: Path, behind: int) -> AbstractContextManager[Service]:
    return haproxy(directory, behind, tcp=True, version="")


def haproxy_v2(directory: Path, behind: int) -> AbstractContextManager[Service]:
    return haproxy(directory, behind, tcp=True)


Proxy = Callable[[Path, int], AbstractContextManager[Service]]
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


def environment(peer: Peer) -> dict[str, str]:
    """Return the request variables that the application of an open session sees."""
    said = b""
    while not said.endswith(b"\nend\n"):
        said += peer.output(1)
    return dict(line.split("=", 1) for line in said.decode().splitlines()[:-1])


def test_a_session(front: Service) -> None:
    with Peer(front.connect()) as peer:
        port = peer.socket.getsockname()[1]
        assert peer.open("/a%20b?c", framing="stdio", fields=HOST).status == 101
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
    ("backend", "version", "options"),
    [("sessions", "-v2", FORWARDED), ("plain", "", PROXIED), ("plain", "-v2", PROXIED)],
)
def test_haproxy_finds_the_server_healthy(
    tmp_path: Path, backend: str, version: str, options: tuple[str, ...]
) -> None:
    """The plain `option httpchk` asks with OPTIONS over HTTP/1.0, without Host."""
    with (
        server(tmp_path, PROGRAM, *options) as behind,
        haproxy(tmp_path, behind.port, version=version, checks=True) as front,
    ):
        front.find(f"{backend}/chimirror succeeded.* passed, code: 204")


def test_pipelined_with_the_handshake(front: Service) -> None:
    with Peer(front.connect()) as peer:
        assert peer.open(fields=HOST, first=text(["early"])).status == 101
        said = b""
        while not said.endswith(b'["early"]\n'):
            said += peer.output(1)


def test_clients_cannot_forge_their_address(front: Service) -> None:
    with Peer(front.connect()) as peer:
        assert peer.open(fields=(*HOST, *LIES)).status == 101
        seen = environment(peer)
        assert (seen["REMOTE_ADDR"], seen["SERVER_NAME"]) == ("127.0.0.1", NAME)


@pytest.mark.parametrize(
    "fields",
    [("Host: evil.example",), (HOST[0], "Origin: http://evil.example")],
    ids=["host", "origin"],
)
def test_a_refusal_comes_through(front: Service, fields: tuple[str, ...]) -> None:
    with Peer(front.connect()) as peer:
        reply = peer.open(fields=fields)
        assert reply.status == 403
        assert b"evil.example" in peer.stream.read(int(reply.fields["content-length"]))


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
