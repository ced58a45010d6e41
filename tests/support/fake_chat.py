"""`chat server` without sockets and clocks: its real code, a fake loop, fake clients.

A test decides when a client sends, reads or ends, and when time passes. Each client
checks the order of what it receives: a chat begins before its content and ends once,
and nothing follows a failure.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial

import chat_pb2 as pb
from chat.connection import (
    HIGH_WATER,
    LOW_WATER,
    ServedConnection,
)
from chat.framing import FrameDecoder, decode_message
from chat.limits import MAX_FRAME
from chat.served_connections import READ_SIZE, ServedConnections, ServerSettings
from chat.server_log import logger

SETTINGS = ServerSettings(max_users=4)


class RaisingHandler(logging.Handler):
    """Raises again what the server has caught as an internal error."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            raise record.exc_info[1]


logger.addHandler(RaisingHandler())


class FakeTimer:
    """A callback of a FakeLoop."""

    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self.when = when
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None

    def run(self) -> None:
        callback, self.callback = self.callback, None
        if callback:
            callback()


class FakeLoop:
    """The clock and the callbacks of an event loop. Time passes by `advance` alone."""

    def __init__(self) -> None:
        self._now = 0.0
        self._ready: deque[FakeTimer] = deque()
        self._timers: list[FakeTimer] = []

    def time(self) -> float:
        return self._now

    def call_soon(self, callback: Callable[[], object], /) -> FakeTimer:
        self._ready.append(timer := FakeTimer(self._now, callback))
        return timer

    def call_later(self, delay: float, callback: Callable[[], object], /) -> FakeTimer:
        self._timers.append(timer := FakeTimer(self._now + delay, callback))
        return timer

    def timers(self) -> list[FakeTimer]:
        """Return the timers that will run, the next one first."""
        self._timers = [timer for timer in self._timers if timer.callback]
        return sorted(self._timers, key=lambda timer: timer.when)

    def run_ready(self) -> None:
        """Run what is due now."""
        while self._ready:
            self._ready.popleft().run()

    def advance(self, seconds: float) -> None:
        """Let time pass, from timer to timer."""
        end = self._now + seconds
        self.run_ready()
        while (due := self.timers()) and due[0].when <= end:
            self._now = due[0].when
            due[0].run()
            self.run_ready()
        self._now = end


class FakeChat:
    """A server with its users, and the clients that a test has connected."""

    def __init__(self, settings: ServerSettings = SETTINGS) -> None:
        self.loop = FakeLoop()
        self.served = ServedConnections(settings, self.loop)
        self.tokens: dict[str, bytes] = {}  # the last of each user
        self.clients: list[FakeClient] = []

    def connect(self) -> FakeClient:
        client = FakeClient(self)
        self.clients.append(client)
        return client

    def check(self) -> None:
        """Check that connections, users and chats fit together."""
        users = {*self.served.directory._users.values()}
        connections = [client.connection for client in self.clients]
        online = {one for one in connections if one._user}
        assert {one._user for one in online} == users
        assert {user.endpoint for user in users} == online
        assert online.isdisjoint(self.served._guests)
        assert online.union(self.served._guests) <= self.served.all <= {*connections}
        listing = self.served.directory._listing
        if listing:
            listed = {user.name: user.available for user in listing.users.users}
            assert listed == {user.name: user.chat is None for user in users}
        for user in users:
            chat = user.chat
            assert chat is None or chat.other(user).chat is chat
            assert chat is None or chat.other(user) in users - {user}
        for one in connections:
            assert one._is_closing or one in online.union(self.served._guests)
            assert not (one._is_closing and one._user)
            assert one._decoder.size <= READ_SIZE + MAX_FRAME

    def end(self) -> None:
        """Let all clients read and end. Nothing of them may be left."""
        self.loop.run_ready()
        for client in self.clients:
            client.take()
            client.close_sending()
        self.loop.advance(10)
        assert not self.served.all
        assert not self.served.directory._users
        assert not self.loop.timers()


