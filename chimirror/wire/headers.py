"""Headers of RFC 6455 frames, section 5.2: their numbers, and the frames that we send.

Knows no message and no state. What a server sends is never masked, and here it is
never in fragments.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    Bytes = bytes | bytearray

NO_STATUS = 1005

# The first byte of a frame, FIN set and reserved bits clear.
TEXT, CLOSE, PING, PONG = 0x81, 0x88, 0x89, 0x8A
# The second: the mask bit, and a length, or how many bytes hold the length.
MASKED = 0x80
SHORT = 125
EXTRA = {126: 2, 127: 8}
SHORTEST = {0: 0, 2: SHORT + 1, 8: 1 << 16}
TOO_LONG = 1 << 63
_MAX_REASON = SHORT - 2
# From this length on, messages go out from where they are (writev) instead of being
# copied once more, behind their headers.
_LARGE = 2048


def length_at(data: Bytes, position: int, extra: int) -> int:
    """Returns the payload's length in the header there; see `EXTRA`."""
    if extra:
        return int.from_bytes(data[position + 2 : position + 2 + extra])
    return data[position + 1] & ~MASKED


_SHORT_HEADERS = [bytes((TEXT, length)) for length in range(SHORT + 1)]


def text_header(length: int) -> bytes:
    """Returns what comes before a text message of so many bytes."""
    if length <= SHORT:
        return _SHORT_HEADERS[length]
    if length < SHORTEST[8]:
        return b"\x81\x7e" + length.to_bytes(2)
    return b"\x81\x7f" + length.to_bytes(8)


def text_frames(messages: list[Bytes]) -> bytes:
    """Returns the frames of many text messages, one after the other."""
    # A call for each short message would take twice the time.
    short = _SHORT_HEADERS
    return b"".join(
        [
            (short[len(text)] if len(text) <= SHORT else text_header(len(text))) + text
            for text in messages
        ]
    )


def text_buffers(messages: list[Bytes], size: int) -> tuple[list[Bytes], int]:
    """Returns the frames of messages, and their number; `size`: of all together."""
    if size < _LARGE * len(messages):
        return [text_frames(messages)], len(messages)
    buffers: list[Bytes] = []
    for message in messages:
        buffers += (text_header(len(message)), message)
    return buffers, len(messages)


def ping(payload: bytes) -> bytes:
    """Returns a ping frame; the payload has at most 125 bytes."""
    return bytes((PING, len(payload))) + payload


def pong(payload: bytes) -> bytes:
    """Returns a pong frame; the payload has at most 125 bytes."""
    return bytes((PONG, len(payload))) + payload


def close(code: int, reason: str = "") -> bytes:
    """Returns a close frame, the reason cut to what fits; `NO_STATUS` sends none."""
    if code == NO_STATUS:
        return bytes((CLOSE, 0))
    text = reason.encode(errors="replace")[:_MAX_REASON]
    payload = code.to_bytes(2) + text.decode(errors="ignore").encode()
    return bytes((CLOSE, len(payload))) + payload
