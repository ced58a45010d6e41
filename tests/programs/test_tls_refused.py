"""Clients of a port with TLS that get no session: each is logged, none starts anything.

The application writes a line to a file when it starts.
"""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest

from processes import until
from serve import Service, server
from tls_authority import Authority, authority, stranger
from tls_peers import TLS_1_2, TLS_1_3, client_context, connect, tls_options
from websocket_peer import Peer, upgrade

__all__ = ["authority", "stranger"]  # fixtures

REFUSED = "this port speaks TLS"
FAILED = "TLS has failed"
GARBAGE = {
    "plain request": (upgrade("/", "stdio", ()), REFUSED),
    "old hello": (b"\x80\x2e\x01\x00\x02" + bytes(40), REFUSED),
    "null": (b"\0", REFUSED),
    "garbage in a record": (
        b"\x16\x03\x01\0\x05hello",
        f"{FAILED}: unexpected message",
    ),
    "wrong version": (b"\x16garbage garbage", f"{FAILED}: wrong version number"),
}


class Place(NamedTuple):
    service: Service
    started: Path  # exists once an application has started

    def logged(self, text: str) -> None:
        """Wait for a line of the log. It comes once, and nothing has started."""
        until(lambda: text in self.service.log.read_text(), text)
        lines = self.service.log.read_text().splitlines()
        assert len([line for line in lines if text in line]) == 1
        assert not self.started.exists()


@pytest.fixture
def place(tmp_path: Path, authority: Authority) -> Iterator[Place]:
    """A server that requires certificates of clients."""
    started = tmp_path / "started"
    options = tls_options(authority, "--tls-client-ca", str(authority.file))
    command = ["sh", "-c", f"touch {started}"]
    with server(tmp_path, command, "--framing=stdio", *options) as service:
        yield Place(service, started)


@pytest.mark.parametrize("kind", GARBAGE)
def test_bytes_that_are_no_tls(place: Place, kind: str) -> None:
    first, reason = GARBAGE[kind]
    with Peer(place.service.connect()) as peer:
        peer.send_raw(first)
        peer.half_close()
        if reason == REFUSED:
            reply = peer.refusal()
            assert reply.status == 400
            assert b"this port speaks TLS; write https:// or wss://" in reply.body
        else:
            alert = b"" if "wrong version" in reason else b"\x15"
            assert peer.stream.read(1) == alert
    place.logged(reason)


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
@pytest.mark.parametrize("kind", ["none", "stranger", "expired"])
def test_certificates_of_clients(
    place: Place,
    authority: Authority,
    stranger: Authority,
    kind: str,
    version: ssl.TLSVersion,
) -> None:
    issuer, days = (stranger, (-1, 1)) if kind == "stranger" else (authority, (-3, -2))
    certificate = str(issuer.issue("a@example.org", days=days).both)
    if kind == "none":
        certificate = ""
    reasons = {
        "none": "peer did not return a certificate",
        "stranger": "certificate verify failed (unable to get local issuer",
        "expired": "certificate verify failed (certificate has expired)",
    }
    with (  # noqa: PT012 (with TLS 1.3, the client learns it when it reads)
        pytest.raises(ssl.SSLError, match="alert"),
        connect(place.service, authority, version, certificate) as peer,
    ):
        peer.send_raw(upgrade("/", "stdio", ()))
        peer.line()
    place.logged(f"{FAILED}: {reasons[kind]}")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("-tls1", "unsupported protocol"),
        ("-tls1_1", "unsupported protocol"),
        ("-tls1_2 -cipher AES128-SHA:@SECLEVEL=0", "no shared cipher"),
    ],
)
def test_openssl_with_old_settings(place: Place, arguments: str, reason: str) -> None:
    argv = ["openssl", "s_client", "-connect", f"127.0.0.1:{place.service.port}"]
    options = arguments.split()
    if "-cipher" not in options:
        options += ["-cipher", "ALL:@SECLEVEL=0"]
    found = subprocess.run([*argv, *options], input=b"", capture_output=True)
    assert found.returncode == 1
    assert b"alert" in found.stderr
    place.logged(f"{FAILED}: {reason}")


