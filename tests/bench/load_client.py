"""The load client: as little work per byte as Python allows.

Frames are built before the clock starts. While it runs, nothing is parsed that can be
counted. The ceiling shows the cost of this client: the same client against a bare
server in C (programs.c). Where the end of a session is awaited, the application ends.

Knows nothing of the server. A `Codec` describes its messages on the wire (RFC 6455,
section 5.2).
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable
from time import perf_counter
from typing import NamedTuple

from websocket_peer import BINARY, TEXT, frame, upgrade

Address = str | tuple[str, int]
SIZE = 1 << 20  # bytes per read, and per write of long data
TIMEOUT = 30.0
HEAD_END = b"\r\n\r\n"
JSON_OVERHEAD = len('{"type":"stdout","payload":""}')
CHUNKED = ("json", "binary")  # messages are writes of the application, not lines
FRAGMENTED = 256 * 1024  # bytes of a line of the framing lines, sent in fragments
WORD = b"here"  # the first output of the tiny application


class Codec(NamedTuple):
    """The form of lines on the wire for one kind of server."""

    framing: str  # its name in the tables
    request: bytes = upgrade("/", "", ())
    opcode: int = TEXT  # 0: no frames

    def wrap(self, line: bytes) -> bytes:
        """Encode one line, given without its end, as the client sends it."""
        if not self.opcode:
            return line + b"\n"
        return frame(self.opcode, line + b"\n" if self.opcode == BINARY else line)

    def short(self, line: bytes) -> bytes:
        """Encode one line of up to 124 bytes as the server echoes it."""
        if not self.opcode:
            return line + b"\n"
        line += b"\n" * (self.opcode == BINARY)
        return bytes((0x80 | self.opcode, len(line))) + line

    def whole(self, data: bytes) -> int:
        """Return the size of the first short frame or line, 0 if incomplete."""
        if not self.opcode:
            return data.find(b"\n") + 1
        size = 2 + data[1] if len(data) >= 2 else 3
        return size if len(data) >= size else 0

    def reply(self, size: int) -> int:
        """Return the bytes on the wire for one echoed line of `size` bytes."""
        if not self.opcode:
            return size + 1
        if self.framing == "json":
            size = JSON_OVERHEAD + (size + 3) // 3 * 4
        elif self.opcode == BINARY:
            size += 1
        return size + (2 if size < 126 else 4 if size < 65536 else 10)

    def replies(self, size: int, count: int) -> float:
        """Return the bytes on the wire for such lines, infinite if they vary.

        chimirror sends long lines in fragments.
        """
        fragmented = self.framing == "lines" and size > FRAGMENTED
        if self.framing in CHUNKED or fragmented:
            return float("inf")
        return count * self.reply(size)


TEXTS = Codec("text")
BINARIES = Codec("binary", opcode=BINARY)
LINES = Codec("lines", upgrade("/", "lines", ()))
JSON = Codec("json", upgrade("/", "json", ()))
RAW = Codec("none", b"", 0)
TTY = Codec(  # ttyd starts nothing before this message
    "tty",
    upgrade("/ws", "", ("Sec-WebSocket-Protocol: tty",))
    + frame(BINARY, b'{"AuthToken":"","columns":80,"rows":24}'),
    BINARY,
)
BARE = Codec("none", opcode=0)


def message(size: int) -> bytes:
    """Return one line of `size` bytes that is a JSON text."""
    return b'"%s"' % (b"x" * (size - 2))


def connect(address: Address) -> socket.socket:
    unix = isinstance(address, str)
    connection = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
    connection.settimeout(TIMEOUT)
    connection.connect(address)
    if not unix:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def enter(
    address: Address,
    codec: Codec,
    *lines: bytes,
    context: ssl.SSLContext | None = None,
) -> socket.socket:
    """Open a session and send `lines`, which must not be answered yet."""
    connection = connect(address)
    if context:
        connection = context.wrap_socket(connection)
    if codec.request:
        connection.sendall(codec.request)
        head = b""
        while not head.endswith(HEAD_END):
            data = connection.recv(1)  # reads no byte of the session itself
            if not data:
                raise ConnectionError(head)
            head += data
        if b" 101 " not in head.partition(b"\r\n")[0]:
            raise ConnectionError(head)
    for line in lines:
        connection.sendall(codec.wrap(line))
    return connection


class ShortSession:
    """One short session: opened, first byte read, closed."""

    __slots__ = ("began", "data", "socket")

    def __init__(self, address: Address, request: bytes) -> None:
        self.began = perf_counter()
        self.data = b""
        self.socket = connect(address)
        if request:
            self.socket.sendall(request)

    def arrived(self) -> bool:
        """Read. Returns whether the application's first byte has arrived."""
        data = self.socket.recv(4096)
        if not data:
            raise ConnectionError(self.data)
        self.data += data
        return WORD in self.data


def run_sessions(
    open_session: Callable[[], ShortSession],
    clients: int,
    seconds: float,
    *,
    keep: int = 0,
) -> tuple[list[float], float]:
    """Run as many short sessions as possible, `clients` at a time.

    Args:
        open_session: begins one.
        clients: number of sessions that wait for their first byte at a time.
        seconds: after which no session begins.
        keep: number of sessions to keep open, in place of that time.

    Returns:
        Seconds to the first byte of each, and sessions per second.
    """
    took: list[float] = []
    poller = select.epoll()
    live: dict[int, ShortSession] = {}
    kept: list[ShortSession] = []

    def begin() -> None:
        session = open_session()
        live[session.socket.fileno()] = session
        poller.register(session.socket, select.EPOLLIN)

    began = now = perf_counter()
    for _ in range(clients):
        begin()
    while len(took) < max(keep, 1) or (not keep and now < began + seconds):
        events = poller.poll(TIMEOUT)
        if not events:
            raise TimeoutError("no session has come to its first byte")
        for fd, _ in events:
            session = live[fd]
            if session.arrived():
                took.append(perf_counter() - session.began)
                del live[fd]
                poller.unregister(fd)
                if keep:
                    kept.append(session)
                else:
                    session.socket.close()
                begin()
        now = perf_counter()
    for session in (*live.values(), *kept):
        session.socket.close()
    poller.close()
    return took, len(took) / (now - began)


def ping_pong(connection: socket.socket, data: bytes, reply: int) -> float:
    """Send one line and read its echo. Returns seconds."""
    began = perf_counter()
    connection.send(data)
    while reply > 0:
        got = len(connection.recv(SIZE))
        if not got:
            raise ConnectionError("it ended")
        reply -= got
    return perf_counter() - began


class Counter:
    """A counter of the application's bytes that have arrived."""

    def __init__(self, codec: Codec, size: int) -> None:
        """Count lines of `size` bytes, with their ends."""
        self.codec = codec
        self.line = size
        self.wire = codec.reply(size - 1)
        self.bytes = 0
        self.rest = b""

    def take(self, data: bytes) -> int:
        """Return the bytes of all whole frames so far, `data` included."""
        if self.codec.framing in CHUNKED:
            self._walk(self.rest + data)
        else:
            self.bytes += len(data)
            return self.bytes // self.wire * self.line
        return self.bytes

    def _walk(self, data: bytes) -> None:
        position, size = 0, len(data)
        overhead = JSON_OVERHEAD if self.codec is JSON else 0
        while size - position >= 10:  # the smallest frame of either codec is longer
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
    """Send `count` lines of `size` bytes, `window` in flight, until all are back.

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
