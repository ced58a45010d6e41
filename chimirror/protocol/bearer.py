"""Tokens of browsers, which can set no field on a WebSocket: a name in the offer.

The name is `chimirror.bearer.` and the token in base64url without padding (RFC 4648,
section 5). It is taken off the offer before a subprotocol is chosen, and stands as
`Authorization: Bearer` from then on (RFC 6750). It replaces that field: browsers add
the password of an earlier login by themselves. Loaded with the first such request. No
error quotes a token.
"""

from __future__ import annotations

import binascii

from chimirror.protocol.http import HTTPError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.protocol.http import HTTPRequest

PREFIX = b"chimirror.bearer."
# RFC 6750, section 2.1: b64token
_TOKEN = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-._~+/="
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def take_token(request: HTTPRequest, field: bytes) -> None:
    """Move the token of an offer to the field Authorization.

    Args:
        request: A request whose offer has a name that begins with PREFIX.
        field: The field of the offer.

    Raises:
        HTTPError: 400, the offer has several tokens or a malformed one.
    """
    offered = request.elements(field)
    names = [name for name in offered if name.startswith(PREFIX)]
    rest = [name for name in offered if not name.startswith(PREFIX)]
    if len(names) > 1:
        raise _malformed("more than one token; send one")
    encoded = names[0][len(PREFIX) :]
    padding = b"=" * (-len(encoded) % 4)
    try:
        if any(byte in b"+/=" for byte in encoded):
            raise ValueError
        encoded = encoded.translate(_URL_SAFE)
        token = binascii.a2b_base64(encoded + padding, strict_mode=True)
    except ValueError:
        token = b""
    if not token or token.translate(None, _TOKEN):
        raise _malformed("a malformed token; write it in base64url without padding")
    request.set_field(field, b", ".join(rest))
    request.set_field(b"authorization", b"Bearer " + token)


def _malformed(text: str) -> HTTPError:
    text = f"the subprotocols hold {text} as chimirror.bearer.TOKEN"
    return HTTPError(400, text, cause="malformed")
