"""Thousands of clients in one process, which takes orders on stdin.

    python client_process.py FRAMING HOST PORT NETWORK

An order is a line of JSON, and so is its answer: the result, and all errors since the
previous answer. A session is open when its application has written its word (tiny.c).
Pings are answered at any time. Any message of a session without a request is an error.
The process ends at the end of stdin.

Knows nothing of the server and of the purpose of the orders.
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

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]

from harness import raise_limits
from load_client import BINARIES, HEAD_END, LINES, RAW, TEXTS, TIMEOUT, WORD, Codec
from websocket_peer import CLOSE, PING, PONG, frame

CODECS = {codec.framing: codec for codec in (LINES, TEXTS, BINARIES, RAW)}
HANDSHAKES = 64  # in flight
ECHOES = 256  # in flight
CLOSES = 256
TRIES = 10  # echoes on each session of a probe
NO_PORT = 24  # IP_BIND_ADDRESS_NO_PORT: connect() chooses the port, for this peer
PER_SOURCE = 4000  # sessions: above it the kernel searches long for a port
CLOSE_FRAME = frame(CLOSE, (1000).to_bytes(2, "big"))
ANSWER = frame(PONG, b"")
CLOSE_REPLY = b"\x88\x02" + (1000).to_bytes(2, "big")  # the close frame of the server


class ClientProcess:
    """The sessions of this process.

    Args:
        address: The address of the server.
        network: The first three numbers of all source addresses.
    """

    def __init__(self, codec: Codec, address: tuple[str, int], network: str) -> None:
        self.codec = codec
        self.word = codec.short(WORD)
        self.address = address
        self.network = network
        self.poller = select.epoll()
        self.poller.register(0, select.EPOLLIN)
        self.live: dict[int, socket.socket] = {}
        self.fresh: set[int] = set()  # live sessions without a handshake response
        self.leaving: set[int] = set()  # live sessions with a sent close frame
        self.rest: dict[int, bytes] = {}  # the incomplete frame or head of a session
        self.awaited: dict[int, bytes] = {}  # the next expected message of a session
        self.wrong: Counter[str] = Counter()
        self.orders: deque[str] = deque()
        self.partial_order = b""
        self.sent = self.right = self.closed = self.pings = 0

    # Orders

    def serve(self) -> None:
        """Carry out orders until stdin ends."""
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
        """Open sessions, a few at a time, until each has sent its word."""
        left = count
        while left or self.awaited:
            while left and len(self.awaited) < HANDSHAKES:
                self.begin()
                left -= 1
            self.turn()
        return {}

    def begin(self) -> None:
        """Open one session. The request waits with it in the server's accept queue."""
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
        """Echo a line on each of the `count` oldest sessions (0: all)."""
        self.right = 0
        for fd in list(self.live)[: count or None]:
            while len(self.awaited) >= ECHOES:
                self.turn()
            self.send_line(fd)
        while self.awaited:
            self.turn()
        return {"right": self.right}

    def send_line(self, fd: int) -> None:
        if fd not in self.live:
            return  # the session is counted as lost
        self.sent += 1
        line = b'"session %d of %d, %d"' % (fd, os.getpid(), self.sent)
        self.awaited[fd] = self.codec.short(line)
        self.live[fd].send(self.codec.wrap(line))

    def probe(self, count: int) -> dict[str, Any]:
        """Measure single echoes on `count` sessions among all, in seconds."""
        took = []
        live = list(self.live)
        for fd in live[:: max(1, len(live) // count)][:count] * TRIES:
            began = perf_counter()
            self.send_line(fd)
            while fd in self.awaited:
                self.turn()
            took.append(perf_counter() - began)
        return {"p50": statistics.median(took), "most": max(took)}

    def report(self, count: int) -> dict[str, Any]:
        """Return the number of pings answered so far."""
        return {"pings": self.pings}

    def close(self, count: int) -> dict[str, Any]:
        """Close the newest `count` sessions (0: all) with close frames both ways."""
        self.closed = 0
        for fd in list(self.live)[-count:]:
            while len(self.leaving) >= CLOSES:
                self.turn()
            if fd in self.live:
                self.leaving.add(fd)
                self.live[fd].send(CLOSE_FRAME)
        while self.leaving:
            self.turn()
        return {"closed": self.closed}

    def drop(self, count: int) -> dict[str, Any]:
        """Close all connections without close frames."""
        while self.live:
            self.live.popitem()[1].close()
        for table in (self.fresh, self.rest, self.awaited):
            table.clear()
        return {}

    # Events

    def turn(self, timeout: float | None = TIMEOUT) -> None:
        """Serve ready sessions and orders.

        Raises:
            TimeoutError: None is ready within the time.
        """
        events = self.poller.poll(timeout)
        if not events:
            pending = f"{len(self.fresh)} handshakes, {len(self.awaited)} echoes"
            raise TimeoutError(f"{pending}, {len(self.leaving)} closes are missing")
        for fd, _ in events:
            if fd:
                self.receive(fd)
            else:
                self.take_orders()

    def take_orders(self) -> None:
        data = os.read(0, 4096)
        if not data:
            sys.exit()
        *lines, self.partial_order = (self.partial_order + data).split(b"\n")
        self.orders += [line.decode() for line in lines]

    def receive(self, fd: int) -> None:
        try:
            data = self.live[fd].recv(4096)
        except ConnectionError:
            data = b""
        if not data:
            self.forget(fd)
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
            self.handle_message(fd, data[:size])
            data = data[size:]
        if data:
            self.rest[fd] = data

    def handle_message(self, fd: int, whole: bytes) -> None:
        """Handle one frame of the server, or one line."""
        if whole == self.awaited.get(fd):
            del self.awaited[fd]
            self.right += 1
        elif whole[0] == 0x80 | PING:
            self.pings += 1
            size = len(whole) - 2
            self.live[fd].send(frame(PONG, whole[2:]) if size else ANSWER)
        elif whole == CLOSE_REPLY and fd in self.leaving:
            self.closed += 1
        else:
            self.wrong[f"not asked for: {whole[:40]!r}"] += 1

    def forget(self, fd: int) -> None:
        """Forget a connection that the server has ended."""
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
    ClientProcess(CODECS[framing], (host, int(port)), network).serve()
