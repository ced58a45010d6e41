"""A WebSocket that steers a session: the way from it to the session's control socket.

Law: the session, its office, the courier and its client are in one loop on one stage;
where the socket is and when it comes is the test's to say. What a clerk answers is in
test_helm.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chimirror import courier, keys
from chimirror.connection import CLOSED
from chimirror.control import Office
from chimirror.courier import PATIENCE
from chimirror.helm import HANDS
from chimirror.service import Peer as Address
from chimirror.service import Service
from chimirror.session import Session
from chimirror.system.doorbell import Doorbell
from chimirror.system.outbox import HIGH
from chimirror.wire.control import LONGEST
from peers import (
    BINARY,
    CLOSE,
    NO_CLOSE,
    PING,
    PONG,
    Closed,
    Peer,
    frame,
    stdin,
    text,
    upgrade,
)
from stage import IDENTITY, Stage

WRONG = "no such session, or not its secret"


class Steerable(Service):
    """A service whose control socket is where the test puts it."""

    __slots__ = ()
    place = ""

    def is_steerable(self) -> bool:
        return bool(self.place)

    def control_path(self, identity: str, secret: str) -> str | None:
        return self.place if keys.number(secret) == 0 and identity else None


class Scene:
    """A session and the couriers to it."""

    def __init__(self, stage: Stage, path: Path) -> None:
        self.stage = stage
        self.path = path
        self.office: Office | None = None
        self.peers: list[Peer] = []
        stage.open("stdio")
        self.secret = stage.peer.message()["secret"]

    def ring(self) -> None:
        """The session's control socket is there."""
        doorbell = Doorbell(str(self.path), 0o600)
        self.office = Office(self.stage.service, doorbell)

    def connect(self, first: bytes = b"") -> Peer:
        """A client that wants to steer."""
        ours, theirs = socket.socketpair()
        fd = theirs.detach()
        os.set_blocking(fd, False)
        name = f"{len(self.peers):032}"
        one = Session(self.stage.service, Address("192.0.2.9", 1), fd, fd, name)
        one.connection.begin()
        peer = Peer(ours)
        self.peers.append(peer)
        peer.send_raw(upgrade("/", "control", ()) + first)
        self.stage.settle()
        reply = peer.head()
        assert reply.fields["sec-websocket-protocol"] == "chimirror.control.v1"
        return peer

    def ask(self, peer: Peer, method: str, **params: object) -> Any:
        peer.send_raw(request(method, **params))
        self.stage.settle()
        answer = peer.message()
        assert (answer["jsonrpc"], answer["id"]) == ("2.0", 1)
        return answer.get("result", answer.get("error"))

    def steering(self) -> Peer:
        peer = self.connect()
        proof = {"session": IDENTITY, "secret": self.secret}
        assert self.ask(peer, "authorize", **proof) == {}
        return peer


def request(method: str, **params: object) -> bytes:
    return text({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})


def said(peer: Peer) -> bytes:
    """A message that need not be an object."""
    got = peer.receive()
    assert isinstance(got, bytes)
    return got


@contextmanager
def staged(path: Path, *options: str) -> Iterator[Scene]:
    Steerable.place = str(path / "control")
    with Stage("--ping-interval=off", *options, kind=Steerable) as stage:
        scene = Scene(stage, path / "control")
        yield scene
        for peer in scene.peers:
            peer.close()
        stage.settle()
        if scene.office is not None:
            scene.office.close()
        assert not stage.service.couriers
        assert not stage.service.connecting


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with staged(tmp_path) as found:
        found.ring()
        yield found


# The way there


def test_a_client_steers_its_session(scene: Scene) -> None:
    peer = scene.steering()
    service = scene.stage.service
    assert (len(service.sessions), len(service.couriers)) == (1, 1)
    assert service.connecting == 0
    assert scene.ask(peer, "pause", streams=["stdout"]) == {"paused": ["stdout"]}
    scene.stage.print(b"later")
    assert scene.ask(peer, "status")["paused"] == ["stdout"]
    assert scene.ask(peer, "resume") == {"paused": []}
    scene.stage.settle()
    assert scene.stage.peer.output(5) == b"later"
    assert scene.stage.application.started == 1, "none for the courier"
    scene.stage.wait(1)
    assert [kind for kind, _ in scene.stage.records.told] == ["start"]


