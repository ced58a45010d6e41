"""The clients whose service is measured during an attack: a neighbour and a starter.

The neighbour has one session in the attacked worker and sends one short line at fixed
times, without waiting for answers. So a stall counts once for each line that waited.
The starter opens sessions at fixed times and measures the time from the connection to
the 101 response. Both come from 127.0.0.1. Knows nothing of the attacks.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from time import monotonic
from typing import Any

from websocket_peer import CLOSE, TEXT, frame, upgrade

Address = tuple[str, int]

LINE = b"x" * 64
ECHO = 2 + len(LINE)  # bytes of the frame that comes back
ECHO_INTERVAL = 0.015  # seconds between two lines
START_INTERVAL = 0.2
MAX_WAITING = 4000  # lines without an answer; further ones are not sent
PATIENCE = 200.0  # seconds for a session of the starter
RECONNECT = 15.0  # seconds for a session of the neighbour
LAST_STARTS = 3.0  # seconds for the last sessions to start, after the end
MILLI = 1000.0


def percentile(values: list[float], which: float) -> float:
    """Return the value below which this part of the values lies."""
    return sorted(values)[min(len(values) - 1, int(len(values) * which))]


def summary(values: list[float]) -> dict[str, Any]:
    """Return count, p50, p99 and greatest value, in milliseconds."""
    if not values:
        return {"count": 0, "p50": None, "p99": None, "max": None}
    return {
        "count": len(values),
        "p50": percentile(values, 0.5) * MILLI,
        "p99": percentile(values, 0.99) * MILLI,
        "max": max(values) * MILLI,
    }


def open_session(address: Address, target: str, timeout: float) -> socket.socket:
    """Open a session with the framing lines.

    Raises:
        OSError: the server refuses, or does not answer in time.
    """
    connection = socket.create_connection(address, timeout)
    try:
        connection.settimeout(timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(upgrade(target, "lines", ()))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            data = connection.recv(1)
            if not data:
                raise ConnectionError(head)
            head += data
        if b" 101 " not in head.partition(b"\r\n")[0]:
            raise ConnectionError(head)
    except BaseException:
        connection.close()
        raise
    return connection


class Neighbour:
    """Echoes lines in one session and records how long each takes."""

    def __init__(self, address: Address, target: str, deadline: float) -> None:
        self.address = address
        self.deadline = deadline
        self.target = target
        self.line = frame(TEXT, LINE)
        self.took: list[float] = []
        self.sent: deque[float] = deque()
        self.rest = 0  # bytes of an incomplete echo
        self.lost = 0

    def run(self, stop: int) -> dict[str, Any]:
        """Measure until `stop` is readable. Returns the summary."""
        while monotonic() < self.deadline:
            try:
                with open_session(self.address, self.target, RECONNECT) as connection:
                    connection.setblocking(False)
                    if self.exchange(connection, stop):
                        break
            except OSError:
                pass
            self.lost += 1
            self.give_up()
            self.rest = 0
            if select.select([stop], [], [], START_INTERVAL)[0]:
                break
        return {**summary(self.took), "lost": self.lost}

    def exchange(self, connection: socket.socket, stop: int) -> bool:
        """Send and receive. Returns False if the session has been lost.

        The session may begin after `stop`. It lasts until one line has been answered.
        """
        due = monotonic()
        fds = [connection.fileno(), stop]
        while (now := monotonic()) < self.deadline:
            wait = max(0.0, due - now)
            ready = select.select(fds, [], [], wait)[0]
            if fds[0] in ready and not self.receive(connection):
                return False
            if stop in ready:
                fds = fds[:1]
            if stop not in fds and self.took:
                break
            if monotonic() >= due:
                self.send(connection, due)
                due += ECHO_INTERVAL
        self.give_up()
        return True

    def give_up(self) -> None:
        """Count the lines that have not been answered, with their time so far."""
        now = monotonic()
        self.took += [now - sent for sent in self.sent]
        self.sent.clear()

    def send(self, connection: socket.socket, due: float) -> None:
        if len(self.sent) < MAX_WAITING:
            try:
                sent = connection.send(self.line)
            except BlockingIOError:
                return
            assert sent == len(self.line), "the send buffer holds all lines"
            self.sent.append(due)

    def receive(self, connection: socket.socket) -> bool:
        try:
            data = connection.recv(1 << 16)
        except ConnectionError:
            return False
        now = monotonic()
        whole, self.rest = divmod(self.rest + len(data), ECHO)
        for _ in range(whole):
            self.took.append(now - self.sent.popleft())
        return bool(data)


class Start:
    """One session that is being opened."""

    __slots__ = ("began", "head", "request", "socket")

    def __init__(self, address: Address, request: bytes) -> None:
        self.began = monotonic()
        self.head = b""
        self.request = request
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.connect_ex(address)


class Starter:
    """Opens sessions at fixed times and records how long each takes to start."""

    def __init__(self, address: Address, target: str, deadline: float) -> None:
        self.address = address
        self.deadline = deadline
        self.request = upgrade(target, "lines", ())
        self.took: list[float] = []
        self.failed: dict[str, int] = {}
        self.live: dict[int, Start] = {}
        self.poller = select.poll()

    def run(self, stop: int) -> dict[str, Any]:
        """Measure until `stop` is readable, and a little longer for the last ones."""
        self.poller.register(stop, select.POLLIN)
        due = monotonic()
        while (now := monotonic()) < self.deadline:
            if now >= due:
                self.begin()
                due += START_INTERVAL
            if stop in self.turn(max(0.0, due - now)):
                break
        self.poller.unregister(stop)
        end = monotonic() + LAST_STARTS
        while self.live and monotonic() < end:
            self.turn(0.1)
        for start in list(self.live.values()):
            self.end(start, "no answer")
        return {**summary(self.took), "failed": self.failed}

    def begin(self) -> None:
        start = Start(self.address, self.request)
        self.live[start.socket.fileno()] = start
        self.poller.register(start.socket, select.POLLOUT)

    def turn(self, wait: float) -> list[int]:
        """Handle what is ready within `wait` seconds. Returns the ready descriptors."""
        ready = self.poller.poll(wait * MILLI)
        for fd, _ in ready:
            if fd in self.live:
                self.advance(self.live[fd])
        now = monotonic()
        for start in list(self.live.values()):
            if now - start.began > PATIENCE:
                self.end(start, "no answer")
        return [fd for fd, _ in ready]

    def advance(self, start: Start) -> None:
        """Send the request, or read the response."""
        try:
            if start.request:
                start.socket.send(start.request)
                start.request = b""
                self.poller.modify(start.socket, select.POLLIN)
                return
            data = start.socket.recv(4096)
        except OSError as error:
            self.end(start, type(error).__name__)
            return
        start.head += data
        line = start.head.partition(b"\r\n")
        if line[1]:
            status = line[0].split()[1].decode()
            self.end(start, "" if status == "101" else status)
        elif not data:
            self.end(start, "closed")

    def end(self, start: Start, failure: str) -> None:
        """Record one session and close it."""
        self.poller.unregister(start.socket)
        del self.live[start.socket.fileno()]
        if failure:
            self.failed[failure] = self.failed.get(failure, 0) + 1
        if not failure or failure == "no answer":
            self.took.append(monotonic() - start.began)
        try:
            start.socket.send(frame(CLOSE, b"\x03\xe8"))
        except OSError:
            pass  # it has not come that far
        start.socket.close()
