"""Sits between the clients of a chat and their server: what a hostile server can do.

It records all messages in both directions, and a test may change them on their way. It
knows no secret key of a client.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Queue

import chat_pb2 as pb
from chat.framing import FrameDecoder, decode_message, encode_frame
from processes import PATIENCE

Edit = Callable[[pb.FromServer], None]


class ChatRelay:
    """A relay to the server at a port. It runs in a thread of its own."""

    def __init__(self, server_port: int, edit: Edit) -> None:
        self.seen = bytearray()
        self.kinds: set[str | None] = set()
        self._server_port = server_port
        self._edit = edit

    async def run(self, started: Queue[tuple[int, Callable[[], object]]]) -> None:
        """Relay until the function that is put into the queue, with the port, runs."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        started.put((port, lambda: loop.call_soon_threadsafe(stop.set)))
        await stop.wait()
        server.close()

    async def _relay(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        port = self._server_port
        from_server, to_server = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.gather(
                self._pump(reader, to_server, pb.FromClient),
                self._pump(from_server, writer, pb.FromServer),
            )
        except OSError:
            pass  # one of the two has ended
        finally:
            for end in (writer, to_server):
                end.transport.abort()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        kind: type[pb.FromClient | pb.FromServer],
    ) -> None:
        decoder = FrameDecoder()
        while data := await reader.read(65536):
            decoder.feed(data)
            for frame in iter(decoder.next_frame, None):
                message = decode_message(kind, frame)
                self.seen += frame
                self.kinds.add(message.WhichOneof("kind"))
                if isinstance(message, pb.FromServer):
                    self._edit(message)
                writer.write(encode_frame(message))
        writer.write_eof()


@contextmanager
def chat_relay(
    server_port: int, edit: Edit = lambda message: None
) -> Iterator[tuple[ChatRelay, int]]:
    """Run a relay. Yields it and its port."""
    relay = ChatRelay(server_port, edit)
    started: Queue[tuple[int, Callable[[], object]]] = Queue()
    thread = threading.Thread(target=lambda: asyncio.run(relay.run(started)))
    thread.start()
    port, stop = started.get(timeout=PATIENCE)
    try:
        yield relay, port
    finally:
        stop()
        thread.join(PATIENCE)
