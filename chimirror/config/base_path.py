"""Reads the path below which a proxy serves everything (RFC 3986, section 3.3).

Knows no request. `protocol.policy` removes the path from requests.
"""

from __future__ import annotations

_PLAIN = frozenset(
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-._~!$&'()*+,;=:@"
)
_HEX = b"0123456789ABCDEFabcdef"


def parse(text: str) -> str:
    """Read ``/term`` or ``/term/``. Returns it without the last slash, "" for ``/``.

    Escapes have to be written as clients write them: only where needed, in upper case.
    """
    path, right = text.removesuffix("/"), _corrected(text)
    if not text or path != right.removesuffix("/"):
        raise ValueError(f'"{text}" is not an absolute path as in URLs; write {right}')
    return path


def _corrected(text: str) -> str:
    """Return the path that the text most likely stands for."""
    _, mark, rest = text.partition("://")
    path = rest.partition("/")[2] if mark else text
    segments: list[str] = []
    for part in path.partition("?")[0].partition("#")[0].split("/"):
        segment = _decoded(part)
        if segment == b"..":
            del segments[-1:]
        elif segment not in (b"", b"."):
            segments.append(_encoded(segment))
    return "/" + "/".join(segments)


def _decoded(segment: str) -> bytes:
    """Decode escapes, and leave out control characters. A lone % stands for itself."""
    first, *parts = segment.encode("utf-8", "surrogateescape").split(b"%")
    found = first
    for part in parts:
        code = part[:2]
        if len(code) == 2 and not code.translate(None, _HEX):
            found += bytes.fromhex(code.decode("ascii")) + part[2:]
        else:
            found += b"%" + part
    return bytes([byte for byte in found if byte >= 0x20 and byte != 0x7F])


def _encoded(segment: bytes) -> str:
    return "".join([chr(b) if b in _PLAIN else f"%{b:02X}" for b in segment])
