"""What the connections of `chat server` share: limits, users, clock, and each other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple, Protocol

import chat_pb2 as pb
from chat.users import UserDirectory

if TYPE_CHECKING:
    from collections.abc import Callable

    from chat.users import Endpoint, Timer

READ_SIZE = 65_536  # bytes
MAX_GUESTS = 400  # with the clients, these are fewer than 1,024 descriptors


class EventLoop(Protocol):
    """What is used of asyncio's event loop: clock and callbacks."""

    def time(self) -> float: ...
    def call_soon(self, callback: Callable[[], object], /) -> Timer: ...
    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer: ...


class ServerSettings(NamedTuple):
    """Limits of a server. Times are in seconds."""

    max_users: int = 400  # so that all their names fit into one frame
    login_timeout: float = 10.0
    answer_timeout: float = 30.0
    interval: float = 20.0


class ServedConnections:
    """What the connections of a server share: settings, users and each other."""

    def __init__(self, settings: ServerSettings, loop: EventLoop) -> None:
        self.settings = settings
        self.loop = loop
        self.directory = UserDirectory(
            loop.call_later, settings.answer_timeout, settings.max_users
        )
        self.all: set[Endpoint] = set()
        self._guests: dict[Endpoint, None] = {}  # the oldest first
        self.is_stopping = False
        # The event loop reads into it, and the connection copies at once.
        self.buffer = memoryview(bytearray(READ_SIZE))
        self._closed = asyncio.Event()

    def add_guest(self, guest: Endpoint) -> None:
        """Add a connection without a user: before the login, or at the end.

        If there are too many, the oldest one is aborted. So connections that do not
        log in cannot keep others from it.
        """
        self.all.add(guest)
        self._guests[guest] = None
        if len(self._guests) > MAX_GUESTS and not self.is_stopping:
            oldest = next(iter(self._guests))
            del self._guests[oldest]
            oldest.abort("too many connections without a user")

    def on_logged_in(self, connection: Endpoint) -> None:
        del self._guests[connection]

    def remove(self, connection: Endpoint) -> None:
        self.all.discard(connection)
        self._guests.pop(connection, None)
        self._closed.set()

    async def close_all(self) -> None:
        """Tell all clients that the server ends, and wait until they are gone."""
        self.is_stopping = True
        for connection in [*self.all]:
            connection.fail(pb.Failure.STOPPING, "the server ends")
        while self.all:
            self._closed.clear()
            await self._closed.wait()
