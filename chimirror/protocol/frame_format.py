"""Headers and masking of WebSocket frames (RFC 6455, sections 5.2 and 5.3).

Knows no message and no state. Frames from a server are never masked.
"""

from __future__ import annotations

import _frozen_importlib
import _frozen_importlib_external
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Bytes = bytes | bytearray

    Buffer = bytes | bytearray | memoryview

    Unmask = Callable[[Buffer, Buffer], bytes]

NO_STATUS = 1005

# The first byte of a frame, FIN set and reserved bits clear.
TEXT, CLOSE, PING, PONG = 0x81, 0x88, 0x89, 0x8A
# The same of the fragments of a text: FIN is set in the last one.
FIRST_FRAGMENT, CONTINUATION, LAST_FRAGMENT = 0x01, 0x00, 0x80
# The second byte: the mask bit, and the length or the size of the length field.
MASKED = 0x80
SHORT = 125
EXTRA = {126: 2, 127: 8}
MIN_LENGTHS = {0: 0, 2: SHORT + 1, 8: 1 << 16}
TOO_LONG = 1 << 63
_MAX_REASON = SHORT - 2
# Messages from this length on are sent from their own buffers (writev). Shorter ones
# are copied behind their headers.
_LARGE = 2048


def length_at(data: Bytes, position: int, extra: int) -> int:
    """Return the length of the payload. `extra` is the size of the length field."""
    if extra:
        return int.from_bytes(data[position + 2 : position + 2 + extra])
    return data[position + 1] & ~MASKED


_SHORT_HEADERS = [bytes((TEXT, length)) for length in range(SHORT + 1)]


def text_header(length: int) -> bytes:
    """Return the header of a text message of `length` bytes."""
    if length <= SHORT:
        return _SHORT_HEADERS[length]
    if length < MIN_LENGTHS[8]:
        return b"\x81\x7e" + length.to_bytes(2)
    return b"\x81\x7f" + length.to_bytes(8)


def frame_header(first: int, length: int) -> bytes:
    """Return the header of a frame of `length` bytes with this first byte."""
    return bytes((first,)) + text_header(length)[1:]


def text_frames(messages: list[Bytes]) -> bytes:
    """Return the frames of many text messages, one after the other."""
    # A call for each short message would take twice the time.
    short = _SHORT_HEADERS
    return b"".join(
        [
            (short[len(text)] if len(text) <= SHORT else text_header(len(text))) + text
            for text in messages
        ]
    )


def text_buffers(messages: list[Bytes], size: int) -> tuple[list[Buffer], int]:
    """Return the frames of messages and their number.

    Args:
        messages: The text messages.
        size: Bytes of all messages together.
    """
    if size < _LARGE * len(messages):
        return [text_frames(messages)], len(messages)
    buffers: list[Buffer] = []
    for message in messages:
        buffers += (text_header(len(message)), message)
    return buffers, len(messages)


def join_buffers(
    first: tuple[list[Buffer], int], second: tuple[list[Buffer], int]
) -> tuple[list[Buffer], int]:
    """Return the buffers of both, and the number of messages in them."""
    if not first[0]:
        return second
    return first[0] + second[0], first[1] + second[1]


def ping(payload: bytes) -> bytes:
    """Return a ping frame. The payload has at most 125 bytes."""
    return bytes((PING, len(payload))) + payload


def pong(payload: bytes) -> bytes:
    """Return a pong frame. The payload has at most 125 bytes."""
    return bytes((PONG, len(payload))) + payload


def close(code: int, reason: str = "") -> bytes:
    """Return a close frame with the reason cut to fit. `NO_STATUS` sends no code."""
    if code == NO_STATUS:
        return bytes((CLOSE, 0))
    text = reason.encode(errors="replace")[:_MAX_REASON]
    payload = code.to_bytes(2) + text.decode(errors="ignore").encode()
    return bytes((CLOSE, len(payload))) + payload


# Budget for big integers in bytes: about the cost of loading the C function. A call
# costs as much as 128 bytes.
_BUDGET = 65536

_CALL = 128

# For shorter payloads the four tables of `by_stripes` cost more than big integers.
_MIN_STRIPES = 1024

_ALL_BYTES = bytes(range(256))

_spent = 0


def by_integers(payload: Buffer, mask: Buffer) -> bytes:
    """Unmask by one exclusive-or of big integers, the fastest way for a few bytes."""
    size = len(payload)
    key = (bytes(mask) * (size // 4 + 1))[:size]
    bits = int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")
    return bits.to_bytes(size, "little")


def by_stripes(payload: Buffer, mask: Buffer) -> bytes:
    """Unmask every fourth byte at once by a table, in place of the C function.

    Big integers need 6 ms for a megabyte, in several passes of allocation.
    `bytes.translate` needs 2 ms, one tight loop for each stripe.
    """
    if len(payload) < _MIN_STRIPES:
        return by_integers(payload, mask)
    out = bytearray(payload)
    for stripe in range(4):
        table = by_integers(_ALL_BYTES, bytes(mask[stripe : stripe + 1]) * 4)
        out[stripe::4] = out[stripe::4].translate(table)
    return bytes(out)


def load_native(path: list[str]) -> Unmask:
    """Load the C function from the first directory of `path` that has it.

    Returns:
        `websockets.speedups.apply_mask`. `by_stripes` if that function is missing: in a
        pure Python build of websockets, or a Python without shared libraries.
    """
    spec = _frozen_importlib_external.PathFinder.find_spec(
        "speedups", [f"{entry}/websockets" for entry in path]
    )
    if spec is None or spec.loader is None:
        return by_stripes
    try:
        module = _frozen_importlib.module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError:
        return by_stripes
    apply_mask: Unmask = getattr(module, "apply_mask", by_stripes)
    return apply_mask


def use_native() -> None:
    """Load the C function at once, for a server."""
    global unmask
    unmask = load_native(sys.path)


def _at_first(payload: Buffer, mask: Buffer) -> bytes:
    """Use big integers until loading the C function would have cost less."""
    global _spent
    _spent += _CALL + len(payload)
    if _spent <= _BUDGET:
        return by_integers(payload, mask)
    if unmask is _at_first:  # a caller may hold the old function for a loop
        use_native()
    return unmask(payload, mask)


# Call it as `frame_format.unmask`: loading the C function replaces it.
unmask: Unmask = _at_first
