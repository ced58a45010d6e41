"""Headers of the base protocol of the Language Server Protocol 3.17.

Knows no stream: gets complete lines. Used for both directions.
"""

from __future__ import annotations

from chimirror.framing import FramingError
from chimirror.protocol import BAD_HEADER, BODY_TOO_LONG

MAX_HEADER = 4096
END = b"\r\n\r\n"
BODY = b"Content-Length: %d\r\n\r\n%b"
_UTF8 = (b"utf-8", b"utf8")


def parse_header(lines: bytes, max_length: int) -> int:
    """Return the length of the body from header lines, -1 if they have none.

    Args:
        lines: Complete lines, without the empty one.
        max_length: Bytes of the longest body.
    """
    length = -1
    for line in lines.split(b"\n")[:-1]:
        name, colon, value = line.partition(b":")
        # White space in a name or before the colon is an error (RFC 9112, section 5.1).
        if not (colon and line.endswith(b"\r") and name.split() == [name]):
            raise FramingError(BAD_HEADER, line + b"\n")
        kind = name.lower()
        if kind == b"content-length":
            repeated, length = length >= 0, _parse_length(value[:-1])
            if repeated or length < 0:
                raise FramingError(BAD_HEADER, line)
            if length > max_length:
                raise FramingError(BODY_TOO_LONG, line)
        elif not line.isascii() or (
            kind == b"content-type" and _has_other_charset(value)
        ):
            raise FramingError(BAD_HEADER, line)
    return length


def _parse_length(value: bytes) -> int:
    """Read a length, -1 if it is none. Each length has exactly one form."""
    digits = value.strip(b" \t")
    if not digits.isdigit() or (digits[:1] == b"0" and digits != b"0"):
        return -1
    return int(digits)


def _has_other_charset(content_type: bytes) -> bool:
    """Tell whether the content type names a character set other than UTF-8."""
    for parameter in content_type.lower().split(b";")[1:]:
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"charset" and value.strip(b' \t\r"') not in _UTF8:
            return True
    return False
