"""Reads runs of text frames of one size at once.

Clients that send many messages at a time often send equal ones: readings in one format,
a file in pieces. One comparison of the headers, column by column, then checks them all,
and `struct` cuts them. That takes 0.13 µs for a frame of 64 bytes instead of 0.36.
Reads only complete, masked frames of up to 65,535 bytes, and leaves the rest to
`frame_reader`.
"""

from __future__ import annotations

from struct import iter_unpack

from chimirror.protocol import frame_format
from chimirror.protocol.frame_format import MASKED, SHORT, TEXT

TYPE_CHECKING = False
if TYPE_CHECKING:
    Bytes = bytes | bytearray

MIN_FRAMES = 8  # frames: for fewer, comparing columns takes as long as single reads
_MASK = 4
_TWO_MORE, _EIGHT_MORE = MASKED + 126, MASKED + 127


def read_uniform_run(
    data: Bytes, start: int, max_message: int, limit: int
) -> tuple[list[bytes], int]:
    """Read at most `limit` text frames of one size, from `start` on.

    Returns:
        Their payloads, not yet checked for UTF-8, and their end. An empty list and
        `start` if there is no such run.
    """
    no_run: tuple[list[bytes], int] = [], start
    second = data[start + 1]
    if data[start] != TEXT or not MASKED <= second < _EIGHT_MORE:
        return no_run
    header, length = 2, second - MASKED
    if second == _TWO_MORE:
        header, length = 4, int.from_bytes(data[start + 2 : start + 4])
        if length <= SHORT:
            return no_run
    size = header + _MASK + length
    count = min((len(data) - start) // size, limit)
    if length > max_message or count < MIN_FRAMES:
        return no_run
    for place in range(start, start + header):
        column = data[place : place + (count - 1) * size + 1 : size]
        count -= len(column.lstrip(column[:1]))
    if count < MIN_FRAMES:
        return no_run
    end = start + count * size
    unmask = frame_format.unmask
    pieces = iter_unpack(f"{header}x{_MASK}s{length}s", memoryview(data)[start:end])
    return [unmask(payload, mask) for mask, payload in pieces], end
