"""Load on a fleet: sessions that stay, and sessions that come and go.

A program of its own, run in the network of the fleet. It writes a JSON line for each
event, and reads one word a line: `stop` ends it. Only the standard library: frames of
the server are read without copies, so that one process has thousands of sessions.

Counts handshakes by their result, and ends of sessions by close code and reason. A
session that stays is opened again when it ends, after a random time. That is at most
0.5 s at first, twice as much after each failure, and 30 s in the end. The libraries for
clients never reconnect, so this is the loop of an application: chimirror-fleet(7).
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import ssl
import sys
from collections import Counter
from typing import Any, NamedTuple

NAME = "chat.example.org"
LINE = b'{"a":1}'
EOF = b'{"type":"eof"}'
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
LOST = "lost"
PATIENCE = 200.0


class Settings(NamedTuple):
    """What to open.

    Attributes:
        host, port: the balancer.
        ca: the file of its authority, "" without TLS.
        stay: the number of sessions that stay.
        rate: new sessions in each second that end by themselves.
        burst: handshakes at once while those that stay are opened first.
        sources: addresses to connect from in turn.
    """

    host: str
    port: int
    ca: str
    stay: int
    rate: float = 0.0
    burst: int = 50
    sources: tuple[str, ...] = ()


def frame(opcode: int, payload: bytes) -> bytes:
    """Return a masked frame of less than 126 bytes (RFC 6455, section 5.2)."""
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return bytes((0x80 | opcode, 0x80 | len(payload))) + mask + masked


class Session(asyncio.Protocol):
    """One connection: the handshake, an echo, and the end."""

    __slots__ = ("_input", "_transport", "closed", "id", "opened", "reason")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._input = b""
        self._transport: asyncio.Transport | None = None
        self.id = ""
        self.opened: asyncio.Future[str] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.reason = LOST

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            f"GET / HTTP/1.1\r\nHost: {NAME}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: chimirror.stdio.v1\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self._input += data
        if not self.opened.done() and not self._read_head():
            return
        while self._read_frame():
            pass

    def _read_head(self) -> bool:
        head, end, rest = self._input.partition(b"\r\n\r\n")
        if not end:
            return False
        self._input = rest
        status, *lines = head.decode("latin-1").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines)
        self.id = fields.get("chimirror-session", "")
        self.opened.set_result(status.split(" ")[1])
        return True

    def _read_frame(self) -> bool:
        data = self._input
        if len(data) < 2:
            return False
        size, start = data[1], 2
        if size == 126:
            size, start = int.from_bytes(data[2:4], "big"), 4
        if len(data) < start + size:
            return False
        payload, self._input = data[start : start + size], data[start + size :]
        self._on_frame(data[0] & 15, payload)
        return True

    def _on_frame(self, opcode: int, payload: bytes) -> None:
        assert self._transport is not None
        if opcode == PING:
            self._transport.write(frame(PONG, payload))
        elif opcode == CLOSE:
            code = int.from_bytes(payload[:2], "big")
            self.reason = f"{code} {payload[2:].decode()}"
            self._transport.write(frame(CLOSE, payload[:2]))

    def connection_lost(self, error: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_result(LOST)
        if not self.closed.done():
            self.closed.set_result(None)

    def end_input(self) -> None:
        """End the input of the application, which then exits."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame(TEXT, EOF))

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Load:
    """All sessions of this program.

    Attributes:
        handshakes: their number by status, or by what failed.
        ends: of sessions, by code and reason.
        ids: of all sessions, with the way they ended.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._context: ssl.SSLContext | None = None
        if settings.ca:
            self._context = ssl.create_default_context(cafile=settings.ca)
        self._stopping = asyncio.Event()
        self._room = asyncio.Semaphore(settings.burst)
        self._count = 0
        self._open: set[Session] = set()
        self._slowest = 0.0
        self._returns: list[float] = []
        self.staying = 0
        self.handshakes: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.ids: dict[str, str] = {}

    def say(self, event: str, **values: object) -> None:
        print(json.dumps({"event": event, **values}), flush=True)

    async def _dial(self) -> Session:
        loop, (host, port, *_) = asyncio.get_running_loop(), self._settings
        sources = self._settings.sources
        source = (sources[self._count % len(sources)], 0) if sources else None
        self._count += 1
        context = self._context
        _, session = await loop.create_connection(
            lambda: Session(loop),
            *(host, port),
            ssl=context,
            server_hostname=NAME if context else None,
            local_addr=source,
        )
        return session

    async def open(self) -> Session | None:
        """Open a session. Returns None if its handshake has failed."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(PATIENCE):
                session = await self._dial()
                status = await session.opened
        except OSError as error:  # TimeoutError too
            self._failed(type(error).__name__)
            return None
        if status != "101":
            session.abort()
            self._failed(status)
            return None
        self.handshakes[status] += 1
        self._slowest = max(self._slowest, loop.time() - began)
        self._open.add(session)
        self.ids[session.id] = ""
        return session

    def _failed(self, what: str) -> None:
        self.handshakes[what] += 1

    async def finish(self, session: Session) -> None:
        """Wait for the end of a session."""
        await session.closed
        self._open.discard(session)
        self.ids[session.id] = session.reason
        self.ends[session.reason] += 1

    async def come_and_go(self) -> None:
        """A session that ends by itself, after up to two seconds."""
        session = await self.open()
        if session is not None:
            later = asyncio.get_running_loop().call_later
            later(random.uniform(0, 2), session.end_input)
            await self.finish(session)

    async def stay(self) -> None:
        """A session that is opened again each time it ends."""
        async with self._room:
            session = await self.open()
        clock, wait, ended_at = asyncio.get_running_loop().time, 0.5, 0.0
        while True:
            if session is not None:
                if ended_at:
                    self._returns.append(clock() - ended_at)
                await self._hold(session)
                wait, ended_at = 0.5, clock()
            await self._pause(random.uniform(0, wait))
            if self._stopping.is_set():
                break
            session = await self.open()
            wait = min(2 * wait, 30.0)

    async def _hold(self, session: Session) -> None:
        """Keep a session until it ends."""
        self._changed(1)
        if self._stopping.is_set():
            session.end_input()
        await self.finish(session)
        self._changed(-1)

    def _changed(self, by: int) -> None:
        self.staying += by
        if by > 0 and self.staying == self._settings.stay:
            self.say("all", slowest=round(self._slowest, 3))
            self._slowest = 0.0

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            pass

    async def arrive(self, group: asyncio.TaskGroup) -> None:
        """Open sessions at the rate."""
        while not self._stopping.is_set():
            group.create_task(self.come_and_go())
            await self._pause(1 / self._settings.rate)

    async def obey(self) -> None:
        """Read commands. The end of input is a command to stop."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        while (word := await reader.readline()) not in (b"", b"stop\n"):
            self.say("state", word=word.decode().strip(), **self.summary())
        self._stopping.set()
        for session in self._open:
            session.end_input()

    def summary(self) -> dict[str, Any]:
        """Return all counts. `back` is how often a session was opened again."""
        return {
            "handshakes": self.handshakes,
            "ends": self.ends,
            "staying": self.staying,
            "slowest": round(self._slowest, 3),
            "back": len(self._returns),
        }

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self._settings.stay):
                group.create_task(self.stay())
            if self._settings.rate:
                group.create_task(self.arrive(group))
            group.create_task(self.obey())
        returns = [round(each, 2) for each in self._returns]
        self.say("end", ids=self.ids, returns=returns, **self.summary())


def main() -> None:
    settings = json.loads(sys.argv[1])
    asyncio.run(Load(Settings(**settings)).run())


if __name__ == "__main__":
    main()