def test_all_may_come_at_once(scene: Scene) -> None:
    proof = {"session": IDENTITY, "secret": scene.secret}
    first = request("authorize", **proof) + request("pause") + request("status")
    peer = scene.connect(first)
    answers = [peer.message()["result"] for _ in range(3)]
    assert answers[1] == {"paused": ["stdin", "stdout", "stderr"]}
    assert answers[2]["paused"] == ["stdin", "stdout", "stderr"]


def test_notifications_come_by_themselves(scene: Scene) -> None:
    peer = scene.steering()
    scene.ask(peer, "subscribe", interval=1)
    scene.stage.say(text(stdin(b"a")))
    scene.stage.wait(1.1)
    assert peer.message()["params"]["messages_in"] == 1


def test_a_message_of_many_lines_is_one(scene: Scene) -> None:
    peer = scene.steering()
    peer.send_raw(text(b'{"jsonrpc":"2.0",\r\n"id":7,\n"method":"status"}'))
    peer.send_raw(text(b'{"jsonrpc"\n"}\n{}'))
    scene.stage.settle()
    assert peer.message()["id"] == 7
    assert peer.message()["error"]["code"] == -32700
    assert scene.ask(peer, "status")["id"] == IDENTITY


# Who may not


@pytest.mark.parametrize(
    ("session", "secret"),
    [
        (IDENTITY, "0." + "0" * 32),
        (IDENTITY, "1." + "0" * 32),
        (IDENTITY, ""),
        (IDENTITY, "0"),
        (IDENTITY, None),
        (IDENTITY, ["right"]),
        ("f" * 32, "right"),
        ("../../etc/passwd", "right"),
        (None, "right"),
    ],
)
def test_a_wrong_proof(scene: Scene, session: object, secret: object) -> None:
    """Whatever it is, the answer is the same, and takes the same time."""
    proof = {"session": session, "secret": secret}
    if secret == "right":
        proof["secret"] = scene.secret
    peer = scene.connect()
    peer.send_raw(request("authorize", **proof) + request("status"))
    scene.stage.wait(PATIENCE - 0.1)
    assert scene.stage.service.connecting == 1
    scene.stage.wait(0.2)
    assert peer.message() == {
        "jsonrpc": "2.0",
        "id": 1,
        "error": {"code": -32001, "message": WRONG},
    }
    assert peer.receive() == Closed(1008, WRONG)
    (refused,) = scene.stage.records.of("refused")
    assert (refused["peer"], refused["cause"]) == ("192.0.2.9:1", "control")


@pytest.mark.parametrize("first", ["status", "close", "sessions", "kill"])
def test_it_begins_with_authorize(scene: Scene, first: str) -> None:
    peer = scene.connect(request(first, ids=[IDENTITY]))
    scene.stage.wait(PATIENCE + 0.1)
    assert peer.message()["error"]["code"] == -32001
    assert peer.receive() == Closed(1008, WRONG)
    assert IDENTITY in scene.stage.service.sessions


def test_our_name_is_no_proof(scene: Scene) -> None:
    """The clerk trusts whoever has our user: so do we not, for others."""
    for call in (
        {"method": "authorize", "params": {"session": IDENTITY}},
        {"method": "sessions", "params": {}},
    ):
        peer = scene.connect(text({"jsonrpc": "2.0", "id": 1, **call}))
        scene.stage.wait(PATIENCE + 0.1)
        assert peer.message()["error"]["code"] == -32001


@pytest.mark.parametrize("message", [b"oops", b"[]", b"7", b"[1,2]", b"{}"])
def test_what_is_no_request(scene: Scene, message: bytes) -> None:
    peer = scene.connect(text(message))
    answer = json.loads(said(peer))
    answers = answer if isinstance(answer, list) else [answer]
    codes = [one["error"]["code"] for one in answers]
    assert set(codes) <= {-32700, -32600}
    assert peer.receive() == Closed(1008, "not authorized")


