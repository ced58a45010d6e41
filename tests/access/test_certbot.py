"""certbot renews the certificate of a busy server, with pebble as its authority."""

from __future__ import annotations

import ssl
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from acme_server import AcmeServer, acme_server
from serve import Service, server
from tls_peers import secure
from websocket_peer import Closed, Peer, stdin

NAME = "chat.example.org"
KEPT = 200  # sessions across the renewal
FRESH = 16  # handshakes after it: more than enough for both workers


def finish(certbot: subprocess.Popen[str]) -> None:
    said, _ = certbot.communicate(timeout=200)
    assert certbot.returncode == 0, said


def serial_of(peer: Peer) -> str:
    assert isinstance(peer.socket, ssl.SSLSocket)
    return str((peer.socket.getpeercert() or {})["serialNumber"])


def echo(peer: Peer, data: bytes) -> None:
    peer.send(stdin(data))
    assert peer.output(len(data)) == data


@pytest.mark.timeout(600)
def test_renewal_under_load(tmp_path: Path) -> None:
    with acme_server(tmp_path) as authority:
        finish(
            authority.certbot(
                *("certonly", "--standalone", "-d", NAME, "--agree-tos"),
                "--register-unsafely-without-email",
            )
        )
        live = tmp_path / "config" / "live" / NAME
        options = ["--host", NAME, "--tls-cert", str(live / "fullchain.pem")]
        options += ["--tls-key", str(live / "privkey.pem"), "--workers=2"]
        with server(tmp_path, ["cat"], "--framing=stdio", *options) as service:
            renew(authority, service)


def renew(authority: AcmeServer, service: Service) -> None:
    """Renew while sessions are kept, and others come and go."""
    context = ssl.create_default_context(cadata=authority.roots())
    with ExitStack() as stack:

        def opened() -> Peer:
            peer = secure(service.connect(), context, NAME)
            assert peer.open(framing="stdio", fields=(f"Host: {NAME}",)).status == 101
            return peer

        kept = [stack.enter_context(opened()) for _ in range(KEPT)]
        (before,) = set(map(serial_of, kept))
        certbot = authority.certbot("renew", "--force-renewal")
        came = 0
        while certbot.poll() is None:
            with opened() as peer:
                echo(peer, b"%d" % came)
                echo(kept[came % KEPT], b"still here")
                peer.send_close()
                assert peer.transcript().closed == Closed(1000, "")
            came += 1
        finish(certbot)
        assert came
        serials = set()
        for _ in range(FRESH):
            with opened() as peer:
                serials.add(serial_of(peer))
        assert len(serials) == 1
        assert before not in serials
        for peer in kept:
            echo(peer, b"still here, under the old one")
