"""The window of the client library: output of a terminal is permitted as it is read.

The server is a fake that sends what the window permits, and records each window.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest

from chimirror.client import Unread
from chimirror.client.buffers import HIGH_WATER
from chimirror.client.window import AHEAD
from client_apis import APIS, Connect
from fake_server import Remote, exited, fake, output

PIECE = b"0123456789abcde\n" * 1024
STEP = AHEAD // 2


@pytest.fixture(params=sorted(APIS))
def connect(request: pytest.FixtureRequest) -> Connect:
    return APIS[request.param]


def begin(ws: Remote) -> None:
    hello = {"type": "session", "id": "x", "pty": True, "window": True}
    ws.send(json.dumps(hello))


def windows(ws: Remote) -> Iterator[int]:
    """Yield the windows of the client."""
    for message in ws:
        assert message["type"] == "window"
        yield int(message["bytes"])


class Flood:
    """Sends some output as the windows permit. Records the windows."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.seen: list[int] = []

    def __call__(self, ws: Remote) -> None:
        begin(ws)
        sent, permitted = 0, windows(ws)
        while sent < self.size:
            self.seen.append(next(permitted))
            while sent < min(self.seen[-1], self.size):
                ws.send(output(PIECE))
                sent += len(PIECE)
        ws.send(exited())
        ws.close(1000, "exit 0")


@pytest.mark.parametrize("reader", ["pieces", "lines", "handler", "discard", "run"])
def test_each_reader_permits_more(connect: Connect, reader: str) -> None:
    flood = Flood(1 << 20)
    with fake(flood) as server, connect(server.url) as session:
        size = flood.size
        if reader == "pieces":
            size = sum(len(data) for _, data in session)
        elif reader == "lines":
            size = sum(len(line) + 1 for line in session.stdout.lines())
        elif reader == "handler":
            found: list[bytes] = []
            session.on("stdout", found.append)
            session.run()
            size = sum(map(len, found))
        elif reader == "discard":
            session.stdout.discard()
        assert (size, session.run().code) == (flood.size, 0)
    assert flood.seen == [*range(AHEAD, flood.size + STEP, STEP)][: len(flood.seen)]
    assert flood.seen[-1] >= flood.size


def test_a_line_may_exceed_the_window(connect: Connect) -> None:
    def handler(ws: Remote) -> None:
        begin(ws)
        sent = 0
        for window in windows(ws):
            ws.send(output(bytes(window - sent)))
            sent = window
            if sent > 3 * AHEAD:
                break
        ws.send(output(b"\n"))
        ws.send(exited())
        ws.close(1000, "exit 0")

    with fake(handler) as server, connect(server.url) as session:
        (line,) = session.stdout.lines()
        assert len(line) > 3 * AHEAD


def test_unread_output_fills_the_buffer(connect: Connect) -> None:
    """A call that waits for something else then reports it."""
    flood = Flood(1 << 20)
    with fake(flood) as server, connect(server.url) as session:
        with pytest.raises(Unread):
            session.wait()
        assert flood.seen == [AHEAD, 2 * AHEAD]
        assert sum(len(data) for _, data in session) == flood.size


def test_a_wait_permits_what_fits_into_the_buffer(connect: Connect) -> None:
    """A window that is full does not tell whether the process has ended."""
    flood = Flood(HIGH_WATER - 2 * len(PIECE))
    with fake(flood) as server, connect(server.url) as session:
        assert session.wait().code == 0
        assert sum(len(data) for _, data in session) == flood.size


def test_a_wait_beside_a_reader_permits_nothing(connect: Connect) -> None:
    told = threading.Event()

    def handler(ws: Remote) -> None:
        begin(ws)
        permitted = windows(ws)
        assert next(permitted) == AHEAD
        for _ in range(AHEAD // len(PIECE)):
            ws.send(output(PIECE))
        ws.send(json.dumps({"type": "error", "payload": "eA=="}))
        told.wait()
        ws.send(json.dumps({"type": "error", "payload": "eA=="}))
        assert next(permitted) == AHEAD + STEP
        ws.send(exited())
        ws.close(1000, "exit 0")

    def on_error(text: str) -> None:
        if told.is_set():
            raise InterruptedError
        told.set()

    with fake(handler) as server, connect(server.url) as session:
        session.on("error", on_error)
        reader = iter(session)
        with pytest.raises(InterruptedError):
            session.wait()
        assert sum(len(data) for _, data in reader) == AHEAD
        assert session.wait().code == 0


def test_a_server_without_windows_gets_none(connect: Connect) -> None:
    def handler(ws: Remote) -> None:
        ws.send('{"type":"session","id":"x","pty":true}')
        for _ in range(64):
            ws.send(output(PIECE))
        assert ws.message() == {"type": "eof"}
        ws.send(exited())
        ws.close(1000, "exit 0")

    with fake(handler) as server, connect(server.url) as session:
        outputs = iter(session)
        for _ in range(64):
            next(outputs)
        session.end_input()
        assert session.wait().code == 0
