"""Options of TLS of chimirror-connect: --ca, --cert and --key."""

from __future__ import annotations

from chimirror.client import InvalidCertificate
from chimirror.client.tls_errors import OptionNames
from chimirror.client.tls_settings import TLSSettings
from chimirror.connect.errors import ConnectError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from chimirror.client.url import Target

NAMES = ("--ca", "--cert", "--key")


def check(given: Mapping[str, Any], targets: Sequence[Target]) -> None:
    """Refuse options of TLS that have no effect.

    Raises:
        ValueError: An option is wrong.
    """
    names = [name for name in NAMES if given[name] is not None]
    if names and not any(target.uri.secure for target in targets):
        raise ValueError(f"{names[0]}: only wss:// URLs use certificates")
    if given["--key"] is not None and given["--cert"] is None:
        raise ValueError("--key: name its certificate with --cert FILE")


def settings(given: Mapping[str, Any]) -> TLSSettings:
    """Read the files.

    Raises:
        ConnectError: A file cannot be used.
    """
    options = OptionNames(*NAMES, *(f"{name} FILE" for name in NAMES))
    ca, cert, key = (given[name] for name in NAMES)
    try:
        return TLSSettings(ca=ca, cert=cert, key=key, options=options)
    except InvalidCertificate as error:
        raise ConnectError(str(error)) from None
