"""The files of certificates and keys, as contexts for handshakes.

A changed file counts from the next handshake. If the new files cannot be used, the
contexts before stay in use, and a line says why. With several certificates, the name
that a client asks for (RFC 6066, section 3) decides. The first is for all other names.
"""

from __future__ import annotations

import ssl

from chimirror.tls.errors import CertificateError
from chimirror.tls.file_states import file_states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from chimirror.tls.file_states import FileState

PROTOCOL = "http/1.1"  # of ALPN (RFC 7301): WebSocket connections begin with it
CERTIFICATE_MARK = b"-----BEGIN CERTIFICATE-----"
KEY_MARK = b"PRIVATE KEY-----"
_NO_CHECK_TIME = 0x200000  # X509_VERIFY_PARAM_set_flags(3)


class CertificateFiles:
    """The paths of one certificate.

    Args:
        certificate: PEM file with the certificate, and the chain behind it.
        key: PEM file with the private key. May be the same file.
    """

    __slots__ = ("certificate", "key")

    def __init__(self, certificate: str, key: str) -> None:
        self.certificate = certificate
        self.key = key


class Certificates:
    """The certificates of an endpoint.

    Args:
        files: of each certificate.
        client_ca: PEM file with the authorities of client certificates. Empty: clients
            are not asked for one.
        requires_client: a client without a certificate is refused.
        report: called with a line when changed files cannot be used.

    Raises:
        CertificateError: The files cannot be used.
    """

    def __init__(
        self,
        files: Sequence[CertificateFiles],
        client_ca: str = "",
        *,
        requires_client: bool = True,
        report: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._files = files
        self._client_ca = client_ca
        self._requires_client = requires_client
        self._report = report
        self._states = self._read_states()
        self._context = self._load()

    def set_report(self, report: Callable[[str], object]) -> None:
        """Replace the function that is told of files that cannot be used."""
        self._report = report

    def context(self) -> ssl.SSLContext:
        """Return the context for the next handshake."""
        states = self._read_states()
        if states != self._states:
            self._states = states
            try:
                self._context = self._load()
            except CertificateError as error:
                self._report(f"{error}; the certificate before stays in use")
        return self._context

    def validity(self) -> list[tuple[float, float]]:
        """Return the first and last time of each certificate, in Unix seconds.

        Raises:
            CertificateError: A file cannot be used.
        """
        found = [_contents(_load(pair), pair.certificate) for pair in self._files]
        return [
            (
                ssl.cert_time_to_seconds(each["notBefore"]),
                ssl.cert_time_to_seconds(each["notAfter"]),
            )
            for each in found
        ]

    def _read_states(self) -> list[FileState]:
        paths = [path for pair in self._files for path in (pair.certificate, pair.key)]
        return file_states(path for path in (*paths, self._client_ca) if path)

    def _load(self) -> ssl.SSLContext:
        contexts = [_load(pair) for pair in self._files]
        if len(contexts) > 1:
            paths = [pair.certificate for pair in self._files]
            names = [*map(names_of, contexts, paths)]

            def choose(tls: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
                for known, context in zip(names, contexts, strict=True):
                    if name and matches(name, known):
                        tls.context = context
                        return

            contexts[0].sni_callback = choose
        if self._client_ca:
            for context in contexts:
                self._ask_for_client(context)
        return contexts[0]

    def _ask_for_client(self, context: ssl.SSLContext) -> None:
        path = self._client_ca
        _require(path, CERTIFICATE_MARK, "certificate")
        try:
            context.load_verify_locations(path)
        except (ssl.SSLError, OSError) as error:
            text = f"{path}: no usable certificates ({reason(error)})"
            raise CertificateError(text) from None
        context.verify_mode = ssl.CERT_OPTIONAL
        if self._requires_client:
            context.verify_mode = ssl.CERT_REQUIRED


def _load(pair: CertificateFiles) -> ssl.SSLContext:
    _require(pair.certificate, CERTIFICATE_MARK, "certificate")
    _require(pair.key, KEY_MARK, "private key")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([PROTOCOL])

    def refuse() -> str:
        raise CertificateError(f"{pair.key}: the key has a passphrase; remove it")

    try:
        context.load_cert_chain(pair.certificate, pair.key, refuse)
    except ssl.SSLError as error:
        raise CertificateError(_describe(pair, error)) from None
    except OSError as error:
        raise CertificateError(f"{pair.key}: {error.strerror}") from None
    return context


def _require(path: str, mark: bytes, what: str) -> None:
    """Refuse a file that cannot be read, or has no such thing in PEM."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise CertificateError(f"{path}: {error.strerror}") from None
    if mark not in content:
        raise CertificateError(f"{path}: no {what} in PEM is in this file")


def reason(error: OSError) -> str:
    """Return the reason of an error of OpenSSL, in words."""
    code = getattr(error, "reason", None) or error.strerror or str(error)
    return str(code).replace("_", " ").lower()


def _describe(pair: CertificateFiles, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"{pair.key}: not the key of the certificate in {pair.certificate}"
    return f"{pair.certificate}, {pair.key}: not usable ({reason(error)})"


def names_of(server: ssl.SSLContext, path: str) -> frozenset[str]:
    """Return the DNS names of the certificate of a context, in lower case.

    Args, Raises: as in `_contents`.
    """
    names = _contents(server, path).get("subjectAltName", ())
    return frozenset(str(value).lower() for kind, value in names if kind == "DNS")


def _contents(server: ssl.SSLContext, path: str) -> dict[str, Any]:
    """Return the certificate of a context, as `ssl.SSLSocket.getpeercert` does.

    The ssl module describes only the certificate of a peer. So a handshake in memory
    presents this one to a client that trusts it.

    Args:
        server: has the certificate, and asks for none of the client.
        path: PEM file with the certificate.

    Raises:
        CertificateError: The certificate cannot be used.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        client.load_verify_locations(path)
        ends = [
            client.wrap_bio(to_client, to_server),
            server.wrap_bio(to_server, to_client, server_side=True),
        ]
        for end in (*ends, *ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
    except OSError as error:
        raise CertificateError(f"{path}: not usable ({reason(error)})") from None
    return ends[0].getpeercert() or {}


def matches(name: str, known: frozenset[str]) -> bool:
    """Tell whether names of a certificate cover a host (RFC 9525, section 6.3)."""
    name = name.lower().rstrip(".")
    return name in known or f"*.{name.partition('.')[2]}" in known
