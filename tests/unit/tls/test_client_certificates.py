"""Certificates of clients: required, optional, refused, resumed."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from chimirror.tls.certificates import Certificates
from chimirror.tls.channel import TlsChannel
from tls_peers import (
    TLS_1_2,
    TLS_1_3,
    TlsClient,
    client_context,
    handshake,
    one,
    write_authority,
    write_certificate,
)

AUTHORITY = trustme.CA()


class Clients:
    """A server that asks for certificates of one authority."""

    def __init__(self, directory: Path, *, requires_client: bool = True) -> None:
        self.authority = trustme.CA()
        self.ca_path = directory / "clients.pem"
        write_authority(self.ca_path, self.authority)
        server = write_certificate(directory / "server.pem", AUTHORITY, "localhost")
        self.reports: list[str] = []
        self.certificates = Certificates(
            one(server),
            str(self.ca_path),
            requires_client=requires_client,
            report=self.reports.append,
        )
        self.directory = directory

    def certificate(self, authority: trustme.CA, *, expired: bool = False) -> str:
        path = self.directory / "client.pem"
        return write_certificate(path, authority, "alice@example.org", expired=expired)

    def connect(
        self, certificate: str = "", version: ssl.TLSVersion | None = None
    ) -> TlsChannel:
        context = client_context(AUTHORITY, version, certificate)
        return handshake(self.certificates, TlsClient(context))


BOTH_VERSIONS = pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])


@BOTH_VERSIONS
@pytest.mark.parametrize("required", [True, False])
def test_client_certificates(
    tmp_path: Path, version: ssl.TLSVersion, required: bool
) -> None:
    clients = Clients(tmp_path, requires_client=required)
    channel = clients.connect(clients.certificate(clients.authority), version)
    assert channel.is_established
    found = channel.variables()
    assert found["SSL_CLIENT_VERIFY"] == "SUCCESS"
    assert found["SSL_CLIENT_S_DN"].startswith("CN=alice@example.org,")
    assert found["SSL_PROTOCOL"] == {TLS_1_2: "TLSv1.2", TLS_1_3: "TLSv1.3"}[version]
    assert found["HTTPS"] == "on"
    channel = clients.connect("", version)
    assert channel.is_established is not required
    if required:
        assert channel.failure == "peer did not return a certificate"
    else:
        found = channel.variables()
        assert found["SSL_CLIENT_VERIFY"] == "NONE"
        assert "SSL_CLIENT_S_DN" not in found


@BOTH_VERSIONS
@pytest.mark.parametrize("required", [True, False])
def test_bad_client_certificates(
    tmp_path: Path, version: ssl.TLSVersion, required: bool
) -> None:
    """They are refused where none would be accepted, too."""
    clients = Clients(tmp_path, requires_client=required)
    channel = clients.connect(clients.certificate(trustme.CA()), version)
    assert not channel.is_established
    expected = "certificate verify failed (unable to get local issuer certificate)"
    assert channel.failure == expected
    expired = clients.certificate(clients.authority, expired=True)
    channel = clients.connect(expired, version)
    assert channel.failure == "certificate verify failed (certificate has expired)"
    assert not channel.is_established


def test_changed_authority_of_clients(tmp_path: Path) -> None:
    clients = Clients(tmp_path)
    other = trustme.CA()
    write_authority(clients.ca_path, other)
    assert clients.connect(clients.certificate(other)).is_established
    assert clients.connect(clients.certificate(clients.authority)).failure
    clients.ca_path.write_text("")
    assert clients.connect(clients.certificate(other)).is_established
    (report,) = clients.reports
    assert report.startswith(f"{clients.ca_path}: no certificate in PEM is in this")
    assert report.endswith("; the certificate before stays in use")
    clients.ca_path.write_text("-----BEGIN CERTIFICATE-----\nnone")
    assert clients.connect(clients.certificate(other)).is_established
    assert "no usable certificates" in clients.reports[1]


def test_resumed_session_keeps_its_certificate(tmp_path: Path) -> None:
    """A client that resumes is the one that has shown the certificate."""
    clients = Clients(tmp_path, requires_client=False)
    context = client_context(AUTHORITY, TLS_1_2, clients.certificate(clients.authority))
    first = TlsClient(context)
    assert handshake(clients.certificates, first).is_established
    again = TlsClient(context)
    again.tls.session = first.tls.session
    channel = handshake(clients.certificates, again)
    assert again.tls.session_reused
    assert channel.variables()["SSL_CLIENT_VERIFY"] == "SUCCESS"
    write_authority(clients.ca_path, trustme.CA())
    late = TlsClient(client_context(AUTHORITY, TLS_1_2))
    late.tls = context.wrap_bio(
        late.incoming, late.outgoing, server_hostname="localhost"
    )
    late.tls.session = first.tls.session
    assert not handshake(clients.certificates, late).is_established
