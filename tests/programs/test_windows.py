"""Ctrl-C under a flood of output: little output follows it, and nothing is lost.

Real terminals and programs. Bytes are counted, and no time is measured. The parts of
the server are in tests/unit/session/test_windows.py.
"""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from chimirror.client.blocking import Session
from client_apis import APIS, Connect
from connect_process import running_client
from fake_server import LONG
from processes import steady, until, written
from serve import Bridge, Service, server
from websocket_peer import Closed, Peer, payload_of, stdin

SHELL = ["env", "PS1=ready> ", "bash", "--norc", "-i"]
PROMPT = rb"ready> $"
INTERRUPT = "\x03"
FLOOD = 4 << 20  # bytes of output before Ctrl-C
MAX_FOLLOWING = 256 << 10  # bytes of output after it, up to the prompt


class Terminal:
    """A raw client that permits `ahead` bytes beyond the output that it has read.

    Without `ahead` it has no window.
    """

    def __init__(self, peer: Peer, ahead: int = 0) -> None:
        self.peer = peer
        self.ahead = ahead
        self.size = 0  # of the output that was read
        self.tail = b""
        assert peer.open(framing="stdio").status == 101
        assert peer.message()["window"] is True
        self.permit()

    def permit(self) -> None:
        if self.ahead:
            self.peer.send({"type": "window", "bytes": self.size + self.ahead})

    def read(self) -> bytes:
        """Read a piece of output."""
        piece = payload_of(self.peer.message())
        self.size += len(piece)
        self.tail = (self.tail + piece)[-1000:]
        self.permit()
        return piece

    def expect(self, pattern: bytes) -> None:
        """Read until the last output matches."""
        while not re.search(pattern, self.tail):
            self.read()

    def type(self, text: str) -> None:
        self.peer.send(stdin(text.encode()))

    def flood(self) -> None:
        """Start an endless flood in the shell, and read a part of it."""
        self.expect(PROMPT)
        self.type("yes\n")
        start = self.size
        while self.size < start + FLOOD:
            self.read()

    def interrupt(self) -> int:
        """Type Ctrl-C. Returns the bytes of output up to the prompt."""
        start = self.size
        self.tail = b""
        self.type(INTERRUPT)
        self.expect(PROMPT)
        return self.size - start


def test_a_client_with_a_window() -> None:
    with Bridge(SHELL, "--pty") as bridge, Peer(bridge.socket) as peer:
        terminal = Terminal(peer, 1 << 16)
        terminal.flood()
        assert terminal.interrupt() <= MAX_FOLLOWING
        terminal.type("exit 0\n")
        assert peer.transcript().closed == Closed(1000, "exit 0")


@pytest.mark.parametrize("tcp", [True, False], ids=["TCP", "Unix"])
def test_a_slow_client_without_a_window(*, tcp: bool) -> None:
    """The kernel of the client holds little, so that the rest is at the server."""
    with Bridge(SHELL, "--pty", tcp=tcp) as bridge, Peer(bridge.socket) as peer:
        if tcp:
            bridge.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 15)
        terminal = Terminal(peer)
        terminal.flood()
        until(steady(lambda: written(bridge.serving)), "it waits for its client")
        assert terminal.interrupt() <= MAX_FOLLOWING
        terminal.type("exit 0\n")
        assert peer.transcript().closed == Closed(1000, "exit 0")


@pytest.mark.parametrize(("ahead", "lines"), [(1, 1_000), (999, 100_000)])
def test_no_output_is_lost(ahead: int, lines: int) -> None:
    """The size of the terminal changes meanwhile."""
    expected = "".join(f"{number}\r\n" for number in range(1, lines + 1)).encode()
    with Bridge(["seq", str(lines)], "--pty") as bridge, Peer(bridge.socket) as peer:
        terminal, output = Terminal(peer, ahead), bytearray()
        while len(output) < len(expected) // 2:
            output += terminal.read()
            columns = 80 + len(output) % 50
            peer.send({"type": "resize", "columns": columns, "rows": 24})
        while len(output) < len(expected):
            output += terminal.read()
        assert output == expected
        assert peer.transcript().closed == Closed(1000, "exit 0")


def test_the_exit_sends_the_rest() -> None:
    """The last output exceeds the window, and the program does not wait for that."""
    with Bridge(["seq", "200"], "--pty") as bridge, Peer(bridge.socket) as peer:
        Terminal(peer)
        peer.send({"type": "window", "bytes": 0})
        told = peer.transcript()
        assert told.stdout.endswith(b"199\r\n200\r\n")
        assert told.closed == Closed(1000, "exit 0")


# The library and chimirror-connect

by_each_api = pytest.mark.parametrize("connect", APIS.values(), ids=APIS)


def read_to(pattern: bytes, read: Callable[[], bytes], least: int = 0) -> int:
    """Read until the last output matches. Returns its size, at least `least`."""
    size, tail = 0, b""
    while size < least or not re.search(pattern, tail):
        piece = read()
        size += len(piece)
        tail = (tail + piece)[-1000:]
    return size


def await_full_window(service: Service) -> None:
    """Wait until the programs write no more, because the test does not read."""
    until(
        steady(lambda: sum(map(written, service.applications()))),
        "they wait for the client",
    )


def pieces(session: Session[bytes | str]) -> Callable[[], bytes]:
    """Return a function that reads the next output."""
    outputs = iter(session)
    return lambda: next(outputs).data


@by_each_api
def test_the_library(connect: Connect, tmp_path: Path) -> None:
    with (
        server(tmp_path, SHELL, "--pty") as service,
        connect(f"ws://127.0.0.1:{service.port}/") as session,
    ):
        read = pieces(session)
        read_to(PROMPT, read)
        session.send("yes\n")
        read_to(b"y", read, FLOOD)
        await_full_window(service)
        session.send(INTERRUPT)
        assert read_to(PROMPT, read) <= MAX_FOLLOWING
        session.send("exit 0\n")
        assert session.run().code == 0


@by_each_api
def test_much_input_with_an_echo(connect: Connect, tmp_path: Path) -> None:
    """The windows are behind the input, and the output has to be read meanwhile."""
    size = 3_000_000
    command = f"stty raw -echo; echo ready; head -c {size}"
    with (
        server(tmp_path, ["sh", "-c", command], "--pty") as service,
        connect(f"ws://127.0.0.1:{service.port}/") as session,
    ):
        read = pieces(session)
        read_to(b"ready\n$", read)
        data = os.urandom(size)
        sending = threading.Thread(target=session.send, args=(data,))
        sending.start()
        found = bytearray()
        while len(found) < size:
            found += read()
        sending.join()
        assert found == data
        assert session.run().code == 0


def test_connect_on_a_terminal(tmp_path: Path) -> None:
    """The local terminal holds some KiB, and the client one piece of output."""
    with server(tmp_path, SHELL, "--pty") as service:
        master, slave = os.openpty()
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), slave)
        address = f"ws://127.0.0.1:{service.port}/"
        with running_client(address, **streams) as client:
            os.close(slave)

            def read() -> bytes:
                return os.read(master, 1 << 16)

            read_to(PROMPT, read)
            os.write(master, b"yes\n")
            read_to(b"y", read, FLOOD)
            await_full_window(service)
            os.write(master, INTERRUPT.encode())
            assert read_to(PROMPT, read) <= MAX_FOLLOWING
            os.write(master, b"exit 7\n")
            read_to(rb"exit\r\n", read)
            assert client.wait(LONG) == 7
        os.close(master)
