"""Much data in one direction of a session, and the time until all of it has arrived.

In: the application reads, and writes one word after the last line. Out: it writes the
lines and ends. Only the application's bytes count.
"""

from __future__ import annotations

import select
import socket
import ssl
import sys
from collections.abc import Iterator
from itertools import chain
from time import perf_counter

from load_client import SIZE, TIMEOUT, Address, Codec, enter, message

END = b'"!"'
LEAST, MOST = 1 << 20, 1 << 30  # bytes per turn


def inwards(
    address: Address,
    codec: Codec,
    size: int,
    count: int,
    context: ssl.SSLContext | None = None,
) -> tuple[int, float]:
    """Send lines of `size` bytes. Returns the bytes and the seconds."""
    with enter(address, codec, b'"sink"', context=context) as connection:
        pieces = repeated(codec.wrap(message(size - 1)), count)
        every = chain(pieces, [codec.wrap(END)])
        _, took = exchange(connection, every, 1)
    return count * size, took


def outwards(
    address: Address,
    codec: Codec,
    size: int,
    count: int,
    context: ssl.SSLContext | None = None,
) -> tuple[int, float]:
    """Receive lines of `size` bytes. Returns the bytes and the seconds."""
    line = b'"source %d %d"' % (size, count)
    with enter(address, codec, line, context=context) as connection:
        came, took = exchange(connection, iter(()), codec.replies(size - 1, count))
    if came < count * (size - 1):
        print(f"{address}: {came} of {count * size} bytes came out", file=sys.stderr)
    return count * size, took


def repeated(data: bytes, count: int) -> Iterator[bytes]:
    """Repeat `data`, in pieces large enough for a system call."""
    several = max(1, SIZE // 4 // len(data))
    piece = data * several
    for _ in range(count // several):
        yield piece
    if count % several:
        yield data * (count % several)


def exchange(
    connection: socket.socket, pieces: Iterator[bytes], enough: float
) -> tuple[int, float]:
    """Send everything while reading, until enough bytes have arrived, or the end.

    Returns:
        Bytes read, and seconds.
    """
    buffer = bytearray(SIZE)
    poller = select.poll()
    connection.setblocking(False)
    poller.register(connection, select.POLLIN | select.POLLOUT)
    rest = memoryview(next(pieces, b""))
    count, began = 0, perf_counter()
    while count < enough:
        events = poller.poll(TIMEOUT * 1000)
        if not events:
            raise TimeoutError(f"{count} bytes came")
        try:
            if events[0][1] & ~select.POLLOUT:
                got = connection.recv_into(buffer)
                if not got:
                    break
                count += got
            if rest and events[0][1] & select.POLLOUT:
                rest = rest[connection.send(rest) :] or memoryview(next(pieces, b""))
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            continue  # a part of a record
        if not rest:
            poller.modify(connection, select.POLLIN)
    return count, perf_counter() - began
