"""Tests the TLS in the comments of examples/nginx.conf and examples/haproxy.cfg."""

from __future__ import annotations

from pathlib import Path

import pytest

from example_proxies import (
    FORWARDED,
    IN,
    PROGRAM,
    PROXIED,
    environment,
    filled,
    follow,
    haproxy,
    nginx,
    secured,
)
from serve import Service, server
from tls_authority import Authority
from websocket_peer import Peer

PROXIES = {"nginx.conf": nginx, "haproxy.cfg": haproxy}
BEHIND = "Servers on other machines encrypt too"
CLIENTS = "Clients need a certificate"
THROUGH = ("The server has the certificate", "Such a server is checked")
FORGED = "X-SSL-Client-S-DN: CN=root"


def seen(front: Service, client: Path | None = None) -> dict[str, str]:
    """Return the variables of a session whose client claims another subject."""
    with Peer(secured(front, client)) as peer:
        assert peer.open(framing="stdio", fields=(*IN, FORGED)).status == 101
        return environment(peer)


def with_tls(example: str, directory: Path) -> list[str]:
    """Make the files of a proxy before it runs. Returns options of its servers."""
    follow(filled(example, directory, {}), directory)
    certificate = directory / "chimirror.crt"
    return [f"--tls-cert={certificate}", f"--tls-key={certificate.with_suffix('.key')}"]


@pytest.mark.parametrize("example", PROXIES)
def test_tls_to_the_servers(example: str, tmp_path: Path) -> None:
    """The proxy checks the certificate of the server, which is its own one here."""
    with (
        server(tmp_path, PROGRAM, *FORWARDED, *with_tls(example, tmp_path)) as behind,
        PROXIES[example](tmp_path, behind.port, marks=[BEHIND]) as front,
    ):
        found = seen(front)
        assert found["HTTPS"] == "on"
        assert found["REMOTE_ADDR"] == "127.0.0.1"
        assert not found.get("HTTP_X_SSL_CLIENT_S_DN")


@pytest.mark.parametrize("example", PROXIES)
def test_certificates_of_clients(example: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    (tmp_path / "clients.crt").write_bytes(authority.file.read_bytes())
    client = authority.issue("anna.example").both
    with (
        server(tmp_path, PROGRAM, *FORWARDED) as behind,
        PROXIES[example](tmp_path, behind.port, marks=[CLIENTS]) as front,
    ):
        assert "trustme" in seen(front, client)["HTTP_X_SSL_CLIENT_S_DN"]
        try:
            with Peer(secured(front)) as peer:
                status = peer.open(fields=IN).status
        except OSError:
            status = 0
        assert status in {0, 400}


def test_tls_through_haproxy(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    options = with_tls("haproxy.cfg", tmp_path)
    options += ["--tls-client-ca", str(authority.file), "--tls-client", "optional"]
    client = authority.issue("anna.example").both
    with (
        server(tmp_path, PROGRAM, *PROXIED, *options) as behind,
        haproxy(tmp_path, behind.port, tcp=True, checks=True, marks=THROUGH) as front,
    ):
        front.find("plain/chimirror succeeded.* passed, code: 204")
        found = seen(front, client)
        assert found["SSL_CLIENT_VERIFY"] == "SUCCESS"
        assert "trustme" in found["SSL_CLIENT_S_DN"]
        assert found["REMOTE_ADDR"] == "127.0.0.1"
        assert found["HTTP_X_SSL_CLIENT_S_DN"] == "CN=root"  # a field like any other
