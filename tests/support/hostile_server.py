"""A server that does to many clients what it must not, as the path of each tells.

One asyncio loop in a thread of its own. It counts the connections that are still open.
Knows chimirror-protocol(7), and none of the package's own code.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress

from connect_process import frame
from fake_server import exited, output
from websocket_peer import accept_value

SESSION = frame('{"type":"session","id":"x","secret":"s"}')
LARGE = b"\x81\x7f" + (1 << 20).to_bytes(8, "big")
CLOSE = frame(b"\x03\xe8exit 0", 0x88)
BLOCK = frame(output(bytes(1 << 14))) * 16
DROPS = frame(output(b"x")) * 500
MISTAKE = frame('{"type":"error","payload":""}')
# What each kind of session sends after its session message. None stands for no end.
SESSIONS: dict[str, tuple[bytes | None, ...]] = {
    "good": (frame(output(b"x")), frame(exited()), CLOSE),
    "flood": (BLOCK, None),
    "drops": (DROPS, None),
    "midway": (frame(output(b"x"))[:9],),
    "unknown": (
        frame('{"type":"x"}') * 500,
        frame('{"type":"error","payload":""}'),
        CLOSE,
    ),
    "sessions": (SESSION * 500, frame(exited(3)) * 500, CLOSE),
    "malformed": (frame("{"),),
    "masked": (b"\x81\x81abcdx",),
    "endless": (LARGE, b"x" * (1 << 14), None),
    "reason": (frame(b"\x0f\xa0" + b"r" * 123, 0x88),),
    "silent": (),
    "deaf": (BLOCK, None),
}
ACCEPTED = {name: SESSION if name != "silent" else b"" for name in SESSIONS}
# What a control connection sends for each request.
CONTROLS: dict[str, bytes] = {
    "drops": b"",
    "flood": frame('{"jsonrpc":"2.0","id":1,"result":{}}') * 2,
    "unknown": frame('{"jsonrpc":"2.0","id":7,"result":{}}'),
    "good": frame('{"jsonrpc":"2.0","method":"n","params":[]}') * 100,
}
FAILURE = b"HTTP/1.1 403 No\r\nContent-Length: 3\r\n\r\nno\n"


class HostileServer(threading.Thread):
    """The server. `url` is its address, without the kind."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.url = ""
        self.open = self.accepted = 0
        self.started = threading.Event()

    def run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._client, "127.0.0.1", 0, limit=1 << 16)
        self.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        self._stopping = asyncio.Event()
        self.started.set()
        async with server:
            await self._stopping.wait()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self._stopping.set)
        self.join()

    async def _client(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.open += 1
        self.accepted += 1
        try:
            await self._play(reader, writer)
        except (OSError, EOFError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def _play(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *lines = head.split("\r\n")[:-2]
        fields = {
            name.lower(): value for name, value in (x.split(": ", 1) for x in lines)
        }
        kind = line.split(" ")[1].strip("/")
        if "sec-websocket-key" not in fields or kind == "refused":
            writer.write(FAILURE)
            return
        subprotocol = fields["sec-websocket-protocol"].partition(",")[0]
        accept = accept_value(fields["sec-websocket-key"])
        writer.write(
            b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Protocol: %b\r\nSec-WebSocket-Accept: %b\r\n"
            % (subprotocol.encode(), accept.encode())
        )
        if kind == "head":  # without an end
            for _ in range(1 << 14):
                writer.write(b"X: y\r\n" * 100)
                await writer.drain()
        writer.write(b"\r\n")
        if subprotocol == "chimirror.control.v1":
            async for _ in _client_frames(reader):
                writer.write(CONTROLS.get(kind, b""))
                await writer.drain()
            return
        talking = asyncio.ensure_future(self._talk(writer, kind))
        try:
            if kind == "deaf":  # to the close frame
                await talking
            async for _ in _client_frames(reader):
                pass
        finally:
            talking.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await talking

    async def _talk(self, writer: asyncio.StreamWriter, kind: str) -> None:
        writer.write(ACCEPTED[kind])
        *_, last = SESSIONS[kind] or (b"",)
        for data in SESSIONS[kind]:
            if data is not None:
                writer.write(data)
        while last is None:
            writer.write(SESSIONS[kind][-2] or b"")
            await writer.drain()
        await writer.drain()
        if kind == "midway":
            writer.close()


async def _client_frames(reader: asyncio.StreamReader) -> AsyncIterator[int]:
    """Yield the opcodes of the client's frames, up to its close frame."""
    while True:
        first, size = await reader.readexactly(2)
        size &= 0x7F
        if size >= 126:
            size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8))
        await reader.readexactly(4 + size)
        if first & 15 == 8:
            return
        yield first & 15


@contextmanager
def hostile_server() -> Iterator[HostileServer]:
    server = HostileServer()
    server.start()
    server.started.wait()
    try:
        yield server
    finally:
        server.stop()
