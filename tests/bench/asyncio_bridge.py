"""A competitor: the obvious program with asyncio and websockets.

    python asyncio_bridge.py PORT COMMAND…

It does no more than the documentation of both libraries shows. Messages are lines in
both directions, as with websocketd.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE

from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as listen
from websockets.exceptions import ConnectionClosed

MAX_LINE = 1 << 22  # bytes of a line


async def feed(client: ServerConnection, stdin: asyncio.StreamWriter) -> None:
    try:
        async for message in client:
            assert isinstance(message, str)
            stdin.write(message.encode() + b"\n")
            await stdin.drain()
    except (ConnectionClosed, ConnectionResetError, BrokenPipeError):
        pass
    stdin.close()


async def session(client: ServerConnection) -> None:
    process = await asyncio.create_subprocess_exec(
        *sys.argv[2:], stdin=PIPE, stdout=PIPE, limit=MAX_LINE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    feeding = asyncio.create_task(feed(client, process.stdin))
    try:
        async for line in process.stdout:
            await client.send(line.removesuffix(b"\n").decode())
    except ConnectionClosed:
        pass
    await client.close()
    await feeding
    await process.wait()


async def main() -> None:
    async with listen(session, "127.0.0.1", int(sys.argv[1]), compression=None) as it:
        await it.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
