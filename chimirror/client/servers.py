"""Turns the arguments of `connect` into parameters for each URL.

Reads the files of TLS options once, for all connections of the client.
"""

from __future__ import annotations

import os
from typing import Any

from chimirror.client.handshake import ConnectionParams
from chimirror.client.tls_settings import TLSSettings
from chimirror.client.url import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from ssl import SSLContext
    from typing import TypedDict

    from chimirror.client.credentials import Token
    from chimirror.client.handshake import Headers
    from chimirror.client.tls_settings import Path

    class ConnectOptions(TypedDict, total=False):
        """Options of `connect` beside URL and framing, in both APIs."""

        headers: Headers
        token: Token | None
        origin: str | None
        ssl: SSLContext | None
        ca: Path | None
        cert: Path | tuple[Path, Path] | None
        timeout: float
        ping_interval: float | None
        ping_timeout: float
        max_message: int
        size: tuple[int, int] | None


TLS_OPTIONS = ("ssl", "ca", "cert")
# What a context of the caller needs instead of the option.
_IN_CONTEXT = {"ca": "load_verify_locations", "cert": "load_cert_chain"}


def servers_from(
    urls: str | Sequence[str], options: ConnectOptions
) -> list[ConnectionParams]:
    """Return the parameters for each URL.

    Raises:
        InvalidURL, ValueError: The arguments cannot describe a session.
        InvalidCertificate: A file of `ca` or `cert` cannot be used.
        TypeError: `ssl` is given with `ca` or `cert`, or `token` has another type.
    """
    targets = [parse(url) for url in ([urls] if isinstance(urls, str) else urls)]
    if not targets:
        raise ValueError("url: an empty list; give at least one URL")
    others: dict[str, Any] = dict(options)
    tls_options = {name: others.pop(name, None) for name in TLS_OPTIONS}
    given = [name for name, value in tls_options.items() if value is not None]
    if given and not any(target.uri.secure for target in targets):
        raise ValueError(f"{given[0]}: only wss:// URLs use certificates")
    if given[:1] == ["ssl"] and len(given) > 1:
        raise TypeError(
            f"{given[1]}: ssl is a context with certificates of its own; call its "
            f"{_IN_CONTEXT[given[1]]} instead"
        )
    settings = _settings(**tls_options)
    return [ConnectionParams(target, tls=settings, **others) for target in targets]


def _settings(ssl: SSLContext | None, ca: Path | None, cert: Any) -> TLSSettings:
    key = None
    if cert is not None and not isinstance(cert, (str, os.PathLike)):
        try:
            cert, key = cert
        except (TypeError, ValueError):
            raise TypeError(
                "cert: give a path, or a pair of the paths of certificate and key"
            ) from None
    return TLSSettings(ssl=ssl, ca=ca, cert=cert, key=key)
