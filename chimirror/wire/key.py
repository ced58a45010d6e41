"""Sec-WebSocket-Key, and the 101 that answers it (RFC 6455 4.1 and 4.2.2)."""

from __future__ import annotations

import binascii

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import sha1
else:
    try:
        from _sha1 import sha1  # hashlib costs a starting bridge 4.5 ms
    except ImportError:  # a Python built without its own hashes
        from hashlib import sha1

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def is_key(value: bytes) -> bool:
    """Whether this is a Sec-WebSocket-Key: 16 bytes in base64."""
    try:
        return len(binascii.a2b_base64(value, strict_mode=True)) == 16
    except ValueError:
        return False


def switching_protocols(key: bytes, subprotocol: bytes | None) -> bytes:
    """Write the 101 that opens a WebSocket (RFC 6455 4.2.2)."""
    digest = sha1(key + _GUID).digest()  # noqa: S324 - RFC 6455 prescribes it
    accept = binascii.b2a_base64(digest, newline=False)
    answer = (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %s\r\n" % accept
    )
    if subprotocol is not None:
        answer += b"Sec-WebSocket-Protocol: %s\r\n" % subprotocol
    return answer + b"\r\n"
