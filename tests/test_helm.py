"""The helm of a session: who gets there, what it may do, and what it costs the session.

Law: sessions on a stage, clerks over socketpairs; time passes only while nothing is
ready. The way there over a WebSocket is in test_courier, real servers and bridges in
test_steering.
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

from chimirror import control, keys
from chimirror.control import STRANGERS, Office
from chimirror.exhibit import document
from chimirror.helm import HANDS
from chimirror.system.application import Application
from chimirror.system.doorbell import Doorbell
from chimirror.system.outbox import HIGH
from chimirror.wire.control import BATCH, LONGEST
from peers import Closed, stdin, text
from stage import IDENTITY, Stage

GUEST = 4000  # a user, who may ask if it knows a secret
STATUS = {
    "id": IDENTITY,
    "application": "",
    "framing": "stdio",
    "state": "open",
    "bytes_in": 0,
    "bytes_out": 60,
    "messages_in": 0,
    "messages_out": 1,
    "age": 0.0,
    "backlog_in": 0,
    "backlog_out": 0,
    "paused": [],
}


class Asker:
    """A client of the control socket."""

    def __init__(self, stage: Stage, connection: socket.socket) -> None:
        self.stage = stage
        self.connection = connection
        self.rest = b""
        connection.setblocking(False)

    def say(self, data: bytes) -> None:
        self.connection.send(data)
        self.stage.settle()

    def read(self) -> list[Any]:
        """All the lines that have come; None last, if that was the end."""
        self.stage.settle()
        lines: list[Any] = []
        try:
            while data := self.connection.recv(1 << 20):
                self.rest += data
                self.stage.settle()
            lines.append(None)
        except BlockingIOError:
            pass
        except ConnectionResetError:
            lines.append(None)
        *whole, self.rest = self.rest.split(b"\n")
        return [json.loads(line) for line in whole] + lines

    def ask(self, method: str, **params: object) -> Any:
        """The result, or the code of the error."""
        self.say(request(method, **params))
        answer = self.read()[0]
        assert (answer["jsonrpc"], answer["id"]) == ("2.0", 1)
        return answer["result"] if "result" in answer else answer["error"]["code"]


def request(method: str, **params: object) -> bytes:
    call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return json.dumps(call).encode() + b"\n"


class Bench:
    """A session, and the office where its control can be had."""

    def __init__(self, stage: Stage, path: Path) -> None:
        self.stage = stage
        self.path = path / "control"
        self.uid = os.geteuid()
        self.office = Office(stage.service, Doorbell(str(self.path), 0o600))
        self.secret = "0." + "ab" * 16
        stage.session._key = keys.seal(self.secret)
        self.askers: list[Asker] = []

    def connect(self, uid: int | None = None) -> Asker:
        self.uid = os.geteuid() if uid is None else uid
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self.path))
        self.askers.append(Asker(self.stage, connection))
        self.stage.settle()
        return self.askers[-1]

    def steering(self) -> Asker:
        """One that is authorized."""
        asker = self.connect(GUEST)
        proof = {"session": IDENTITY, "secret": self.secret}
        assert asker.ask("authorize", **proof) == {}
        return asker


@contextmanager
def benched(
    path: Path, monkeypatch: pytest.MonkeyPatch, *options: str
) -> Iterator[Bench]:
    with Stage("--ping-interval=off", *options) as stage:
        bench = Bench(stage, path)
        monkeypatch.setattr(control, "peer_uid", lambda _handle: bench.uid)
        try:
            stage.open("stdio")
            stage.peer.message()
            yield bench
        finally:
            bench.office.close()
            for asker in bench.askers:
                asker.connection.close()
            stage.settle()
    assert not stage.service.helms
    assert not bench.office.clerks


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    with benched(tmp_path, monkeypatch) as found:
        yield found


# Who


def test_our_own_user_needs_no_secret(bench: Bench) -> None:
    asker = bench.connect()
    assert asker.ask("authorize", session=IDENTITY) == {}
    assert asker.ask("pause") == {"paused": ["stdin", "stdout", "stderr"]}
    assert asker.ask("resume") == {"paused": []}


def test_others_need_it(bench: Bench) -> None:
    assert bench.steering().ask("pause", streams=[]) == {"paused": []}


@pytest.mark.parametrize(
    ("session", "secret"),
    [
        (IDENTITY, None),
        (IDENTITY, "0." + "0" * 32),
        (IDENTITY, ""),
        (IDENTITY, 7),
        ("f" * 32, "right"),
        (7, "right"),
        (None, None),
    ],
)
def test_every_wrong_proof_has_the_same_answer_and_is_the_last(
    bench: Bench, session: object, secret: object
) -> None:
    asker = bench.connect(GUEST)
    proof = {"session": session, "secret": secret}
    if secret == "right":
        proof["secret"] = bench.secret
    given = {name: value for name, value in proof.items() if value is not None}
    again = request("authorize", session=IDENTITY, secret=bench.secret)
    asker.say(request("authorize", **given) + again)
    assert asker.read() == [
        {
            "jsonrpc": "2.0",
            "id": 1,
            "error": {
                "code": -32001,
                "message": "no such session, or not its secret",
            },
        },
        None,
    ]


def test_a_wrong_secret_is_wrong_for_our_own_user_too(bench: Bench) -> None:
    """Who passes on what a client says must not prove it with its own name."""
    asker = bench.connect()
    assert asker.ask("authorize", session=IDENTITY, secret="0.1") == -32001


def test_a_batch_is_one_guess(bench: Bench) -> None:
    asker = bench.connect(GUEST)
    guesses = [
        json.loads(request("authorize", session=IDENTITY, secret=secret))
        for secret in ("0.1", bench.secret)
    ]
    asker.say(json.dumps(guesses).encode() + b"\n")
    answers, end = asker.read()
    assert [one["error"]["code"] for one in answers] == [-32001, -32001]
    assert end is None


def test_a_session_that_is_not_open_yet_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Stage() as stage:
        bench = Bench(stage, tmp_path)
        monkeypatch.setattr(control, "peer_uid", lambda _handle: bench.uid)
        asker = bench.connect()
        assert asker.ask("authorize", session=IDENTITY) == -32001
        asker.connection.close()
        bench.office.close()


def test_a_stranger_begins_with_authorize(bench: Bench) -> None:
    asker = bench.connect(GUEST)
    asker.say(request("sessions"))
    answer, end = asker.read()
    assert (answer["error"]["code"], end) == (-32001, None)


def test_a_stranger_has_the_time_of_a_handshake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with benched(tmp_path, monkeypatch, "--handshake-timeout=3") as bench:
        stranger, asker, own = bench.connect(GUEST), bench.steering(), bench.connect()
        bench.stage.wait(2.9)
        assert stranger.read() == []
        bench.stage.wait(0.2)
        assert stranger.read() == [None]
        bench.stage.wait(100)
        assert asker.read() == own.read() == []


def test_strangers_are_few(bench: Bench) -> None:
    strangers = [bench.connect(GUEST) for _ in range(STRANGERS + 1)]
    assert [one.read() for one in strangers] == [[]] * STRANGERS + [[None]]
    assert bench.connect().ask("status") == {"sessions": 1, "connecting": 0}


def test_those_who_steer_are_few(bench: Bench) -> None:
    hands = [bench.steering() for _ in range(HANDS)]
    fifth = bench.connect(GUEST)
    fifth.say(request("authorize", session=IDENTITY, secret=bench.secret))
    answer, end = fifth.read()
    assert (answer["error"]["code"], end) == (-32000, None)
    own = bench.connect()
    assert own.ask("authorize", session=IDENTITY) == {}, "it is counted by itself"
    hands[0].connection.close()
    bench.stage.settle()
    bench.steering()


def test_who_steers_one_session_asks_for_no_other(bench: Bench) -> None:
    asker = bench.connect()
    assert asker.ask("sessions")["more"] is False
    assert asker.ask("authorize", session=IDENTITY) == {}
    assert asker.ask("sessions") == -32601
    assert asker.ask("kill", ids=[IDENTITY]) == -32601
    assert asker.ask("authorize", session=IDENTITY) == -32601


# What


def test_status(bench: Bench) -> None:
    asker = bench.steering()
    assert asker.ask("status") == STATUS
    bench.stage.session.application.pause(1)
    bench.stage.say(text(stdin(b"abc")))
    bench.stage.wait(2)
    found = asker.ask("status")
    assert (found["backlog_in"], found["paused"]) == (3, ["stdin"])
    assert (found["messages_in"], found["age"]) == (1, 2)


def test_the_manifest_is_that_of_the_endpoint(bench: Bench) -> None:
    found = bench.steering().ask("manifest")
    assert found == document(bench.stage.session.app)
    assert found["asyncapi"] == "3.0.0"


def test_pausing_by_name(bench: Bench) -> None:
    asker = bench.steering()
    assert asker.ask("pause", streams=["stdout"]) == {"paused": ["stdout"]}
    twice = ["stdin", "stdin"]
    assert asker.ask("pause", streams=twice) == {"paused": ["stdin", "stdout"]}
    assert asker.ask("resume", streams=["stdout"]) == {"paused": ["stdin"]}
    asker.connection.close()
    bench.stage.settle()
    assert bench.steering().ask("status")["paused"] == ["stdin"], "it stays so"


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("pause", {"streams": "stdout"}),
        ("pause", {"streams": ["stdlog"]}),
        ("resume", {"streams": [1]}),
        ("signal", {}),
        ("signal", {"name": "SIGINT"}),
        ("signal", {"name": ["INT"]}),
        ("subscribe", {"interval": 0}),
        ("subscribe", {"interval": "1"}),
        ("subscribe", {"interval": True}),
        ("subscribe", {"interval": 1e9}),
    ],
)
def test_wrong_params(bench: Bench, method: str, params: dict[str, Any]) -> None:
    assert bench.steering().ask(method, **params) == -32602


def test_params_go_by_name(bench: Bench) -> None:
    asker = bench.steering()
    asker.say(b'{"jsonrpc":"2.0","id":1,"method":"pause","params":["stdout"]}\n')
    assert asker.read()[0]["error"]["code"] == -32602


def test_signal(bench: Bench) -> None:
    assert bench.steering().ask("signal", name="USR1") == {}
    assert bench.stage.application.signals == [10]


def test_close(bench: Bench) -> None:
    asker = bench.steering()
    assert asker.ask("close") == {}
    assert bench.stage.peer.story(wait=False).closed == Closed(1000, "closed")
    bench.stage.peer.close()
    bench.stage.exit()
    assert asker.read() == [None]


def test_what_only_an_application_could_know(bench: Bench) -> None:
    assert bench.steering().ask("reset") == -32601


def test_a_batch_and_a_notification(bench: Bench) -> None:
    asker = bench.steering()
    batch = [
        {"jsonrpc": "2.0", "method": "pause", "params": {"streams": ["stderr"]}},
        {"jsonrpc": "2.0", "id": "a", "method": "status"},
    ]
    asker.say(json.dumps(batch).encode() + b"\n")
    ((answer,),) = asker.read()
    assert (answer["id"], answer["result"]["paused"]) == ("a", ["stderr"])


# Subscriptions


def test_a_subscriber_is_told_of_changes_alone(bench: Bench) -> None:
    asker = bench.steering()
    assert asker.ask("subscribe", interval=2.0)["messages_in"] == 0
    bench.stage.wait(10)
    assert asker.read() == []
    bench.stage.say(text(stdin(b"a")))
    bench.stage.wait(2.1)
    (told,) = asker.read()
    assert (told["method"], told["params"]["messages_in"]) == ("status", 1)
    assert "id" not in told
    bench.stage.session.application.pause(2)
    bench.stage.wait(2.1)
    assert asker.read()[0]["params"]["paused"] == ["stdout"]
    assert asker.ask("unsubscribe") == {}
    bench.stage.say(text(stdin(b"a")))
    bench.stage.wait(10)
    assert asker.read() == []


def test_a_subscriber_that_does_not_read_is_left(bench: Bench) -> None:
    asker = bench.steering()
    asker.ask("subscribe", interval=0.1)
    asker.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    (clerk,) = bench.office.clerks
    backlogs = [0]
    while bench.office.clerks:
        bench.stage.say(text(stdin(b"a")))
        bench.stage.wait(0.11)
        backlogs.append(clerk.backlog)
    assert HIGH < max(backlogs) < HIGH + 4096


# Floods


def fill(asker: Asker, data: bytes) -> int:
    sent = 0
    try:
        while sent < 1 << 24:
            sent += asker.connection.send(data)
            asker.stage.settle()
    except BlockingIOError:
        pass
    return sent


def test_who_asks_without_reading_is_read_no_further(bench: Bench) -> None:
    asker = bench.steering()
    sent = fill(asker, request("status") * 1000)
    assert sent < 1 << 22
    (clerk,) = bench.office.clerks
    assert HIGH < clerk.backlog < HIGH + (1 << 16)
    answers = 0
    while answers * len(request("status")) < sent - len(request("status")):
        answers += len(asker.read())
    assert bench.stage.peer.socket.fileno() >= 0


def too_long(asker: Asker) -> None:
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        fill(asker, b"x" * 10_000)


def half(asker: Asker) -> None:
    asker.say(request("pause")[:30])
    asker.connection.close()


def silent(asker: Asker) -> None:
    asker.connection.shutdown(socket.SHUT_WR)


def nonsense(asker: Asker) -> None:
    asker.say(b"\xff\x00\n{}\n[]\n" * 1000)
    asker.connection.close()


@pytest.mark.parametrize("act", [too_long, half, silent, nonsense])
@pytest.mark.parametrize("begin", [Bench.steering, Bench.connect])
def test_nobody_who_misbehaves_touches_the_session(
    bench: Bench, act: Callable[[Asker], None], begin: Callable[[Bench], Asker]
) -> None:
    act(begin(bench))
    bench.stage.settle()
    assert not bench.office.clerks
    assert bench.stage.session.application.paused == 0
    bench.stage.say(text(stdin(b"a")))
    assert bench.stage.application.heard() == b"a"


def test_the_longest_line_and_the_longest_batch(bench: Bench) -> None:
    asker = bench.steering()
    line = request("pause", streams=[], x="x" * (LONGEST - 100))
    while line:
        line = line[asker.connection.send(line) :]
        bench.stage.settle()
    assert asker.read()[0]["result"] == {"paused": []}
    for count, answers in ((BATCH, BATCH), (BATCH + 1, 1)):
        asker.say(json.dumps([json.loads(request("x"))] * count).encode() + b"\n")
        (told,) = asker.read()
        assert len(told if isinstance(told, list) else [told]) == answers


def test_a_bug_of_ours_costs_the_one_who_met_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise RuntimeError("bug")

    asker = bench.steering()
    monkeypatch.setattr(Application, "pause", fail)
    asker.say(request("pause"))
    assert asker.read() == [None]
    (note,) = bench.stage.records.of("note")
    assert note["text"] == "internal error in session (control)"
    bench.stage.say(text(stdin(b"a")))
    assert bench.stage.application.heard() == b"a"