def test_a_batch_is_one_guess(scene: Scene) -> None:
    proofs = [
        {"session": IDENTITY, "secret": "0.1"},
        {"session": IDENTITY, "secret": scene.secret},
    ]
    call = {"jsonrpc": "2.0", "id": 1, "method": "authorize"}
    peer = scene.connect(text([{**call, "params": proof} for proof in proofs]))
    scene.stage.wait(PATIENCE + 0.1)
    answers = json.loads(said(peer))
    assert [one["error"]["code"] for one in answers] == [-32600, -32001]


def test_it_has_the_time_of_a_handshake(tmp_path: Path) -> None:
    with staged(tmp_path, "--handshake-timeout=3") as scene:
        scene.ring()
        peer, steering = scene.connect(), scene.steering()
        scene.stage.wait(2.9)
        assert scene.stage.service.connecting == 1
        scene.stage.wait(0.2)
        assert peer.receive() == Closed(1008, "not authorized in time")
        scene.stage.wait(100)
        assert scene.ask(steering, "status")["id"] == IDENTITY


def test_those_who_steer_are_few(scene: Scene) -> None:
    for _ in range(HANDS):
        scene.steering()
    peer = scene.connect(request("authorize", session=IDENTITY, secret=scene.secret))
    scene.stage.wait(PATIENCE + 0.1)
    assert peer.message()["error"]["code"] == -32000
    assert peer.receive() == Closed(1008, "4 control connections are there already")


def test_where_no_session_can_be_steered(tmp_path: Path) -> None:
    Steerable.place = ""
    with Stage(kind=Steerable) as stage:
        stage.ask(upgrade("/", "control", ()))
        reply = stage.peer.refusal()
        assert (reply.status, reply.body) == (
            503,
            b"no session of this endpoint can be steered\n",
        )
    with Stage(kind=Steerable) as stage:
        stage.open("stdio")
        assert stage.peer.message() == {"type": "session", "id": IDENTITY}


# The socket


def test_a_socket_that_is_not_there_yet(tmp_path: Path) -> None:
    with staged(tmp_path) as scene:
        proof = {"session": IDENTITY, "secret": scene.secret}
        peer = scene.connect(request("authorize", **proof))
        scene.stage.wait(PATIENCE - 0.2)
        scene.ring()
        scene.stage.wait(0.2)
        assert peer.message()["result"] == {}


def test_a_socket_that_never_comes(tmp_path: Path) -> None:
    with staged(tmp_path) as scene:
        proof = {"session": IDENTITY, "secret": scene.secret}
        peer = scene.connect(request("authorize", **proof))
        scene.stage.wait(PATIENCE + 0.2)
        assert peer.message()["error"]["message"] == WRONG


def test_a_socket_that_nobody_may_use(tmp_path: Path) -> None:
    with staged(tmp_path) as scene:
        scene.path.mkdir()
        proof = {"session": IDENTITY, "secret": scene.secret}
        peer = scene.connect(request("authorize", **proof))
        scene.stage.wait(PATIENCE + 0.2)
        assert peer.message()["error"]["message"] == WRONG


