"""TLS settings of a client, which all of its connections share.

Makes the contexts of the module `ssl` from files in PEM form. Knows nothing of sockets.
The module is imported late, because it takes 20 ms.
"""

from __future__ import annotations

import os
from functools import cached_property

from chimirror.client.errors import InvalidCertificate
from chimirror.client.tls_errors import OptionNames, reason_of, reason_text
from chimirror.text import escape_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ssl import SSLContext

    Path = str | os.PathLike[str]

# A file of a chain and a key is small. A larger one is searched only in part.
MAX_FILE = 1 << 20  # bytes


class TLSSettings:
    """The contexts for wss:// URLs of one client.

    Attributes:
        options: Names of the options in messages.
        has_certificate: Whether the client has a certificate, None if it is unknown.
    """

    def __init__(
        self,
        *,
        ssl: SSLContext | None = None,
        ca: Path | None = None,
        cert: Path | None = None,
        key: Path | None = None,
        options: OptionNames | None = None,
    ) -> None:
        """Read the files.

        Args:
            ssl: A context of the caller, instead of files.
            ca: Authorities, instead of those of the system.
            cert: Certificate of the client and its chain.
            key: The key of that certificate, if it is not in the same file.
            options: Names of the options in messages.

        Raises:
            InvalidCertificate: A file cannot be used.
        """
        self.options = options or OptionNames()
        self.has_certificate = None if ssl is not None else cert is not None
        self._given = ssl
        self._ca, self._cert, self._key = ca, cert, key
        if ca is not None or cert is not None:
            _ = self.context

    @cached_property
    def context(self) -> SSLContext:
        """The context for connections."""
        if self._given is not None:
            return self._given
        context = self._create_context()
        if self._cert is not None:
            self._load_certificate(context, self._cert)
        return context

    def create_nameless_context(self) -> SSLContext | None:
        """Return a context that accepts any name, None with a context of the caller.

        Its connections carry no data. They show for which names a certificate is.
        """
        if self._given is not None:
            return None
        context = self._create_context()
        context.check_hostname = False
        return context

    def _create_context(self) -> SSLContext:
        import ssl

        try:
            context = ssl.create_default_context(cafile=self._ca)
        except OSError as error:  # SSLError too
            assert self._ca is not None
            name = self.options.ca
            _check_file(name, self._ca, b"CERTIFICATE-----", "certificate")
            raise _damaged(name, self._ca, error) from None
        context.set_alpn_protocols(["http/1.1"])
        return context

    def _load_certificate(self, context: SSLContext, cert: Path) -> None:
        try:
            context.load_cert_chain(cert, self._key, password=_refuse_passphrase)
        except _PassphraseNeededError:
            name = self.options.cert if self._key is None else self.options.key
            raise _invalid(
                name,
                cert if self._key is None else self._key,
                "has a key with a passphrase",
                "write the key without it: openssl pkey -in FILE -out NEW",
            ) from None
        except OSError as error:  # SSLError too
            raise self._explain(cert, error) from None

    def _explain(self, cert: Path, error: OSError) -> InvalidCertificate:
        """Return the exception for a pair of files that OpenSSL refuses."""
        options = self.options
        _check_file(options.cert, cert, b"CERTIFICATE-----", "certificate")
        if self._key is not None:
            mark, kind = b"PRIVATE KEY-----", "private key"
            _check_file(options.key, self._key, mark, kind)
        elif b"PRIVATE KEY-----" not in _read(options.cert, cert):
            return _invalid(
                options.cert,
                cert,
                "holds no private key",
                f"name its file with {options.key_use}",
            )
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            return _invalid(
                options.key,
                cert if self._key is None else self._key,
                f"has another key than that of the certificate in {_shown(cert)}",
                "the certificate of this key must be the first in that file",
            )
        return _damaged(options.cert, cert, error)


class _PassphraseNeededError(Exception):
    """The key has a passphrase."""


def _refuse_passphrase() -> str:
    # Without a function, OpenSSL would ask the terminal, which belongs to the session.
    raise _PassphraseNeededError


def _check_file(name: str, file: Path, mark: bytes, kind: str) -> None:
    """Raise InvalidCertificate for a file that lacks `mark`, of the form PEM."""
    data = _read(name, file)
    if not data.strip():
        raise _invalid(name, file, "is empty", f"it must hold a {kind} in PEM form")
    if mark not in data:
        cure = f'it must have a line "-----BEGIN ... {mark.decode()}"'
        raise _invalid(name, file, f"holds no {kind} in PEM form", cure)


def _read(name: str, file: Path) -> bytes:
    try:
        with open(file, "rb") as opened:
            return opened.read(MAX_FILE)
    except OSError as error:
        cure = "check the name"
        if isinstance(error, PermissionError):
            cure = "this user needs permission to read it"
        text = f"cannot be read: {(error.strerror or 'unknown error').lower()}"
        raise _invalid(name, file, text, cure) from None


def _damaged(name: str, file: Path, error: OSError) -> InvalidCertificate:
    reason = reason_text(reason_of(error)) or "unknown reason"
    return _invalid(name, file, f"is damaged ({reason})", "write the file again")


def _invalid(name: str, file: Path, problem: str, cure: str) -> InvalidCertificate:
    return InvalidCertificate(f"{name}: {_shown(file)} {problem}; {cure}")


def _shown(file: Path) -> str:
    return escape_line(os.fspath(file), 256)
