"""Tests the TLS in the comments of examples/nginx.conf and examples/haproxy.cfg."""

from __future__ import annotations

from pathlib import Path

import pytest

from example_proxies import (
    FORWARDED,
    IN,
    PROGRAM,
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
FORGED = "X-SSL-Client-S-DN: CN=root"


def seen(front: Service, client: Path | None = None) -> dict[str, str]:
    """Return the variables of a session whose client claims another subject."""
    with Peer(secured(front, client)) as peer:
        assert peer.open(framing="stdio", fields=(*IN, FORGED)).status == 101
        return environment(peer)


@pytest.mark.parametrize("example", PROXIES)
def test_tls_to_the_servers(example: str, tmp_path: Path) -> None:
    """The proxy checks the certificate of the server, which is its own one here."""
    follow(filled(example, tmp_path, {}), tmp_path)
    tls = [
        f"--tls-cert={tmp_path}/chimirror.crt",
        f"--tls-key={tmp_path}/chimirror.key",
    ]
    with (
        server(tmp_path, PROGRAM, *FORWARDED, *tls) as behind,
        PROXIES[example](tmp_path, behind.port, mark=BEHIND) as front,
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
        PROXIES[example](tmp_path, behind.port, mark=CLIENTS) as front,
    ):
        assert "trustme" in seen(front, client)["HTTP_X_SSL_CLIENT_S_DN"]
        try:
            with Peer(secured(front)) as peer:
                status = peer.open(fields=IN).status
        except OSError:
            status = 0
        assert status in {0, 400}
