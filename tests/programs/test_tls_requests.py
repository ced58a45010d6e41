"""Requests over TLS: origins, URLs in documents, proxies and their headers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from serve import server
from tls_authority import Authority, authority, stranger
from tls_peers import client_context, connect, secure, tls_options
from websocket_peer import Peer

__all__ = ["authority", "stranger"]  # fixtures

OPTIONS = ("--workers=2", "--framing", "stdio")


def ask(peer: Peer, request: str) -> tuple[int, str]:
    """Send one request without an upgrade. Returns the status and the body."""
    peer.send_raw(request.replace("\n", "\r\n").encode())
    reply = peer.refusal()
    return reply.status, reply.body.decode()


ORIGINS = {
    "https://localhost:{port}": 101,
    "http://localhost:{port}": 403,
    "https://evil.example": 403,
    "null": 403,
}


@pytest.mark.parametrize("origin", ORIGINS)
def test_origin(tmp_path: Path, authority: Authority, origin: str) -> None:
    with (
        server(tmp_path, ["cat"], *tls_options(authority)) as service,
        connect(service, authority) as peer,
    ):
        where = origin.format(port=service.port)
        fields = (f"Host: localhost:{service.port}", f"Origin: {where}")
        assert peer.open(fields=fields).status == ORIGINS[origin]


def test_documents_name_urls_of_tls(tmp_path: Path, authority: Authority) -> None:
    options = (*tls_options(authority), "--trusted-proxy", "127.0.0.2", *OPTIONS)
    with server(tmp_path, ["cat"], *options) as service:
        host = f"Host: localhost:{service.port}\n\n"
        with connect(service, authority) as peer:
            status, body = ask(peer, f"GET /asyncapi.json HTTP/1.1\n{host}")
            assert status == 200
            assert json.loads(body)["servers"]["here"]["protocol"] == "wss"
        with connect(service, authority) as peer:
            status, body = ask(peer, f"GET / HTTP/1.1\n{host}")
            assert f"wss://localhost:{service.port}" in body
            assert "ws://" not in body.replace("wss://", "")
        with connect(service, authority) as peer:
            target = f"http://localhost:{service.port}/"
            assert ask(peer, f"GET {target} HTTP/1.1\n{host}")[0] == 421
        with connect(service, authority) as peer:
            target = f"https://localhost:{service.port}/"
            assert ask(peer, f"GET {target} HTTP/1.1\n{host}")[0] == 200


def test_forwarded_scheme_of_a_trusted_proxy(
    tmp_path: Path, authority: Authority
) -> None:
    options = (*tls_options(authority), "--trusted-proxy", "127.0.0.1", *OPTIONS)
    with server(tmp_path, ["cat"], *options) as service:
        for scheme, expected in (("http", "ws"), ("https", "wss")):
            with connect(service, authority) as peer:
                fields = f"Host: localhost\nX-Forwarded-Proto: {scheme}\n\n"
                _, body = ask(peer, f"GET /asyncapi.json HTTP/1.1\n{fields}")
                found = json.loads(body)["servers"]["here"]["protocol"]
                assert found == expected


PROXY_2 = (
    *(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", bytes((192, 0, 2, 7, 192, 0, 2, 1))),
    *((4711).to_bytes(2, "big"), (443).to_bytes(2, "big")),
)
PROXY_HEADERS = {
    "version 1": b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n",
    "version 2": b"".join(PROXY_2),
}


@pytest.mark.parametrize("version", PROXY_HEADERS)
def test_proxy_header_before_tls(
    tmp_path: Path, authority: Authority, version: str
) -> None:
    show = ["sh", "-c", "echo $REMOTE_ADDR $HTTPS"]
    options = (*tls_options(authority), "--proxy-protocol", *OPTIONS)
    with server(tmp_path, show, *options) as service:
        connection = service.connect()
        connection.sendall(PROXY_HEADERS[version])
        with secure(connection, client_context(authority.ca)) as peer:
            peer.open(framing="stdio")
            assert peer.output(1) == b"192.0.2.7 on\n"
        with Peer(service.connect()) as peer:
            peer.send_raw(b"PROXY nonsense\r\n")
            reply = peer.refusal()
            assert reply.status == 400
            assert b"PROXY protocol" in reply.body


REQUESTS = {  # to an application that needs a certificate, and their statuses with one
    "GET {} HTTP/1.1": 200,
    "HEAD {} HTTP/1.1": 200,
    "GET {} HTTP/1.0": 200,
    "GET {}/asyncapi.json HTTP/1.1": 200,
    "GET {} HTTP/1.1\nChimirror-Subprotocol: chimirror.stdio.v1": 204,
}
OTHERS = {  # that need none
    "OPTIONS {} HTTP/1.1": 204,
    "GET /.well-known/chimirror HTTP/1.1": 200,
}


def test_documents_of_an_application_that_requires_a_certificate(
    tmp_path: Path, authority: Authority
) -> None:
    """A client that may not have a session learns nothing else of it either."""
    apps = tmp_path / "apps"
    apps.mkdir()
    command = 'command = ["cat"]\nframing = "stdio"\n'
    (apps / "open.toml").write_text(command)
    (apps / "closed.toml").write_text(f'{command}tls-client = "required"\n')
    clients = ("--tls-client-ca", str(authority.file), "--tls-client", "optional")
    options = ("--console", "--apps", str(apps), *tls_options(authority, *clients))
    alice = str(authority.issue("alice@example.org").both)
    with server(tmp_path, [], *options) as service:

        def status(request: str, path: str, certificate: str = "") -> int:
            with connect(service, authority, None, certificate) as peer:
                return ask(peer, f"{request.format(path)}\nHost: localhost\n\n")[0]

        for request, expected in REQUESTS.items():
            assert status(request, "/closed") == 403, request
            assert status(request, "/closed", alice) == expected, request
            assert status(request, "/open") == expected, request
        for request, expected in OTHERS.items():
            assert status(request, "/closed") == expected, request