def test_client_that_does_not_trust_the_server(
    place: Place, stranger: Authority
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(place.service, stranger)
    place.logged(f"{FAILED}: tlsv1 alert unknown ca")


def test_end_within_the_handshake(place: Place) -> None:
    with place.service.connect() as connection:
        connection.sendall(b"\x16\x03\x01")
    place.logged("the client has closed within the handshake of TLS")


def test_client_of_http_2(tmp_path: Path, authority: Authority) -> None:
    """There is no common protocol, so its first bytes are no request."""
    with server(tmp_path, ["cat"], *tls_options(authority)) as service:
        context = client_context(authority.ca, alpn=("h2",))
        connection = context.wrap_socket(service.connect(), server_hostname="localhost")
        with Peer(connection) as peer:
            assert connection.selected_alpn_protocol() is None
            peer.send_raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            assert peer.refusal().status in (400, 405, 505)


STALLS = {"silent": 0, "half a hello": 100, "no answer": 10_000}


@pytest.mark.parametrize("stall", STALLS)
def test_stalled_handshakes_are_handshakes_in_flight(
    tmp_path: Path, authority: Authority, stall: str
) -> None:
    """The oldest one makes room for the next client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = client_context(authority.ca).wrap_bio(
        incoming, outgoing, server_hostname="localhost"
    )
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    first = outgoing.read()[: STALLS[stall]]
    bounds = ("--workers=1", "--max-handshakes=4", "--handshake-timeout=1h")
    options = (*bounds, "--framing=stdio", *tls_options(authority))
    with server(tmp_path, ["echo", "hello"], *options) as service:
        waiting = [service.connect() for _ in range(12)]
        for connection in waiting:
            connection.sendall(first)
        with connect(service, authority) as peer:
            assert peer.open(framing="stdio").status == 101
            assert peer.output(1) == b"hello\n"
        ended = 0
        for connection in waiting:
            connection.settimeout(200)
            if ended < 8:
                while connection.recv(1 << 16):
                    pass
                ended += 1
            connection.close()


@pytest.mark.parametrize("first", [b"", b"\x16\x03\x01\x02\0\x01"])
def test_handshake_timeout(tmp_path: Path, authority: Authority, first: bytes) -> None:
    options = ("--handshake-timeout=100ms", *tls_options(authority))
    with server(tmp_path, ["cat"], *options) as service, service.connect() as client:
        client.settimeout(200)
        client.sendall(first)
        assert client.recv(1) == b""
        service.find("did not arrive in time")


def test_sslscan(tmp_path: Path, authority: Authority) -> None:
    """The report of another program about versions and ciphers."""
    report = tmp_path / "report.xml"
    with server(tmp_path, ["cat"], *tls_options(authority)) as service:
        target = f"127.0.0.1:{service.port}"
        argv = ["sslscan", "--no-failed", f"--xml={report}", target]
        subprocess.run(argv, check=True, capture_output=True, timeout=250)
    found = ElementTree.parse(report)
    enabled = {
        f"{one.get('type')} {one.get('version')}"
        for one in found.iter("protocol")
        if one.get("enabled") == "1"
    }
    assert enabled == {"tls 1.2", "tls 1.3"}
    ciphers = {str(one.get("cipher")) for one in found.iter("cipher")}
    assert len(ciphers) >= 5
    weak = ("CBC", "SHA1", "DES", "RC4", "NULL", "anon", "EXP", "MD5")
    assert not [name for name in ciphers if any(part in name for part in weak)]
    strengths = {str(one.get("strength")) for one in found.iter("cipher")}
    assert strengths <= {"strong", "acceptable"}
    assert not [one for one in found.iter("heartbleed") if one.get("vulnerable") == "1"]
    (renegotiation,) = found.iter("renegotiation")
    assert (renegotiation.get("supported"), renegotiation.get("secure")) != ("1", "0")
