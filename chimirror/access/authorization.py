"""Reads the Authorization field of a question (RFC 9110, section 11; RFC 7617).

Knows two schemes, Basic and Bearer, and checks no password and no token.
"""

from __future__ import annotations

from binascii import a2b_base64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.access import Fields

_SCHEMES = {b"basic": "Basic", b"bearer": "Bearer"}
OTHER = "Authorizer"  # the authorizer knows the client by something else


def auth_type_of(fields: Fields) -> str:
    """Return the AUTH_TYPE that fits the header fields of a request."""
    return _SCHEMES.get(_split(fields)[0], OTHER)


def basic_user(fields: Fields) -> str | None:
    """Return the user of Basic credentials, None without such credentials.

    The bytes are UTF-8, or else Latin-1, as clients differ.
    """
    scheme, text = _split(fields)
    if scheme != b"basic":
        return None
    try:
        user, colon, _ = a2b_base64(text, strict_mode=True).partition(b":")
    except ValueError:
        return None
    return decode_name(user) if colon else None


def decode_name(name: bytes) -> str:
    """Decode a name from a header field: UTF-8, or else Latin-1."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("latin-1")


def _split(fields: Fields) -> tuple[bytes, bytes]:
    """Return scheme and credentials. Both are empty unless there is one field."""
    values = [value for name, value in fields if name == b"authorization"]
    if len(values) != 1:
        return b"", b""
    scheme, _, text = values[0].partition(b" ")
    return scheme.lower(), text.strip()
