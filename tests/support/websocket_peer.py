"""A WebSocket client for tests: one blocking socket, no product code.

Builds and reads frames from RFC 6455 alone, so that an error in `chimirror.protocol`
cannot hide itself. Anything other than a well-formed server frame (a traceback, raw
stderr) raises `FrameViolation`. Never imports chimirror, and never decides about the
correctness of an answer.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
PATIENCE = 200.0  # seconds until a blocked call fails its test
NO_CLOSE = 1006  # the end without a close frame, RFC 6455, section 7.1.5
MASKS = random.Random(6455)
FORMER = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class FrameViolation(Exception):
    """Bytes on the wire that RFC 6455 does not allow a server to send."""


class Closed(NamedTuple):
    """The end of a connection: code and reason of the close frame."""

    code: int
    reason: str


class Reply(NamedTuple):
    """An HTTP response. `body` holds all bytes up to the end of the stream."""

    status: int
    fields: dict[str, str]
    body: bytes


class Transcript(NamedTuple):
    """All messages of a session from here to its end."""

    stdout: bytes
    stderr: bytes
    messages: list[dict[str, Any]]
    closed: Closed


def mask(payload: bytes, key: bytes) -> bytes:
    """Mask by one exclusive or of two big integers (RFC 6455, section 5.3)."""
    size = len(payload)
    keys = (key * (size // 4 + 1))[:size]
    both = int.from_bytes(payload, "little") ^ int.from_bytes(keys, "little")
    return both.to_bytes(size, "little")


def frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """Return one masked client frame."""
    size = len(payload)
    first = opcode | (0x80 if fin else 0)
    if size < 126:
        head = struct.pack("!BB", first, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    key = MASKS.randbytes(4)
    return head + key + mask(payload, key)


def text(message: object) -> bytes:
    """Return one text frame with `message` as compact JSON (bytes unchanged)."""
    raw = message if isinstance(message, bytes) else dump(message)
    return frame(TEXT, raw)


def dump(message: object) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def stdin(data: bytes) -> dict[str, str]:
    """Return a stdio message that carries `data` to the application."""
    return {"type": "stdin", "payload": base64.b64encode(data).decode()}


def upgrade(target: str, framing: str, fields: tuple[str, ...]) -> bytes:
    """Return a correct request head. `fields` come last, as whole lines."""
    lines = [f"GET {target} HTTP/1.1"]
    if not any(line.lower().startswith("host:") for line in fields):
        lines.append("Host: localhost")
    lines += ["Connection: Upgrade", "Upgrade: websocket"]
    lines += [
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==",
    ]
    if framing:
        lines.append(f"Sec-WebSocket-Protocol: chimirror.{framing}.v1")
    return "\r\n".join([*lines, *fields, "", ""]).encode("latin-1")


def accept_value(key: str = "AQIDBAUGBwgJCgsMDQ4PEA==") -> str:
    digest = hashlib.sha1((key + FORMER).encode()).digest()
    return base64.b64encode(digest).decode()


class Peer:
    """The client's end of one connection."""

    # before this client's close frame
    hush: Callable[[], object] = staticmethod(lambda: None)

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        self.socket = connection
        self.stream = connection.makefile("rb", buffering=1 << 18)
        self.pings = 0
        self.partial: list[bytes] = []  # fragments of a message

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect without a close frame (FIN, or RST if input was left unread)."""
        self.stream.close()
        self.socket.close()

    def reset(self) -> None:
        """Disconnect with a RST."""
        linger = struct.pack("ii", 1, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close()

    def half_close(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    # The handshake

    def open(
        self,
        target: str = "/",
        *,
        framing: str = "json",
        fields: tuple[str, ...] = (),
        first: bytes = b"",
    ) -> Reply:
        """Send the handshake. `first` travels in the same segment."""
        self.send_raw(upgrade(target, framing, fields) + first)
        reply = self.head()
        if (
            reply.status == 101
            and reply.fields["sec-websocket-accept"] != accept_value()
        ):
            raise FrameViolation(f"Sec-WebSocket-Accept: {reply.fields}")
        return reply

    def head(self) -> Reply:
        """Read a response head. Refuse wrong line ends and repeated fields."""
        line = self.line()
        version, _, rest = line.partition(" ")
        if version != "HTTP/1.1":
            raise FrameViolation(f"status line {line!r}")
        fields: dict[str, str] = {}
        while field := self.line():
            name, colon, value = field.partition(":")
            if not colon or name.lower() in fields:
                raise FrameViolation(f"field {field!r}")
            fields[name.lower()] = value.strip()
        return Reply(int(rest[:3]), fields, b"")

    def line(self) -> str:
        raw = self.stream.readline()
        if not raw.endswith(b"\r\n"):
            raise FrameViolation(f"line {raw!r}")
        return raw[:-2].decode("latin-1")

    def refusal(self) -> Reply:
        """Read a complete response that ends the connection."""
        return self.head()._replace(body=self.stream.read())

    # Sending

    def send_raw(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send(self, *messages: object) -> None:
        """Send each message as one text frame, all in one segment."""
        self.send_raw(b"".join(map(text, messages)))

    def send_close(self, code: int = 1000, reason: str = "") -> None:
        self.send_raw(frame(CLOSE, struct.pack("!H", code) + reason.encode()))

    # Receiving

    def exactly(self, size: int) -> bytes:
        data: bytes = self.stream.read(size)
        if len(data) != size:
            raise FrameViolation(f"the stream ended within a frame: {data[:200]!r}")
        return data

    def read_frame(self) -> tuple[int, bytes] | None:
        """Return one message as (opcode, payload), None at the end of the stream.

        Control frames are returned on their way between the fragments of a text.
        """
        while (found := self.read_fragment()) is not None:
            first, payload = found
            if first & 0x08:
                return first & 0x0F, payload
            if (first & 0x0F == CONTINUATION) is not bool(self.partial):
                raise FrameViolation(f"opcode {first} out of order")
            if first & 0x80 and not self.partial:
                return first & 0x0F, payload
            self.partial.append(payload)
            if first & 0x80:
                text, self.partial = b"".join(self.partial), []
                return TEXT, text
        return None

    def read_fragment(self) -> tuple[int, bytes] | None:
        """Return one frame as (first byte, payload), None at the end of the stream."""
        first = self.stream.read(1)
        if not first:
            return None
        if first[0] & 0xF0 != 0x80 and first[0] not in (TEXT, CONTINUATION):
            raise FrameViolation(
                f"not a whole plain frame: {first + self.stream.read(400)!r}"
            )
        size = self.exactly(1)[0]
        if size == 126:
            (size,) = struct.unpack("!H", self.exactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self.exactly(8))
        elif size > 127:
            raise FrameViolation("a server's frame is masked")
        if size > 1 << 26:
            raise FrameViolation(f"a frame of {size} bytes")
        return first[0], self.exactly(size)

    def receive(self) -> bytes | Closed:
        """Return the next text message or the end, and answer pings on the way."""
        while (got := self.read_frame()) is not None:
            opcode, payload = got
            if opcode == TEXT:
                return payload
            if opcode == PING:
                self.pings += 1
                self.send_raw(frame(PONG, payload))
            elif opcode == CLOSE:
                return self.closed(payload)
            elif opcode != PONG:
                raise FrameViolation(f"opcode {opcode} with {payload[:200]!r}")
        return Closed(NO_CLOSE, "")

    def closed(self, payload: bytes) -> Closed:
        """Echo the close frame."""
        self.hush()
        try:
            self.send_raw(frame(CLOSE, payload[:2]))
        except (BrokenPipeError, ConnectionResetError):
            pass  # the server need not wait for the echo of its own close frame
        if not payload:
            return Closed(1005, "")
        return Closed(struct.unpack("!H", payload[:2])[0], payload[2:].decode())

    def message(self) -> dict[str, Any]:
        """Return the next message, which must be one JSON object."""
        got = self.receive()
        if isinstance(got, Closed):
            raise FrameViolation(
                f"closed {got.code} {got.reason!r} instead of a message"
            )
        found: dict[str, Any] = json.loads(got)
        return found

    def output(self, size: int, stream: str = "stdout") -> bytes:
        """Read until the application has sent `size` bytes on `stream`."""
        parts: list[bytes] = []
        while size > 0:
            found = self.message()
            if found["type"] == stream:
                parts.append(payload_of(found))
                size -= len(parts[-1])
        return b"".join(parts)

    def end(self) -> None:
        """Fail unless the stream ends here."""
        rest = self.stream.read()
        if rest:
            raise FrameViolation(f"after the close frame: {rest[:200]!r}")

    def transcript(self, *, wait: bool = True) -> Transcript:
        """Read to the end of the session, with `wait` to the end of the stream."""
        said: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        others: list[dict[str, Any]] = []
        while not isinstance(got := self.receive(), Closed):
            found = json.loads(got)
            if found["type"] in said:
                said[found["type"]].append(payload_of(found))
            else:
                others.append(found)
        if wait:
            self.end()
        return Transcript(
            b"".join(said["stdout"]), b"".join(said["stderr"]), others, got
        )


def payload_of(message: dict[str, Any]) -> bytes:
    """Return the payload of an output message, after checks of its form and base64.

    An error message has the same text in readable form.
    """
    members = {"type", "payload"} | ({"text"} if message["type"] == "error" else set())
    if set(message) != members:
        raise FrameViolation(f"members {sorted(message)}")
    payload = base64.b64decode(message["payload"], validate=True)
    if "text" in message and message["text"] != payload.decode():
        raise FrameViolation(f"another text: {message['text']}")
    return payload


class Sender(threading.Thread):
    """Sends frames while the test reads: all of them once, or an endless flood."""

    def __init__(
        self, peer: Peer, frames: list[bytes], *, endless: bool | None = None
    ) -> None:
        super().__init__()
        self.peer = peer
        self.frames = frames if endless is not False else []
        self.endless = bool(endless)
        self.stopped = threading.Event()
        self.sent = 0

    def run(self) -> None:
        try:
            self.pump()
            while self.endless and not self.stopped.is_set():
                self.pump()
        except OSError:
            pass  # the server has closed, and the test checks its messages

    def pump(self) -> None:
        for data in self.frames:
            if self.stopped.is_set():
                return
            self.peer.send_raw(data)
            self.sent += len(data)

    def stop(self) -> None:
        self.stopped.set()
        self.join()

    def __enter__(self) -> Sender:
        self.peer.hush = self.stop
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        if error[0]:
            self.peer.socket.shutdown(socket.SHUT_RDWR)
        self.stop()
        del self.peer.hush  # a cycle: the collector would find an open socket in it
