"""Tests the real nginx and the real HAProxy as proxies, with the files of examples/.

The configuration is the published one with other ports and paths. Certificate and users
are made by the commands in it. Behind each proxy the application sees the client's
address, the requested host name and the name of the user. A client without the proxy
can forge none of them.
"""

from __future__ import annotations

import base64
import re
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from connect_process import connect
from ctl_process import only_this_server
from fake_host import ctl
from nginx_proxy import running_nginx
from serve import Service, await_port, reserved, running, server
from websocket_peer import Closed, Peer, stdin, text

EXAMPLES = Path(__file__).parents[2] / "examples"
NAME = "chat.example.org"
USER, PASSWORD = "anna", "secret of hers"
LOGIN = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
HOST = (f"Host: {NAME}", f"Origin: https://{NAME}")
IN = (*HOST, f"Authorization: Basic {LOGIN}")
LIES = (
    "X-Forwarded-For: 192.0.2.66",
    "X-Forwarded-Host: evil.example",
    "X-Forwarded-User: root",
)
FORWARDED = ("--host", NAME, "--trusted-proxy", "127.0.0.1")
PROXIED = ("--host", NAME, "--proxy-protocol")
PROGRAM = ["sh", "-c", "env; echo end; exec cat"]

# Each change of a server's health is a line of the log.
HEALTH = """
    log stdout format raw local0
    option log-health-checks
"""


def filled(example: str, directory: Path, ports: dict[str, int]) -> str:
    """Return the published file with the ports and the directory of this test."""
    content = (EXAMPLES / example).read_text()
    for old, new in ports.items():
        assert f"127.0.0.1:{old}" in content
        content = content.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}")
    return re.sub(r"/etc/(nginx|haproxy)/", f"{directory}/", content)


def follow(content: str, directory: Path) -> None:
    """Run the commands in the comments that make the certificate and the login.

    The certificate is for localhost too, and the password is not asked for.
    """
    script = re.sub(r"^# ?", "", content, flags=re.MULTILINE)
    command = r"^  ((?:openssl|cat|printf) (?:.*\\\n)*.*)"
    found = re.findall(command, script, re.MULTILINE)
    assert found[0].startswith("openssl req ")
    names = f"DNS:{NAME}"
    steps = "\n".join(found).replace(names, f"{names},DNS:localhost")
    steps = steps.replace("openssl passwd -6", f"openssl passwd -6 '{PASSWORD}'")
    argv = ["sh", "-ec", steps]
    subprocess.run(argv, cwd=directory, check=True, capture_output=True)


@contextmanager
def nginx(directory: Path, *behind: int) -> Iterator[Service]:
    with reserved() as port:
        ports = {"8443": port, "30747": behind[0], "30748": behind[-1]}
        site = filled("nginx.conf", directory, ports)
        follow(site, directory)
        with running_nginx(directory, site, port) as service:
            yield service


@contextmanager
def haproxy(
    directory: Path,
    *behind: int,
    tcp: bool = False,
    version: str = "-v2",
    checks: bool = False,
) -> Iterator[Service]:
    with reserved() as http, reserved() as plain:
        ports = {"8444": http, "8445": plain}
        ports |= {"30747": behind[0], "30748": behind[-1], "30749": behind[0]}
        content = filled("haproxy.cfg", directory, ports)
        follow(content, directory)
        argv = ["openssl", "passwd", "-6", PASSWORD]
        crypt = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        assert "password HASH\n" in content
        content = content.replace("password HASH\n", f"password {crypt}")
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


Proxy = Callable[..., AbstractContextManager[Service]]
FRONTS: dict[str, tuple[Proxy, tuple[str, ...]]] = {
    "nginx": (nginx, FORWARDED),
    "haproxy": (haproxy, FORWARDED),
    "haproxy-v1": (haproxy_v1, PROXIED),
    "haproxy-v2": (haproxy_v2, PROXIED),
}


def secured(front: Service) -> socket.socket:
    """Connect to a proxy by TLS, and trust its certificate alone."""
    ca = front.log.parent / "chimirror.crt"
    context = ssl.create_default_context(cafile=str(ca))
    return context.wrap_socket(front.connect(), server_hostname=NAME)


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
        server(
            tmp_path, ["sh", "-c", 'echo "$HTTP_X_FORWARDED_USER"; cat'], *options
        ) as behind,
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
