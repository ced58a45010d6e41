"""The load client: as little work per byte as Python lets one do.

Law: frames are built before the clock starts, and while it runs nothing is parsed that
can be counted; what is slow here is shown by the ceiling, the same client against a
bare server in C (programs.c). Where a session's end is awaited, the application ends.
Ignorance: it does not know who serves; a `Codec` says what each one's messages look
like on the wire (RFC 6455, section 5.2).
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from time import perf_counter
from typing import NamedTuple

from peers import BINARY, TEXT, frame, upgrade

Address = str | tuple[str, int]
SIZE = 1 << 20  # bytes per read, and per write where there are so many
PATIENCE = 30.0
HEAD_END = b"\r\n\r\n"
JSON_OVERHEAD = len('{"type":"stdout","payload":""}')
CHUNKED = ("json", "binary")  # messages are what the application wrote, not lines
WORD = b"here"  # what the tiny application says at once


class Codec(NamedTuple):
    """How one kind of peer puts lines on the wire."""

    framing: str  # as the tables name it
    request: bytes = upgrade("/", "", ())
    opcode: int = TEXT  # 0: no frames at all

    def wrap(self, line: bytes) -> bytes:
        """One line (without its end) as the client sends it."""
        if not self.opcode:
            return line + b"\n"
        return frame(self.opcode, line + b"\n" if self.opcode == BINARY else line)

    def short(self, line: bytes) -> bytes:
        """One line of up to 124 bytes as it comes back, unless it is wrapped."""
        if not self.opcode:
            return line + b"\n"
        line += b"\n" * (self.opcode == BINARY)
        return bytes((0x80 | self.opcode, len(line))) + line

    def whole(self, data: bytes) -> int:
        """The size of the first short frame or line in `data`; 0: not all is there."""
        if not self.opcode:
            return data.find(b"\n") + 1
        size = 2 + data[1] if len(data) >= 2 else 3
        return size if len(data) >= size else 0

    def reply(self, size: int) -> int:
        """Bytes on the wire for one line of `size` bytes that comes back at once."""
        if not self.opcode:
            return size + 1
        if self.framing == "json":
            size = JSON_OVERHEAD + (size + 3) // 3 * 4
        elif self.opcode == BINARY:
            size += 1
        return size + (2 if size < 126 else 4 if size < 65536 else 10)

    def replies(self, size: int, count: int) -> float:
        """Bytes on the wire for so many such lines; infinite if that depends."""
        return float("inf") if self.framing in CHUNKED else count * self.reply(size)


TEXTS = Codec("text")
BINARIES = Codec("binary", opcode=BINARY)
LINES = Codec("lines", upgrade("/", "lines", ()))
JSON = Codec("json", upgrade("/", "json", ()))
RAW = Codec("none", b"", 0)
TTY = Codec(  # of ttyd, which starts nothing before it has heard this
    "tty",
    upgrade("/ws", "", ("Sec-WebSocket-Protocol: tty",))
    + frame(BINARY, b'{"AuthToken":"","columns":80,"rows":24}'),
    BINARY,
)
BARE = Codec("none", opcode=0)


def message(size: int) -> bytes:
    """One line that is a JSON text of `size` bytes."""
    return b'"%s"' % (b"x" * (size - 2))


def connect(address: Address) -> socket.socket:
    unix = isinstance(address, str)
    connection = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
    connection.settimeout(PATIENCE)
    connection.connect(address)
    if not unix:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def enter(address: Address, codec: Codec, *lines: bytes) -> socket.socket:
    """An open session that was sent `lines`; nothing may answer them yet."""
    connection = connect(address)
    if codec.request:
        connection.sendall(codec.request)
        head = b""
        while not head.endswith(HEAD_END):
            data = connection.recv(1)  # not one byte of the session's
            if not data:
                raise ConnectionError(head)
            head += data
        if b" 101 " not in head.partition(b"\r\n")[0]:
            raise ConnectionError(head)
    for line in lines:
        connection.sendall(codec.wrap(line))
    return connection


class Visit:
    """One short session: open, first byte, closed."""

    __slots__ = ("began", "data", "socket")

    def __init__(self, address: Address, request: bytes) -> None:
        self.began = perf_counter()
        self.data = b""
        self.socket = connect(address)
        if request:
            self.socket.sendall(request)

    def arrived(self) -> bool:
        """Reads; whether the application's first byte is there."""
        data = self.socket.recv(4096)
        if not data:
            raise ConnectionError(self.data)
        self.data += data
        return WORD in self.data


