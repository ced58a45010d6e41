"""Certificates of authorities that exist for one test, and servers that show them."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    load_pem_private_key,
)

from fake_server import LONG, SUBPROTOCOL, Handler, Remote, exited

DAY = datetime.timedelta(days=1)
STATUS = 3  # of the session of a server


class Pair(NamedTuple):
    """Files of a certificate with its chain, of its key, and of both."""

    cert: Path
    key: Path
    both: Path


class Authority:
    """An authority and its files.

    Attributes:
        ca: The authority.
        file: Its certificate.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory
        self.ca = trustme.CA()
        self.file = directory / "ca.pem"
        self.ca.cert_pem.write_to_path(self.file)

    def issue(self, *names: str, days: tuple[int, int] = (-1, 1)) -> Pair:
        """Issue a certificate for these names, valid from and until these days."""
        now = datetime.datetime.now(datetime.UTC)
        first, last = (now + day * DAY for day in days)
        issued = self.ca.issue_cert(*names, not_before=first, not_after=last)
        chain = b"".join(part.bytes() for part in issued.cert_chain_pems)
        return self.write(chain, issued.private_key_pem.bytes())

    def self_signed(self) -> Pair:
        """The authority as a server. The certificate has no name."""
        return self.write(self.ca.cert_pem.bytes(), self.ca.private_key_pem.bytes())

    def revoke(self, pair: Pair) -> Path:
        """Write a list of revoked certificates with this one."""
        now = datetime.datetime.now(datetime.UTC)
        issuer = x509.load_pem_x509_certificate(self.ca.cert_pem.bytes())
        leaf = x509.load_pem_x509_certificate(pair.cert.read_bytes())
        key = load_pem_private_key(self.ca.private_key_pem.bytes(), None)
        assert isinstance(key, EllipticCurvePrivateKey)
        revoked = x509.RevokedCertificateBuilder(leaf.serial_number, now - DAY).build()
        crl = x509.CertificateRevocationListBuilder(
            issuer.subject, now - DAY, now + DAY, revoked_certificates=[revoked]
        ).sign(key, SHA256())
        file = self.directory / "crl.pem"
        file.write_bytes(crl.public_bytes(Encoding.PEM))
        return file

    def write(self, cert: bytes, key: bytes) -> Pair:
        number = len(list(self.directory.iterdir()))
        names = (f"{number}-{kind}.pem" for kind in Pair._fields)
        pair = Pair(*(self.directory / name for name in names))
        for file, text in zip(pair, (cert, key, key + cert), strict=True):
            file.write_bytes(text)
        return pair


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    """Another authority."""
    return Authority(tmp_path / "stranger")


def context_of(pair: Pair, clients: Authority | None = None) -> ssl.SSLContext:
    """Make the context of a server, which requires certificates of `clients`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    if clients is not None:
        context.load_verify_locations(clients.file)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def exit_at_once(remote: Remote) -> None:
    remote.send(exited(STATUS))


@contextmanager
def accepting(serve: Callable[[socket.socket], object]) -> Iterator[int]:
    """Serve each connection, one at a time. Yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_accept, args=(listener, serve))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _accept(listener: socket.socket, serve: Callable[[socket.socket], object]) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return  # the test is over
        connection.settimeout(LONG)
        with connection, suppress(OSError):  # the client reports the failure
            serve(connection)


@contextmanager
def tls_server(
    context: ssl.SSLContext, handler: Handler = exit_at_once
) -> Iterator[int]:
    """Serve a session with TLS on each connection. Yields the port."""

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            remote = Remote(secure, SUBPROTOCOL)
            handler(remote)
            remote.close()

    with accepting(serve) as port:
        yield port