class FakeClient(asyncio.Transport):
    """A client, and at the same time the server's transport to it."""

    def __init__(self, chat: FakeChat) -> None:
        super().__init__({"peername": ("192.0.2.1", 1)})
        self.loop = chat.loop
        self.tokens = chat.tokens
        self.connection = ServedConnection(chat.served)
        self.received: list[pb.FromServer] = []
        self.has_ended = False  # the server has sent its last byte
        self.is_lost = False  # the server has forgotten the connection
        self._is_reset = False
        self.chat = 0  # the number of the chat or request that the server has named
        self.has_started = False
        self._is_taking = True
        self._is_paused = False  # the server does not read
        self._wants_to_end = False
        self._waiting = bytearray()  # for this client to read
        self._unsent = bytearray()  # for the server to read
        self._decoder = FrameDecoder()
        self.connection.connection_made(self)

    # The client

    def send(self, data: bytes) -> None:
        """Send bytes, which the server gets when it reads."""
        if not self._wants_to_end:
            self._unsent += data
            self._transmit()

    def close_sending(self) -> None:
        self._wants_to_end = True
        self._transmit()

    def lose(self) -> None:
        """Reset the connection."""
        if not self._is_reset:
            self._is_reset = True
            self.loop.call_soon(partial(self._lose, ConnectionResetError(104, "")))

    def stop_taking(self) -> None:
        """Read no more: what the server writes waits."""
        self._is_taking = False

    def take(self) -> None:
        """Read what waits, and go on reading."""
        self._is_taking = True
        waited = len(self._waiting)
        self._decoder.feed(bytes(self._waiting))
        self._waiting.clear()
        for frame in iter(self._decoder.next_frame, None):
            self._check(decode_message(pb.FromServer, frame))
        if waited > HIGH_WATER and not self.is_lost:
            self.connection.resume_writing()

    def must_wait(self) -> bool:
        """Return True if the server does not read from this client."""
        return self._is_paused

    def kinds(self) -> list[str | None]:
        """Return the kinds of all received messages."""
        return [message.WhichOneof("kind") for message in self.received]

    def _transmit(self) -> None:
        while self._unsent and not (self._is_paused or self.is_lost):
            buffer = self.connection.get_buffer(-1)
            size = min(len(buffer), len(self._unsent))
            buffer[:size] = self._unsent[:size]
            del self._unsent[:size]
            self.connection.buffer_updated(size)
        if self._wants_to_end and not (self._unsent or self._is_paused or self.is_lost):
            self._wants_to_end = False
            self.connection.eof_received()
            self.loop.call_soon(partial(self._lose, None))

    def _lose(self, error: Exception | None) -> None:
        if not self.is_lost:
            self.is_lost = True
            self.connection.connection_lost(error)

    def _check(self, message: pb.FromServer) -> None:
        """Check that a message may follow the others."""
        kind = message.WhichOneof("kind")
        before = self.kinds()
        assert "failure" not in before
        assert before or kind in {"logged_in", "failure"}
        assert not before or kind != "logged_in"
        self.received.append(message)
        if kind == "logged_in":
            login = message.logged_in
            self.tokens[login.name.lower()] = login.resume_token
        elif kind in {"chat_asked", "chat_requested"}:
            number = getattr(message, kind).chat
            assert number > self.chat
            self.chat, self.has_started = number, False
        elif kind == "chat_started":
            assert message.chat_started.chat == self.chat
            assert not self.has_started
            self.has_started = True
        elif kind == "content":
            assert message.content.chat == self.chat
            assert self.has_started
        elif kind == "chat_ended":
            assert message.chat_ended.chat == self.chat
            assert self.has_started
            self.has_started = False
        elif kind == "chat_not_started":
            assert message.chat_not_started.chat in {0, self.chat}
            assert message.chat_not_started.chat == 0 or not self.has_started

    # The transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.has_ended
        before = len(self._waiting)
        self._waiting += data
        if self._is_taking:
            self.take()
        elif before <= HIGH_WATER < len(self._waiting):
            self.connection.pause_writing()
        assert len(self._waiting) <= HIGH_WATER + 3 * MAX_FRAME

    def write_eof(self) -> None:
        if self._is_reset:
            raise OSError(107, "Transport endpoint is not connected")
        self.has_ended = True

    def abort(self) -> None:
        self.loop.call_soon(partial(self._lose, None))

    def pause_reading(self) -> None:
        assert not self._is_paused
        self._is_paused = True

    def resume_reading(self) -> None:
        assert self._is_paused
        self._is_paused = False
        self.loop.call_soon(self._transmit)

    def set_write_buffer_limits(
        self, high: int | None = None, low: int | None = None
    ) -> None:
        assert (high, low) == (HIGH_WATER, LOW_WATER)