def test_an_office_that_hangs_up(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chimirror.control.STRANGERS", 0)
    monkeypatch.setattr("chimirror.control.peer_uid", lambda _handle: -1)
    proof = {"session": IDENTITY, "secret": scene.secret}
    peer = scene.connect(request("authorize", **proof))
    scene.stage.wait(PATIENCE + 0.1)
    assert peer.message()["error"]["message"] == WRONG


# The end


def test_the_session_ends(scene: Scene) -> None:
    peer = scene.steering()
    scene.stage.exit()
    assert scene.stage.peer.story(wait=False).closed == Closed(1000, "exit 0")
    scene.stage.peer.close()
    scene.stage.settle()
    assert peer.receive() == Closed(1000, "control over")


def leaves(peer: Peer) -> None:
    peer.send_close(1000)


def vanishes(peer: Peer) -> None:
    peer.close()


def breaks_off(peer: Peer) -> None:
    peer.send_raw(request("pause")[:20])
    peer.close()


@pytest.mark.parametrize("leave", [leaves, vanishes, breaks_off])
@pytest.mark.parametrize("late", [False, True])
def test_the_client_goes(
    scene: Scene, leave: Callable[[Peer], None], late: bool
) -> None:
    peer = scene.steering() if late else scene.connect()
    leave(peer)
    scene.stage.settle()
    if leave is leaves:
        assert peer.receive() == Closed(1000, "")
        peer.close()
        scene.stage.settle()
    assert not scene.stage.service.couriers
    assert not scene.stage.service.helms
    assert scene.stage.session.application.paused == 0


def test_the_client_goes_while_it_is_judged(scene: Scene) -> None:
    peer = scene.connect(request("authorize", session=IDENTITY, secret="0.1"))
    peer.close()
    scene.stage.settle()
    assert not scene.stage.service.couriers
    scene.stage.wait(PATIENCE + 1)
    assert not scene.stage.records.of("refused")


def test_drain_and_abort(scene: Scene) -> None:
    for end in ("close", "abort"):
        peer = scene.steering()
        (one,) = scene.stage.service.everybody()[1:]
        if end == "close":
            one.close(1001, "drain")
        else:
            one.abort()
        assert peer.receive() == Closed(1001, "drain")
        peer.close()
        scene.stage.settle()


# Frames


@pytest.mark.parametrize(
    ("data", "closed"),
    [
        (frame(BINARY, b"x"), Closed(1003, "binary")),
        (b"\x81\x00", Closed(1002, "protocol")),
        (frame(1, b"\xff"), Closed(1007, "not UTF-8")),
        (text(b"x" * (LONGEST + 1)), Closed(1009, f"over {LONGEST} bytes")),
        (frame(CLOSE, b"\x03\xe8"), Closed(1000, "")),
    ],
)
def test_frames(scene: Scene, data: bytes, closed: Closed) -> None:
    peer = scene.steering()
    scene.stage.peer.socket.settimeout(30)
    push(scene, peer, data)
    assert peer.receive() == closed


def push(scene: Scene, peer: Peer, data: bytes) -> int:
    """Sends what is taken; how much that is."""
    peer.socket.setblocking(False)
    sent = 0
    try:
        while sent < len(data):
            sent += peer.socket.send(data[sent:])
            scene.stage.settle()
    except BlockingIOError:
        pass
    peer.socket.settimeout(30)
    return sent


def test_pings_are_answered(scene: Scene) -> None:
    peer = scene.steering()
    peer.send_raw(frame(PING, b"x"))
    scene.stage.settle()
    assert peer.read_frame() == (PONG, b"x")


# Floods


def test_who_asks_without_reading_is_read_no_further(scene: Scene) -> None:
    peer = scene.steering()
    flood = request("status") * 200_000
    sent = push(scene, peer, flood)
    assert sent < len(flood) // 2
    (one,) = scene.stage.service.couriers
    assert one.connection.backlog < 2 * HIGH
    scene.stage.say(text(stdin(b"a")))
    assert scene.stage.application.heard() == b"a"
    answers = 0
    while answers < sent // len(request("status")):
        scene.stage.settle()
        assert peer.message()["id"] == 1
        answers += 1


def test_an_answer_that_has_no_end(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "LONGEST", 1000)
    monkeypatch.setattr(
        "chimirror.helm.Helm.status", lambda _helm: {"x": "x" * 100_000}
    )
    peer = scene.steering()
    peer.send_raw(request("status"))
    scene.stage.settle()
    assert peer.receive() == Closed(1000, "control over")


def test_a_bug_of_ours(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise RuntimeError("bug")

    peer = scene.steering()
    monkeypatch.setattr(courier.Courier, "on_answer", fail)
    peer.send_raw(request("status"))
    scene.stage.settle()
    assert peer.receive() == Closed(NO_CLOSE, "")
    assert scene.stage.records.of("note")
    assert scene.stage.session.connection.state != CLOSED
