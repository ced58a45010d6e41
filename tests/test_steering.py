"""Sessions that are steered while data flows: real servers, bridges and processes.

Law: whatever happens on the control part, what passes on the data part is the same to
the byte, and nothing is left behind. What is asked and answered is in test_helm.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from chimirror.wire.control import LONGEST
from launch import Service, Way, activated, server, socat
from peers import Closed, Peer, Sender, payload_of, stdin, text
from settling import Memory, until
from steering import Steerer, request, steer

FLAT = 4 << 20  # bytes that memory may grow by
BULK = 24 << 20  # bytes
known: list[str] = []  # sessions of the present test


def workers(
    directory: Path, command: list[str], *options: str
) -> Any:  # a context manager of Service
    return server(directory, command, "--workers=3", *options)


WAYS = pytest.mark.parametrize("way", [workers, activated, socat])


@pytest.fixture(autouse=True)
def nothing_left(runtime_place: Path) -> Iterator[None]:
    known.clear()
    yield
    assert not [one for name in known for one in runtime_place.glob(f"{name}*")]


def opened(service: Service) -> tuple[Peer, dict[str, Any]]:
    """A session, and its first message."""
    peer = Peer(service.connect())
    assert peer.open(framing="stdio").status == 101
    hello = peer.message()
    known.append(hello["id"])
    return peer, hello


def leave(*peers: Peer) -> None:
    for peer in peers:
        peer.close()


class Reader:
    """Reads standard output, and counts what was on the wire for it."""

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


# Steering


@WAYS
def test_a_flood_is_stopped_where_it_stands(tmp_path: Path, way: Way) -> None:
    with way(tmp_path, ["yes"]) as service:
        peer, hello = opened(service)
        reader = Reader(peer, 2 + len(json.dumps(hello, separators=(",", ":"))))
        with steer(service.connect, hello) as steerer:
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


@WAYS
def test_the_methods(tmp_path: Path, way: Way) -> None:
    script = "trap 'echo HUP; exit 3' HUP; echo up; while read -r x; do echo $x; done"
    with way(tmp_path, ["sh", "-c", script]) as service:
        peer, hello = opened(service)
        assert peer.output(3) == b"up\n"
        with steer(service.connect, hello) as steerer:
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
        story = peer.story()
        assert (story.stdout, story.closed) == (b"HUP\n", Closed(1011, "exit 3"))
        peer.close()


@WAYS
def test_closing(tmp_path: Path, way: Way) -> None:
    with way(tmp_path, ["cat"]) as service:
        peer, hello = opened(service)
        with steer(service.connect, hello) as steerer:
            steerer.ask("pause")
            assert steerer.ask("close") == {}
            assert peer.story().closed == Closed(1000, "closed")
            peer.close()
            assert steerer.closed() == Closed(1000, "control over")


# What passes meanwhile


class Meddler(threading.Thread):
    """Does something over and over, until it is told to stop."""

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
    """Sends so much through `cat`, and more until `ready`; it comes back the same."""
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


@WAYS
def test_pausing_at_random_loses_nothing(tmp_path: Path, way: Way) -> None:
    with way(tmp_path, ["cat"]) as service:
        peer, hello = opened(service)
        with steer(service.connect, hello) as steerer:
            draw = random.Random(3)

            def pause(_count: int) -> None:
                streams = draw.sample(["stdin", "stdout"], draw.randrange(1, 3))
                steerer.ask("pause", streams=streams)
                for _ in range(draw.randrange(3)):
                    steerer.ask("status")
                steerer.ask("resume")

            with Meddler(pause) as meddler:
                memory = Memory(service.serving())
                through(peer, BULK, lambda: meddler.done >= 100)
                assert memory.growth() < FLAT
        peer.close()


class Hostile:
    """Clients of the control part that mean harm, or are broken, in turn."""

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
        """One of each."""
        for count in range(len(self.acts)):
            self.act(count)

    def act(self, count: int) -> None:
        """One of them, by its number; guessing takes a second, and is rarer."""
        act = self.acts[count % len(self.acts)]
        if act == self.it_guesses and count > len(self.acts) and count % 5:
            act = self.it_talks_nonsense
        with Steerer(self.service.connect()) as steerer:
            try:
                act(steerer)
            except (BrokenPipeError, ConnectionResetError):
                pass  # it was left

    def it_guesses(self, steerer: Steerer) -> None:
        proof = {**self.proof, "secret": self.proof["secret"][:-1] + "x"}
        assert steerer.ask("authorize", **proof) == -32001
        assert steerer.closed().code == 1008

    def it_goes_at_once(self, steerer: Steerer) -> None:
        steerer.peer.reset()

    def it_stops_within_a_message(self, steerer: Steerer) -> None:
        steerer.ask("authorize", **self.proof)
        steerer.peer.send_raw(text(request("pause"))[:25])

    def it_stops_within_the_first_message(self, steerer: Steerer) -> None:
        steerer.peer.send_raw(text(request("authorize", **self.proof))[:25])

    def it_sends_a_megabyte(self, steerer: Steerer) -> None:
        steerer.ask("authorize", **self.proof)
        steerer.peer.send_raw(text(b"x" * 1_000_000))
        assert steerer.closed() == Closed(1009, f"over {LONGEST} bytes")

    def it_begins_with_a_megabyte(self, steerer: Steerer) -> None:
        steerer.peer.send_raw(text(b"x" * 1_000_000))
        assert steerer.peer.message()["error"]["code"] == -32700
        assert steerer.closed().code == 1008

    def it_floods(self, steerer: Steerer) -> None:
        """And reads no answer."""
        steerer.ask("authorize", **self.proof)
        flood = text(request("status")) * 1000
        steerer.peer.socket.settimeout(0.05)
        with suppress(TimeoutError):
            while True:
                steerer.peer.send_raw(flood)

    def it_talks_nonsense(self, steerer: Steerer) -> None:
        steerer.ask("authorize", **self.proof)
        for said in (b"\x00", b"{", b"[]", b"null", b'"\n"', b'{"jsonrpc":"2.0"}'):
            steerer.peer.send_raw(text(said))
            assert steerer.peer.message()["error"]["code"] in (-32700, -32600)


@pytest.mark.parametrize(("way", "count"), [(workers, 100), (activated, 30)])
def test_nobody_who_means_harm_does_any(tmp_path: Path, way: Way, count: int) -> None:
    """So many in a row."""
    with way(tmp_path, ["cat"]) as service:
        peer, hello = opened(service)
        peer.send(stdin(b"x"))
        peer.output(1)
        alone = service.own()
        with steer(service.connect, hello) as steerer:
            steerer.ask("status")
        until(lambda: service.own() == alone, "the first courier has gone")
        before = service.held()
        hostile = Hostile(service, hello)
        hostile.all()
        through(peer, 4 << 20)
        memory = Memory(alone)
        with Meddler(hostile.act, count) as meddler:
            through(peer, BULK, lambda: not meddler.is_alive())
        assert memory.growth() < 4 * FLAT
        until(lambda: service.held() <= before, "all that they had is closed")
        with steer(service.connect, hello) as steerer:
            assert steerer.ask("status")["paused"] == []
        peer.close()
