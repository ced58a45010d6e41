"""The connection of a client to the server: frames over TCP, and its liveness.

Follows chat.proto: each side sends at least one message per interval, and silence of
three intervals ends the connection. Knows nothing of users and chats.
"""

from __future__ import annotations

import asyncio
import os

from chat.client_state import ConnectionEnded
from chat.framing import FrameDecoder, FrameError, decode_message, encode_frame
from chat_pb2 import FromClient, FromServer, KeepAlive

READ = 1 << 16
HIGH = 1 << 16  # bytes that wait for the server
CONNECT_TIMEOUT = LOGIN_TIMEOUT = 10.0  # seconds
CLOSE_TIMEOUT = 2.0
SHORTEST, LONGEST = 0.1, 600.0  # seconds between messages that keep alive


class ServerLink:
    """One connection. It is used once."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = FrameDecoder()
        self._silence = LOGIN_TIMEOUT
        self._keeping: asyncio.Task[None] | None = None

    @property
    def crowded(self) -> bool:
        """True if the server has not taken what was sent to it."""
        return self._writer.transport.get_write_buffer_size() > HIGH

    def send(self, message: FromClient) -> None:
        self._writer.write(encode_frame(message))

    async def drain(self) -> None:
        """Wait until the server has taken most of what was sent."""
        try:
            await self._writer.drain()
        except OSError:
            pass  # the reader of this connection reports its end

    def keep_alive(self, interval: float) -> None:
        """Begin to send messages regularly, and to expect them."""
        seconds = min(max(interval, SHORTEST), LONGEST)
        self._silence = 3 * seconds
        self._keeping = asyncio.create_task(self._send_regularly(seconds / 2))

    async def _send_regularly(self, pause: float) -> None:
        while True:
            await asyncio.sleep(pause)
            if not self.crowded:
                self.send(FromClient(keep_alive=KeepAlive()))

    async def receive(self) -> FromServer:
        """Return the next message of the server.

        Raises:
            ConnectionEnded: There is none.
        """
        try:
            while (frame := self._decoder.next_frame()) is None:
                self._decoder.feed(await self._read())
            return decode_message(FromServer, frame)
        except FrameError as error:
            raise ConnectionEnded(f"the server sent {error}") from None

    async def _read(self) -> bytes:
        try:
            async with asyncio.timeout(self._silence):
                data = await self._reader.read(READ)
        except TimeoutError:
            raise ConnectionEnded(f"silence for {self._silence:g} s") from None
        except OSError as error:
            raise ConnectionEnded(reason_of(error)) from None
        if not data:
            raise ConnectionEnded("the server has closed it")
        return data

    async def close(self) -> None:
        """Send what is left, wait a limited time for the server, and close.

        The server closes its end when it has read everything. Unread input at the time
        of close(2) would reset the connection, and messages would be lost.
        """
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                self._writer.write_eof()
                while await self._reader.read(READ):
                    pass
        except OSError:  # also a TimeoutError
            pass
        self.abort()

    def abort(self) -> None:
        """Close the connection at once."""
        if self._keeping:
            self._keeping.cancel()
        self._writer.transport.abort()


async def connect(host: str, port: int) -> ServerLink:
    """Connect to the server.

    Raises:
        ConnectionEnded: The server does not answer.
    """
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            return ServerLink(*await asyncio.open_connection(host, port))
    except TimeoutError:
        raise ConnectionEnded(f"no answer for {CONNECT_TIMEOUT:g} s") from None
    except UnicodeError:  # of the encoding for DNS
        raise ConnectionEnded("this is no host name") from None
    except OSError as error:
        raise ConnectionEnded(reason_of(error)) from None


def reason_of(error: OSError) -> str:
    """Return the text of an error without its number."""
    number = error.errno
    if number and number > 0:
        return os.strerror(number)
    # The numbers of name resolution are negative. Several failed addresses have none.
    return error.strerror or str(error)
