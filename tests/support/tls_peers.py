"""Certificates for tests, and a client of TLS in memory.

The client moves its bytes only when it is called, so one thread can run both ends.
"""

from __future__ import annotations

import _ssl
import ctypes
import datetime
import socket
import ssl
from contextlib import suppress
from pathlib import Path

import trustme

from chimirror.tls.certificates import CertificateFiles, Certificates
from chimirror.tls.channel import TlsChannel
from serve import Service
from tls_authority import Authority
from websocket_peer import PATIENCE, Peer

YEAR = datetime.timedelta(365)
KEY_UPDATE_REQUESTED = 1  # SSL_key_update(3)
TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def write_certificate(
    path: Path, authority: trustme.CA, *names: str, expired: bool = False
) -> str:
    """Write a key and its certificate with the chain. Returns the path as text."""
    end = datetime.datetime.now(datetime.UTC) + (-YEAR if expired else YEAR)
    leaf = authority.issue_cert(
        *names, common_name=names[0], not_before=end - 2 * YEAR, not_after=end
    )
    leaf.private_key_and_cert_chain_pem.write_to_path(str(path))
    return str(path)


def write_authority(path: Path, authority: trustme.CA) -> str:
    """Write the certificate of an authority. Returns the path as text."""
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def client_context(
    authority: trustme.CA,
    version: ssl.TLSVersion | None = None,
    certificate: str = "",
    alpn: tuple[str, ...] = (),
) -> ssl.SSLContext:
    """Return the context of a client that trusts this authority alone.

    Args:
        authority: it issued the certificate of the server.
        version: the only one that the client offers. None: all.
        certificate: the file with its key and certificate. Empty: it has none.
        alpn: the protocols that it offers.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if certificate:
        context.load_cert_chain(certificate)
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


class TlsClient:
    """The client's end of a connection.

    Attributes:
        output: bytes of TLS for the server, if there is no socket.
        is_closed: the server has sent its close_notify.
        is_ended: TCP has ended.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        name: str | None = "localhost",
        connection: socket.socket | None = None,
    ) -> None:
        context.check_hostname = False  # the tests look at the certificate
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)
        self.socket = connection
        self.is_established = self.is_closed = self.is_ended = False

    @property
    def names(self) -> list[str]:
        """The DNS names in the certificate of the server."""
        found = self.tls.getpeercert() or {}
        pairs: tuple[tuple[str, str], ...] = found["subjectAltName"]  # type: ignore[assignment]
        return [value for _, value in pairs]

    def shake_hands(self) -> None:
        """Advance the handshake by the bytes that have arrived."""
        self._take()
        with suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
            self.is_established = True
        self._give()

    def write(self, data: bytes) -> None:
        self.tls.write(data)
        self._give()

    def request_keys(self) -> None:
        """Ask for new keys, which TLS 1.3 has to answer. Python has no call for it."""
        library = ctypes.CDLL(_ssl.__file__)
        # PyObject_HEAD, the socket, then the SSL of the library
        place = id(self.tls._sslobj) + 24  # type: ignore[attr-defined]
        ssl_pointer = ctypes.c_void_p.from_address(place)
        assert library.SSL_key_update(ssl_pointer, KEY_UPDATE_REQUESTED) == 1
        assert library.SSL_do_handshake(ssl_pointer) == 1
        self._give()

    def read(self) -> bytes:
        """Return all data that has arrived.

        Raises:
            SSLError: The server has sent an alert, or no TLS.
        """
        self._take()
        data = b""
        try:
            while chunk := self.tls.read(1 << 16):
                data += chunk
            self.is_closed = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.is_closed = True
        return data

    def close(self) -> None:
        """Send a close_notify. TCP stays open."""
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self._give()

    def _take(self) -> None:
        if self.socket is None:
            return
        try:
            while data := self.socket.recv(1 << 16, socket.MSG_DONTWAIT):
                self.incoming.write(data)
            self.is_ended = True
        except BlockingIOError:
            pass

    def _give(self) -> None:
        if self.socket is not None:
            self.socket.sendall(self.outgoing.read())


def one(path: str, key: str = "") -> list[CertificateFiles]:
    return [CertificateFiles(path, key or path)]


def handshake(
    certificates: Certificates, client: TlsClient, *, hello: bytes = b""
) -> TlsChannel:
    """Shake hands in memory. `hello` replaces the client's first bytes."""
    channel = TlsChannel(certificates.context())
    client.shake_hands()
    first = client.outgoing.read()
    channel.receive(hello or first)
    for _ in range(2):
        client.incoming.write(channel.take_output())
        if channel.failure:
            break
        client.shake_hands()
        channel.receive(client.outgoing.read())
    return channel


def secure(
    connection: socket.socket, context: ssl.SSLContext, name: str = "localhost"
) -> Peer:
    """Return a WebSocket client over TLS on a connected socket."""
    connection.settimeout(PATIENCE)
    try:
        return Peer(context.wrap_socket(connection, server_hostname=name))
    except OSError:
        connection.close()
        raise


def tls_options(authority: Authority, *more: str) -> tuple[str, ...]:
    """Return options of a server, with a certificate for this machine."""
    pair = authority.issue("localhost", "127.0.0.1")
    return ("--tls-cert", str(pair.cert), "--tls-key", str(pair.key), *more)


def connect(
    service: Service,
    authority: Authority,
    version: ssl.TLSVersion | None = None,
    certificate: str = "",
) -> Peer:
    context = client_context(authority.ca, version, certificate)
    return secure(service.connect(), context)
