"""Some thousands of clients in one process, which does what it is told on stdin.

    python crowd.py FRAMING HOST PORT NETWORK

Law: an order is a line of JSON, and so is its answer: what was done, and everything
that went wrong since the answer before. A session is open when its application has
said its word (tiny.c). Pings are answered at any time, and whatever a session says
that it was not asked for is wrong. The end of stdin is the end.
Ignorance: who serves, and why these things are wanted.
"""

from __future__ import annotations

import json
import os
import select
import socket
import statistics
import sys
from collections import Counter, deque
from pathlib import Path
from time import perf_counter
from typing import Any

sys.path += [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from harness import raise_limits
from load import BINARIES, HEAD_END, LINES, PATIENCE, RAW, TEXTS, WORD, Codec

from peers import CLOSE, PING, PONG, frame

CODECS = {codec.framing: codec for codec in (LINES, TEXTS, BINARIES, RAW)}
HANDSHAKES = 64  # in flight
ECHOES = 256  # likewise
CLOSES = 256
TRIES = 10  # of the lone echo, on each session that is asked
NO_PORT = 24  # IP_BIND_ADDRESS_NO_PORT: the port is chosen with the peer in view
PER_SOURCE = 4000  # sessions: where more are, the kernel's search for a port is long
GOODBYE = frame(CLOSE, (1000).to_bytes(2, "big"))
ANSWER = frame(PONG, b"")
GOOD = b"\x88\x02" + (1000).to_bytes(2, "big")  # the same from the server


class Crowd:
    """See the module.

    Args:
        address: of the server.
        network: the first three numbers of all source addresses.
    """

    def __init__(self, codec: Codec, address: tuple[str, int], network: str) -> None:
        self.codec = codec
        self.word = codec.short(WORD)
        self.address = address
        self.network = network
        self.poller = select.epoll()
        self.poller.register(0, select.EPOLLIN)
        self.live: dict[int, socket.socket] = {}
        self.fresh: set[int] = set()  # of the live: no answer to the handshake yet
        self.leaving: set[int] = set()  # of the live: the close frame is sent
        self.rest: dict[int, bytes] = {}  # the begun frame or head of some
        self.awaited: dict[int, bytes] = {}  # what has to be said next
        self.wrong: Counter[str] = Counter()
        self.orders: deque[str] = deque()
        self.begun = b""
        self.said = self.right = self.closed = self.pings = 0

    # Orders

    def serve(self) -> None:
        """Carries orders out until there are no more."""
        while True:
            while not self.orders:
                self.turn(None)
            order = json.loads(self.orders.popleft())
            began = perf_counter()
            found = {}
            try:
                found = getattr(self, order["do"])(order["count"])
            except (TimeoutError, ConnectionError) as error:
                self.wrong[str(error)] += 1
            seconds = perf_counter() - began
            answer = {"seconds": seconds, "live": len(self.live), **found}
            answer["wrong"], self.wrong = self.wrong, Counter()
            print(json.dumps(answer), flush=True)

    def open(self, count: int) -> dict[str, Any]:
        """So many more sessions, a few at a time, until each has said its word."""
        left = count
        while left or self.awaited:
            while left and len(self.awaited) < HANDSHAKES:
                self.begin()
                left -= 1
            self.turn()
        return {}

    def begin(self) -> None:
        """One more session: the request waits in the server's queue with it."""
        connection = socket.socket()
        connection.setsockopt(socket.IPPROTO_IP, NO_PORT, 1)
        source = f"{self.network}.{1 + len(self.live) // PER_SOURCE}"
        connection.bind((source, 0))
        connection.connect(self.address)
        connection.setblocking(False)
        fd = connection.fileno()
        self.live[fd] = connection
        self.awaited[fd] = self.word
        if self.codec.request:
            connection.send(self.codec.request)
            self.fresh.add(fd)
        self.poller.register(fd, select.EPOLLIN)

    def echo(self, count: int) -> dict[str, Any]:
        """Each of the `count` oldest (0: all) gets its own line back."""
        self.right = 0
        for fd in list(self.live)[: count or None]:
            while len(self.awaited) >= ECHOES:
                self.turn()
            self.say(fd)
        while self.awaited:
            self.turn()
        return {"right": self.right}

    def say(self, fd: int) -> None:
        if fd not in self.live:
            return  # it is counted as lost
        self.said += 1
        line = b'"session %d of %d, %d"' % (fd, os.getpid(), self.said)
        self.awaited[fd] = self.codec.short(line)
        self.live[fd].send(self.codec.wrap(line))

    def probe(self, count: int) -> dict[str, Any]:
        """One echo at a time, on `count` sessions among all: seconds."""
        took = []
        every = list(self.live)
        for fd in every[:: max(1, len(every) // count)][:count] * TRIES:
            began = perf_counter()
            self.say(fd)
            while fd in self.awaited:
                self.turn()
            took.append(perf_counter() - began)
        return {"p50": statistics.median(took), "most": max(took)}

    def report(self, count: int) -> dict[str, Any]:
        """The pings that were answered so far."""
        return {"pings": self.pings}

    def close(self, count: int) -> dict[str, Any]:
        """The newest `count` (0: all) leave, with close frames both ways."""
        self.closed = 0
        for fd in list(self.live)[-count:]:
            while len(self.leaving) >= CLOSES:
                self.turn()
            if fd in self.live:
                self.leaving.add(fd)
                self.live[fd].send(GOODBYE)
        while self.leaving:
            self.turn()
        return {"closed": self.closed}

    def drop(self, count: int) -> dict[str, Any]:
        """All connections are closed, and nobody is told."""
        while self.live:
            self.live.popitem()[1].close()
        for forgotten in (self.fresh, self.rest, self.awaited):
            forgotten.clear()
        return {}

    # Events

    def turn(self, patience: float | None = PATIENCE) -> None:
        """Serves what is ready; something has to be, within `patience`."""
        events = self.poller.poll(patience)
        if not events:
            what = f"{len(self.fresh)} handshakes, {len(self.awaited)} echoes"
            raise TimeoutError(f"{what}, {len(self.leaving)} closes are missing")
        for fd, _ in events:
            if fd:
                self.receive(fd)
            else:
                self.take_orders()

    def take_orders(self) -> None:
        data = os.read(0, 4096)
        if not data:
            sys.exit()
        *lines, self.begun = (self.begun + data).split(b"\n")
        self.orders += [line.decode() for line in lines]

    def receive(self, fd: int) -> None:
        try:
            data = self.live[fd].recv(4096)
        except ConnectionError:
            data = b""
        if not data:
            self.lose(fd)
            return
        data = self.rest.pop(fd, b"") + data
        if fd in self.fresh:
            head, end, data = data.partition(HEAD_END)
            if not end:
                self.rest[fd] = head
                return
            self.fresh.discard(fd)
            status = head.partition(b"\r\n")[0]
            if b" 101 " not in status:
                self.wrong[status.decode("latin-1")] += 1
        while size := self.codec.whole(data):
            self.take(fd, data[:size])
            data = data[size:]
        if data:
            self.rest[fd] = data

    def take(self, fd: int, whole: bytes) -> None:
        """One frame of a server's, or one line."""
        if whole == self.awaited.get(fd):
            del self.awaited[fd]
            self.right += 1
        elif whole[0] == 0x80 | PING:
            self.pings += 1
            size = len(whole) - 2
            self.live[fd].send(frame(PONG, whole[2:]) if size else ANSWER)
        elif whole == GOOD and fd in self.leaving:
            self.closed += 1
        else:
            self.wrong[f"not asked for: {whole[:40]!r}"] += 1

    def lose(self, fd: int) -> None:
        """The server has ended this connection."""
        self.live.pop(fd).close()
        if fd in self.leaving:
            self.leaving.discard(fd)
        else:
            self.wrong["lost"] += 1
        self.fresh.discard(fd)
        self.awaited.pop(fd, None)
        self.rest.pop(fd, None)


if __name__ == "__main__":
    raise_limits()
    framing, host, port, network = sys.argv[1:]
    Crowd(CODECS[framing], (host, int(port)), network).serve()