def visits(
    address: Address, request: bytes, clients: int, seconds: float
) -> tuple[list[float], float]:
    """As many short sessions as `clients` at a time can have.

    Returns:
        Seconds to the first byte of each, and sessions per second.
    """
    took: list[float] = []
    poller = select.epoll()
    live: dict[int, Visit] = {}

    def begin() -> None:
        visit = Visit(address, request)
        live[visit.socket.fileno()] = visit
        poller.register(visit.socket, select.EPOLLIN)

    began = perf_counter()
    for _ in range(clients):
        begin()
    while (now := perf_counter()) < began + seconds or not took:
        events = poller.poll(PATIENCE)
        if not events:
            raise TimeoutError("no session has come to its first byte")
        for fd, _ in events:
            visit = live[fd]
            if visit.arrived():
                took.append(perf_counter() - visit.began)
                del live[fd]
                poller.unregister(fd)
                visit.socket.close()
                begin()
    for visit in live.values():
        visit.socket.close()
    poller.close()
    return took, len(took) / (now - began)


def ping_pong(connection: socket.socket, data: bytes, reply: int) -> float:
    """Sends one line and reads its echo; seconds."""
    began = perf_counter()
    connection.send(data)
    while reply > 0:
        got = len(connection.recv(SIZE))
        if not got:
            raise ConnectionError("it ended")
        reply -= got
    return perf_counter() - began


def repeated(data: bytes, count: int) -> Iterator[bytes]:
    """`data` so many times, in pieces that are worth a call."""
    several = max(1, SIZE // 4 // len(data))
    piece = data * several
    for _ in range(count // several):
        yield piece
    if count % several:
        yield data * (count % several)


def exchange(
    connection: socket.socket, pieces: Iterator[bytes], enough: float
) -> tuple[int, float]:
    """Sends everything while reading, until so many bytes have come, or the end.

    Returns:
        Bytes read, and seconds.
    """
    room = bytearray(SIZE)
    poller = select.poll()
    connection.setblocking(False)
    poller.register(connection, select.POLLIN | select.POLLOUT)
    rest = memoryview(next(pieces, b""))
    count, began = 0, perf_counter()
    while count < enough:
        events = poller.poll(PATIENCE * 1000)
        if not events:
            raise TimeoutError(f"{count} bytes came")
        if events[0][1] & ~select.POLLOUT:
            got = connection.recv_into(room)
            if not got:
                break
            count += got
        if rest and events[0][1] & select.POLLOUT:
            rest = rest[connection.send(rest) :] or memoryview(next(pieces, b""))
        if not rest:
            poller.modify(connection, select.POLLIN)
    return count, perf_counter() - began


class Counter:
    """Counts what has come back of the application's bytes."""

    def __init__(self, codec: Codec, size: int) -> None:
        """See the module; `size` is that of each line, with its end."""
        self.codec = codec
        self.line = size
        self.wire = codec.reply(size - 1)
        self.bytes = 0
        self.rest = b""

    def take(self, data: bytes) -> int:
        """All bytes that have come so far, `data` included; whole frames of them."""
        if self.codec.framing in CHUNKED:
            self._walk(self.rest + data)
        else:
            self.bytes += len(data)
            return self.bytes // self.wire * self.line
        return self.bytes

    def _walk(self, data: bytes) -> None:
        position, size = 0, len(data)
        overhead = JSON_OVERHEAD if self.codec is JSON else 0
        while size - position >= 10:  # the least frame of either is longer
            length, start = data[position + 1], position + 2
            if length > 125:
                extra = 2 if length == 126 else 8
                length = int.from_bytes(data[start : start + extra], "big")
                start += extra
            end = start + length
            if end > size:
                break
            length -= overhead
            if overhead:
                length = length // 4 * 3 - data.count(b"=", end - 4, end)
            self.bytes += length
            position = end
        self.rest = data[position:]


def stream(
    connection: socket.socket, codec: Codec, size: int, count: int, window: int
) -> float:
    """Sends `count` lines of `size` bytes with so many in flight, until all are back.

    Returns:
        Seconds.
    """
    block = max(1, window // 4)
    data = codec.wrap(message(size - 1))
    piece, last = data * block, data * (count % block)
    counter = Counter(codec, size)
    sent = back = 0
    began = perf_counter()
    while back < count:
        while sent < count and sent - back <= window - block:
            now = min(block, count - sent)
            connection.sendall(piece if now == block else last)
            sent += now
        got = connection.recv(SIZE)
        if not got:
            raise ConnectionError(f"it ended after {back} lines")
        back = counter.take(got) // size
    return perf_counter() - began
