"""Tests control of sessions while data flows, with real servers, bridges and processes.

Requests on the control connection do not change a byte of the data connection, and
leave neither processes nor descriptors. The methods are tested in tests/unit/control.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from chimirror.protocol.jsonrpc import BUSY, MAX_LINE
from control_clients import ControlWebSocket, authorized, request
from processes import Memory, until
from serve import Service, ServiceFactory, activated, server, socat
from websocket_peer import Closed, Peer, Sender, payload_of, stdin, text

FLAT = 4 << 20  # bytes by which memory may grow
BULK = 8 << 20  # bytes
known: list[str] = []  # sessions of the current test


@contextmanager
def workers(directory: Path, command: list[str], *options: str) -> Iterator[Service]:
    with server(directory, command, "--workers=3", *options) as service:
        service.await_workers(3)
        yield service


SERVICES = pytest.mark.parametrize("way", [workers, activated, socat])


@pytest.fixture(autouse=True)
def nothing_left(sessions_directory: Path) -> Iterator[None]:
    known.clear()
    yield
    assert not [one for name in known for one in sessions_directory.glob(f"{name}*")]


def opened(service: Service) -> tuple[Peer, dict[str, Any]]:
    """Open a session. Returns the client and the first message."""
    peer = Peer(service.connect())
    assert peer.open(framing="stdio").status == 101
    hello = peer.message()
    known.append(hello["id"])
    return peer, hello


def leave(*peers: Peer) -> None:
    for peer in peers:
        peer.close()


class Reader:
    """Reads standard output, and counts its bytes on the wire."""

    def __init__(self, peer: Peer, wire: int = 0) -> None:
        self.peer = peer
        self.wire = wire
        self.size = 0
        self.digest = blake2b()

    def read(self) -> None:
        message = self.peer.receive()
        assert isinstance(message, bytes), message
        size = len(message)
        self.wire += size + (2 if size < 126 else 4 if size < 1 << 16 else 10)
        data = payload_of(json.loads(message))
        self.digest.update(data)
        self.size += len(data)


# Control requests


@SERVICES
def test_a_flood_is_stopped_where_it_stands(
    tmp_path: Path, way: ServiceFactory
) -> None:
    with way(tmp_path, ["yes"]) as service:
        peer, hello = opened(service)
        reader = Reader(peer, 2 + len(json.dumps(hello, separators=(",", ":"))))
        with authorized(service.connect, hello) as steerer:
            memory = Memory(service.serving())
            for _ in range(10):
                goal = reader.size + (1 << 20)
                while reader.size < goal:
                    reader.read()
                assert steerer.ask("pause", streams=["stdout"])["paused"] == ["stdout"]
                sent = steerer.ask("status")["bytes_out"]
                while reader.wire < sent:
                    reader.read()
                for _ in range(10):
                    status = steerer.ask("status")
                    assert (status["bytes_out"], status["backlog_out"]) == (sent, 0)
                assert steerer.ask("resume") == {"paused": []}
            assert memory.growth() < FLAT
        lines = b"y\n" * (reader.size // 2 + 1)
        assert reader.digest.digest() == blake2b(lines[: reader.size]).digest()
        peer.close()


@SERVICES
def test_the_methods(tmp_path: Path, way: ServiceFactory) -> None:
    script = "trap 'echo HUP; exit 3' HUP; echo up; cat <&0 & wait"
    with way(tmp_path, ["bash", "-c", script]) as service:
        peer, hello = opened(service)
        assert peer.output(3) == b"up\n"
        with authorized(service.connect, hello) as steerer:
            assert steerer.ask("subscribe", interval=0.1)["messages_in"] == 0
            assert steerer.ask("pause", streams=["stdin"])["paused"] == ["stdin"]
            peer.send(stdin(b"a\n"))
            told = steerer.peer.message()
            while told["params"]["backlog_in"] != 2:
                told = steerer.peer.message()
            assert told["params"]["paused"] == ["stdin"]
            steerer.ask("unsubscribe")
            steerer.ask("resume")
            assert peer.output(2) == b"a\n"
            assert steerer.ask("dance") == -32601
            assert steerer.ask("signal", name="HUP") == {}
            assert steerer.closed() == Closed(1000, "control over")
        story = peer.transcript()
        assert (story.stdout, story.closed) == (b"HUP\n", Closed(1011, "exit 3"))
        peer.close()


@SERVICES
def test_closing(tmp_path: Path, way: ServiceFactory) -> None:
    with way(tmp_path, ["cat"]) as service:
        peer, hello = opened(service)
        with authorized(service.connect, hello) as steerer:
            steerer.ask("pause")
            assert steerer.ask("close") == {}
            assert peer.transcript().closed == Closed(1000, "closed")
            peer.close()
            assert steerer.closed() == Closed(1000, "control over")


# Data that flows meanwhile


class Meddler(threading.Thread):
    """A thread that repeats an action until its context ends."""

    def __init__(self, act: Callable[[int], None], most: int = 1 << 30) -> None:
        super().__init__()
        self.act = act
        self.most = most
        self.done = 0
        self.enough = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while self.done < self.most and not self.enough.is_set():
                self.act(self.done)
                self.done += 1
        except BaseException as error:  # noqa: BLE001 (told by the test)
            self.error = error

    def __enter__(self) -> Meddler:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.enough.set()
        self.join()
        assert error[0] or self.error is None, self.error


def through(peer: Peer, size: int, ready: Callable[[], bool] = lambda: True) -> None:
    """Send `size` bytes through `cat`, then more until `ready`. All come back."""
    draw, sent = random.Random(2), blake2b()
    reader, given = Reader(peer), 0
    pieces = [draw.randbytes(draw.randrange(1, 60_000)) for _ in range(64)]
    while given < size or not ready():
        burst = [draw.choice(pieces) for _ in range(8)]
        given += sum(map(len, burst))
        sent.update(b"".join(burst))
        with Sender(peer, [text(stdin(piece)) for piece in burst]):
            while reader.size < given:
                reader.read()
    assert reader.digest.digest() == sent.digest()


@pytest.mark.full
@SERVICES
def test_pausing_at_random_loses_nothing(
    tmp_path: Path, way: ServiceFactory, *, full: bool
) -> None:
    turns = 100 if full else 40
    with way(tmp_path, ["cat"]) as service:
        peer, hello = opened(service)
        with authorized(service.connect, hello) as steerer:
            draw = random.Random(3)

            def pause(_count: int) -> None:
                streams = draw.sample(["stdin", "stdout"], draw.randrange(1, 3))
                steerer.ask("pause", streams=streams)
                for _ in range(draw.randrange(3)):
                    steerer.ask("status")
                steerer.ask("resume")

            with Meddler(pause) as meddler:
                memory = Memory(service.serving())
                through(peer, 3 * BULK if full else BULK, lambda: meddler.done >= turns)
                assert memory.growth() < FLAT
        peer.close()


class Occupied(Exception):
    """The server may still count control connections that were closed before."""


class Hostile:
    """Hostile or broken control clients, used in turn."""

    def __init__(self, service: Service, hello: dict[str, Any]) -> None:
        self.service = service
        self.proof = {"session": hello["id"], "secret": hello["secret"]}
        self.acts = [
            self.it_guesses,
            self.it_goes_at_once,
            self.it_stops_within_a_message,
            self.it_stops_within_the_first_message,
            self.it_sends_a_megabyte,
            self.it_begins_with_a_megabyte,
            self.it_floods,
            self.it_talks_nonsense,
        ]

    def all(self) -> None:
        """Use each kind of client once."""
        for count in range(len(self.acts)):
            self.act(count)

    def act(self, count: int) -> None:
        """Use the client with this number. Guessing takes a second, and so is rarer."""
        act = self.acts[count % len(self.acts)]
        if act == self.it_guesses and count > len(self.acts) and count % 5:
            act = self.it_talks_nonsense
        while not self.done(act):
            pass

    def done(self, act: Callable[[ControlWebSocket], None]) -> bool:
        """Return True if the server had room for one more control connection."""
        try:
            with ControlWebSocket(self.service.connect()) as steerer:
                act(steerer)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the server closed the connection
        except Occupied:
            return False
        return True

    def authorize(self, steerer: ControlWebSocket) -> None:
        told = steerer.ask("authorize", **self.proof)
        if told == BUSY:
            raise Occupied
        assert told == {}

    def it_asks(self, steerer: ControlWebSocket) -> None:
        """Behave well, unlike all others."""
        self.authorize(steerer)
        assert steerer.ask("status")["paused"] == []

    def it_guesses(self, steerer: ControlWebSocket) -> None:
        proof = {**self.proof, "secret": self.proof["secret"][:-1] + "x"}
        assert steerer.ask("authorize", **proof) == -32001
        assert steerer.closed().code == 1008

    def it_goes_at_once(self, steerer: ControlWebSocket) -> None:
        steerer.peer.reset()

    def it_stops_within_a_message(self, steerer: ControlWebSocket) -> None:
        self.authorize(steerer)
        steerer.peer.send_raw(text(request("pause"))[:25])

    def it_stops_within_the_first_message(self, steerer: ControlWebSocket) -> None:
        steerer.peer.send_raw(text(request("authorize", **self.proof))[:25])

    def it_sends_a_megabyte(self, steerer: ControlWebSocket) -> None:
        self.authorize(steerer)
        steerer.peer.send_raw(text(b"x" * 1_000_000))
        assert steerer.closed() == Closed(1009, f"over {MAX_LINE} bytes")

    def it_begins_with_a_megabyte(self, steerer: ControlWebSocket) -> None:
        steerer.peer.send_raw(text(b"x" * 1_000_000))
        assert steerer.closed() == Closed(1009, "over 4096 bytes before authorize")

    def it_floods(self, steerer: ControlWebSocket) -> None:
        """Send requests without reading a response."""
        self.authorize(steerer)
        flood = text(request("status")) * 1000
        steerer.peer.socket.settimeout(0.05)
        with suppress(TimeoutError):
            while True:
                steerer.peer.send_raw(flood)

    def it_talks_nonsense(self, steerer: ControlWebSocket) -> None:
        self.authorize(steerer)
        for said in (b"\x00", b"{", b"[]", b"null", b'"\n"', b'{"jsonrpc":"2.0"}'):
            steerer.peer.send_raw(text(said))
            assert steerer.peer.message()["error"]["code"] in (-32700, -32600)


@pytest.mark.full
@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", [workers, activated])
def test_hostile_control_clients_do_no_harm(
    tmp_path: Path, way: ServiceFactory, *, full: bool
) -> None:
    """Each kind of client in turn, and a hundred of them at full size."""
    count = 100 if full else 8
    with way(tmp_path, ["cat"]) as service:
        peer, hello = opened(service)
        peer.send(stdin(b"x"))
        peer.output(1)
        alone = service.own()
        with authorized(service.connect, hello) as steerer:
            steerer.ask("status")
        until(lambda: service.own() == alone, "the first gateway has gone")
        before = service.resource_count()
        hostile = Hostile(service, hello)
        hostile.all()
        through(peer, 4 << 20)
        memory = Memory(alone)
        with Meddler(hostile.act, count) as meddler:
            through(peer, 3 * BULK if full else BULK, lambda: not meddler.is_alive())
        assert memory.growth() < 4 * FLAT
        until(lambda: service.resource_count() <= before, "all that they had is closed")
        until(lambda: hostile.done(hostile.it_asks), "there is room for one more")
        peer.close()
