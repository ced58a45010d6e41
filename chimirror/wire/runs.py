"""Runs of text frames of one size, read all at once.

Who sends many messages at a time often sends equals: readings of one format, a file in
pieces. Then one look at the headers, column by column, judges them all, and `struct`
cuts them: 0.13 µs for a frame of 64 bytes instead of 0.36. Knows only frames that are
whole, masked and of up to 65,535 bytes, and leaves everything else to `frames`.
"""

from __future__ import annotations

from struct import iter_unpack

from . import masking
from .headers import MASKED, SHORT, TEXT

TYPE_CHECKING = False
if TYPE_CHECKING:
    Bytes = bytes | bytearray

FEW = 8  # frames: looking at the columns takes as long as reading so many one by one
_MASK = 4
_TWO_MORE, _EIGHT_MORE = MASKED + 126, MASKED + 127


def texts(data: Bytes, max_message: int) -> tuple[list[bytes], int]:
    """Reads the text frames of one size at the beginning of `data`.

    Returns:
        Their payloads, not yet known to be UTF-8, and where they end; none and 0
        where there is no such run.
    """
    none: tuple[list[bytes], int] = [], 0
    second = data[1]
    if data[0] != TEXT or not MASKED <= second < _EIGHT_MORE:
        return none
    header, length = 2, second - MASKED
    if second == _TWO_MORE:
        header, length = 4, int.from_bytes(data[2:4])
        if length <= SHORT:
            return none
    size = header + _MASK + length
    count = len(data) // size
    if length > max_message or count < FEW:
        return none
    for place in range(header):
        column = data[place : count * size : size]
        count -= len(column.lstrip(column[:1]))
    if count < FEW:
        return none
    end = count * size
    unmask = masking.unmask
    cut = iter_unpack(f"{header}x{_MASK}s{length}s", memoryview(data)[:end])
    return [unmask(payload, mask) for mask, payload in cut], end
