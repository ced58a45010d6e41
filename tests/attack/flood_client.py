"""Attacking clients: many connections in one process, with prebuilt bytes.

A `Behaviour` describes one client from its request to its end. All clients of an attack
share one epoll and one block of bytes, and discard every reply: they cost little beside
the server. A client that the server disconnects connects again. Knows nothing of
chimirror's modules. epoll(7), RFC 6455.
"""

from __future__ import annotations

import select
import socket
from time import monotonic
from typing import NamedTuple

Address = tuple[str, int]

BLOCK = 64 << 10  # bytes per write
READ = 64 << 10
HEAD_END = b"\r\n\r\n"
SWITCHED = b" 101 "
ATTACKER = "127.0.0.2"  # the source address of all attacking clients
CONNECTS_PER_TURN = 100
RECONNECTS = 20_000  # of all clients; afterwards they stay away
EVENTS = 512


class Behaviour(NamedTuple):
    """What one client does.

    Attributes:
        request: sent at once after the connection.
        first: sent once, after the 101 response.
        block: sent again and again after `first`. Empty: the client stays silent.
        piece: bytes per write.
        reads: whether the client reads after the 101 response.
        linger: seconds that the client keeps its connection open after the server has
            ended its half.
    """

    request: bytes = b""
    first: bytes = b""
    block: bytes = b""
    piece: int = BLOCK
    reads: bool = True
    linger: float = 0.0


def blocks(frame: bytes) -> bytes:
    """Repeat a frame to about the size of one write."""
    return frame * max(1, BLOCK // len(frame))


class Client:
    """One connection."""

    __slots__ = ("events", "head", "offset", "open", "queue", "socket")

    def __init__(self, connection: socket.socket, request: bytes) -> None:
        self.socket = connection
        self.queue = memoryview(request)
        self.offset = 0
        self.head = b""
        self.open = False  # whether the 101 response has arrived
        self.events = 0


class Flood:
    """All clients of one attack, until the deadline or until `stop` is readable.

    Args:
        address: of the server.
        behaviour: of each client.
        clients: their number.
    """

    def __init__(self, address: Address, behaviour: Behaviour, clients: int) -> None:
        self.address = address
        self.behaviour = behaviour
        self.block = memoryview(behaviour.block)
        self.wanted = clients
        self.connects_left = clients + RECONNECTS
        self.live: dict[int, Client] = {}
        self.lingering: list[tuple[float, socket.socket]] = []
        self.poller = select.epoll()
        self.counts = dict.fromkeys(
            ("connects", "accepted", "refused", "disconnects", "bytes"), 0
        )

    def run(self, stop: int, deadline: float) -> dict[str, int]:
        """Attack. Returns what was counted."""
        self.poller.register(stop, select.EPOLLIN)
        while monotonic() < deadline:
            self.connect_missing()
            for fd, events in self.poller.poll(0.1, EVENTS):
                if fd == stop:
                    deadline = 0.0
                    break
                self.on_event(self.live[fd], events)
            self.end_lingering(monotonic())
        self.close()
        return self.counts

    def close(self) -> None:
        """Disconnect all clients without a close frame."""
        for client in self.live.values():
            client.socket.close()
        for _, connection in self.lingering:
            connection.close()
        self.poller.close()

    def connect_missing(self) -> None:
        """Connect as many clients as are missing, a bounded number at a time."""
        missing = self.wanted - len(self.live) - len(self.lingering)
        for _ in range(min(missing, CONNECTS_PER_TURN, self.connects_left)):
            try:
                connection = socket.socket()
            except OSError:  # the limit of descriptors
                self.wanted = len(self.live) + len(self.lingering)
                return
            self.connects_left -= 1
            self.counts["connects"] += 1
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_IP, socket.IP_BIND_ADDRESS_NO_PORT, 1)
            connection.bind((ATTACKER, 0))
            connection.connect_ex(self.address)
            client = Client(connection, self.behaviour.request)
            self.live[connection.fileno()] = client
            self.poller.register(connection, 0)
            self.watch(client)

    def adopt(self, connection: socket.socket) -> None:
        """Let a client with an open WebSocket take part."""
        connection.setblocking(False)
        client = Client(connection, b"")
        client.open = True
        self.counts["accepted"] += 1
        self.live[connection.fileno()] = client
        self.poller.register(connection, 0)
        self.watch(client)

    def watch(self, client: Client) -> None:
        """Poll a client for what it does next."""
        events = 0
        if self.behaviour.reads or not client.open:
            events |= select.EPOLLIN
        if client.queue or (client.open and self.block):
            events |= select.EPOLLOUT
        if events != client.events:
            client.events = events
            self.poller.modify(client.socket, events)

    def on_event(self, client: Client, events: int) -> None:
        try:
            if events & select.EPOLLIN and not self.receive(client):
                self.end(client)
                return
            if events & select.EPOLLOUT:
                self.send(client)
            elif events & (select.EPOLLHUP | select.EPOLLERR):
                self.end(client, lingers=False)
                return
        except BlockingIOError:
            pass
        except OSError:
            self.end(client, lingers=False)
            return
        self.watch(client)

    def receive(self, client: Client) -> bool:
        """Read and discard. Returns False at the end of the stream."""
        data = client.socket.recv(READ)
        if not client.open and data:
            client.head += data
            if HEAD_END in client.head:
                self.on_response(client)
        return bool(data)

    def on_response(self, client: Client) -> None:
        """Called when the response head has arrived."""
        if SWITCHED in client.head.partition(b"\r\n")[0]:
            client.open = True
            self.counts["accepted"] += 1
            client.queue, client.offset = memoryview(self.behaviour.first), 0
        elif len(client.head) < READ:
            self.counts["refused"] += 1
            client.head = bytes(READ)  # counted once

    def send(self, client: Client) -> None:
        """Send one piece of the queue, or of the block."""
        if not client.queue:
            if not client.open or not self.block:
                return
            client.queue, client.offset = self.block, 0
        end = client.offset + self.behaviour.piece
        sent = client.socket.send(client.queue[client.offset : end])
        self.counts["bytes"] += sent
        client.offset += sent
        if client.offset >= len(client.queue):
            client.queue, client.offset = memoryview(b""), 0

    def end(self, client: Client, *, lingers: bool = True) -> None:
        """Forget a client that the server has disconnected."""
        self.counts["disconnects"] += client.open
        del self.live[client.socket.fileno()]
        self.poller.unregister(client.socket)
        if lingers and self.behaviour.linger:
            until = monotonic() + self.behaviour.linger
            self.lingering.append((until, client.socket))
        else:
            client.socket.close()

    def end_lingering(self, now: float) -> None:
        while self.lingering and self.lingering[0][0] <= now:
            self.lingering.pop(0)[1].close()
