"""An application at the helm of its own session: asked, answering, announcing, failing.

Law: the session is on a stage and the application's end of the channel in the test's
hand; real applications, however they are started, are in the last part.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from chimirror import clerk, courier, hand, helm, pilot
from chimirror.connection import OPEN
from chimirror.control import Office
from chimirror.pilot import WAITING
from chimirror.system.doorbell import Doorbell
from chimirror.system.outbox import HIGH
from chimirror.wire.control import LONGEST
from launch import Way, activated, preloading, server, zygote
from peers import Closed, Peer, stdin, text
from stage import IDENTITY, Stage
from steering import steer
from test_helm import Asker, request


class Application(Asker):
    """The application's end of its control channel."""

    def heard(self) -> list[Any]:
        return self.read()

    def send(self, **message: object) -> None:
        line = json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n"
        while line:
            line = line[self.connection.send(line) :]
            self.stage.settle()


class Scene:
    """A session with such an application, and those who steer it from outside."""

    def __init__(self, stage: Stage, path: Path) -> None:
        self.stage = stage
        self.path = path
        self.office = Office(stage.service, Doorbell(str(path), 0o600))
        stage.open("stdio")
        stage.peer.message()
        assert stage.application.channel is not None
        self.application = Application(stage, stage.application.channel)
        self.askers: list[Asker] = []

    def steering(self) -> Asker:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self.path))
        asker = Asker(self.stage, connection)
        self.askers.append(asker)
        assert asker.ask("authorize", session=IDENTITY) == {}
        return asker

    def close(self) -> None:
        self.office.close()
        for asker in self.askers:
            asker.connection.close()

    def flows(self) -> None:
        """Data does, whatever has happened."""
        self.stage.say(text(stdin(b"a")))
        assert self.stage.application.heard() == b"a"
        assert self.stage.session.connection.state == OPEN


@contextmanager
def staged(path: Path, *options: str) -> Iterator[Scene]:
    with Stage("--ping-interval=off", "--control", *options) as stage:
        scene = Scene(stage, path / "control")
        try:
            yield scene
        finally:
            scene.close()
    assert not stage.service.helms


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with staged(tmp_path) as found:
        yield found


def test_nobody_else_has_a_channel() -> None:
    with Stage() as stage:
        stage.open()
        assert stage.application.channel is None
        assert stage.session.application.channel == -1


# What it asks


def test_it_steers_its_own_session_before_anybody_has_come(scene: Scene) -> None:
    assert not scene.stage.service.helms
    assert scene.application.ask("status")["id"] == IDENTITY
    assert scene.application.ask("pause", streams=["stdin"]) == {"paused": ["stdin"]}
    assert scene.application.ask("subscribe", interval=1)["paused"] == ["stdin"]
    scene.stage.say(text(stdin(b"a")))
    scene.stage.wait(1.1)
    assert scene.application.heard()[0]["params"]["backlog_in"] == 1
    assert scene.application.ask("resume") == {"paused": []}
    assert scene.application.ask("dance") == -32601
    assert scene.application.ask("authorize", session=IDENTITY) == -32601
    assert scene.application.ask("sessions") == -32601


def test_it_may_close_its_session(scene: Scene) -> None:
    assert scene.application.ask("close") == {}
    assert scene.stage.peer.story(wait=False).closed == Closed(1000, "closed")


def test_a_notification_that_is_ours_is_obeyed(scene: Scene) -> None:
    asker = scene.steering()
    scene.application.send(method="pause", params={"streams": ["stdout"]})
    assert asker.ask("status")["paused"] == ["stdout"]


# What it is asked


def test_what_it_alone_can_do_is_passed_on(scene: Scene) -> None:
    asker, other = scene.steering(), scene.steering()
    for one, name in ((asker, "a"), (other, "b")):
        call = {"jsonrpc": "2.0", "id": name, "method": "reset", "params": [name]}
        one.say(json.dumps(call).encode() + b"\n")
    first, second = scene.application.heard()
    assert (first["method"], first["params"]) == ("reset", ["a"])
    assert first["id"] != second["id"]
    error = {"code": 7, "message": "not now", "data": [1]}
    scene.application.send(id=second["id"], error=error)
    scene.application.send(id=first["id"], result={"position": 0})
    assert asker.read() == [{"jsonrpc": "2.0", "id": "a", "result": {"position": 0}}]
    assert other.read() == [{"jsonrpc": "2.0", "id": "b", "error": error}]


def test_notifications_go_both_ways(scene: Scene) -> None:
    askers = [scene.steering(), scene.steering()]
    askers[0].say(b'{"jsonrpc":"2.0","method":"hurry","params":{"x":1}}\n')
    (told,) = scene.application.heard()
    assert told == {"jsonrpc": "2.0", "method": "hurry", "params": {"x": 1}}
    scene.application.send(method="progress", params={"percent": 10})
    for asker in askers:
        assert asker.read() == [
            {"jsonrpc": "2.0", "method": "progress", "params": {"percent": 10}}
        ]
    assert scene.application.heard() == []


def test_a_batch_waits_for_its_last_answer(scene: Scene) -> None:
    asker = scene.steering()
    calls = [json.loads(request("reset")), json.loads(request("pause", streams=[]))]
    calls.append({"jsonrpc": "2.0", "method": "hurry"})
    asker.say(json.dumps(calls).encode() + b"\n")
    assert asker.read() == []
    reset, hurry = scene.application.heard()
    assert hurry["method"] == "hurry"
    scene.application.send(id=reset["id"], result=1)
    ((first, second),) = asker.read()
    assert {str(first["result"]), str(second["result"])} == {"1", "{'paused': []}"}


@pytest.mark.parametrize(
    "answer",
    [
        {"error": "no"},
        {"error": {"code": "1", "message": "x"}},
        {"error": {"code": 1}},
        {},
    ],
)
def test_an_answer_that_is_none(scene: Scene, answer: dict[str, Any]) -> None:
    asker = scene.steering()
    asker.say(request("reset"))
    scene.application.send(id=scene.application.heard()[0]["id"], **answer)
    assert asker.read()[0]["error"]["code"] == -32603


def test_answers_that_nobody_waits_for(scene: Scene) -> None:
    asker = scene.steering()
    asker.say(request("reset"))
    number = scene.application.heard()[0]["id"]
    for wrong in (number + 1, str(number), None, True):
        scene.application.send(id=wrong, result=1)
    scene.application.send(id=number, result=2)
    scene.application.send(id=number, result=3)
    assert [one["result"] for one in asker.read()] == [2]
    asker.say(request("reset"))
    asker.connection.close()
    scene.stage.settle()
    scene.application.send(id=number + 1, result=4)
    scene.flows()


def test_one_who_leaves_is_forgotten(scene: Scene) -> None:
    for _ in range(3 * WAITING):
        asker = scene.steering()
        asker.say(request("reset"))
        asker.connection.close()
        scene.stage.settle()
    scene.steering().say(request("reset"))
    assert len(scene.application.heard()) == 3 * WAITING + 1


# When it fails


def test_it_never_answers(scene: Scene) -> None:
    asker, other = scene.steering(), scene.steering()
    for _ in range(WAITING):
        asker.say(request("reset"))
    assert asker.ask("reset") == -32000
    assert asker.ask("status")["id"] == IDENTITY
    other.say(request("reset"))
    assert len(scene.application.heard()) == WAITING + 1


@pytest.mark.parametrize("module", [clerk, courier, hand, helm, pilot])
def test_no_error_outlives_its_answer(module: ModuleType) -> None:
    """One that is raised again and again keeps the frames of every time."""
    kept = [one for one in vars(module).values() if isinstance(one, BaseException)]
    assert not kept


def test_it_never_reads(scene: Scene) -> None:
    asker = scene.steering()
    long = "x" * 60_000
    answers: list[Any] = []
    for _ in range(100):
        line = json.dumps({"jsonrpc": "2.0", "method": "hurry", "params": [long]})
        rest = line.encode() + b"\n"
        while rest:
            rest = rest[asker.connection.send(rest) :]
            scene.stage.settle()
        answers += asker.read()
    assert asker.ask("reset") == -32000
    (helm,) = scene.stage.service.helms.values()
    assert helm._pilot is not None
    assert helm._pilot.backlog < HIGH + (1 << 17)
    scene.flows()


def test_it_closes_its_channel(scene: Scene) -> None:
    asker = scene.steering()
    asker.say(request("reset"))
    scene.application.connection.close()
    scene.stage.settle()
    assert asker.read()[0]["error"]["code"] == -32000
    assert asker.ask("reset") == -32601
    assert asker.ask("status")["id"] == IDENTITY
    scene.flows()


def test_it_closes_its_channel_unused(scene: Scene) -> None:
    scene.application.connection.close()
    scene.stage.settle()
    assert not scene.stage.service.helms
    scene.flows()


def test_it_floods_those_who_do_not_read(scene: Scene) -> None:
    asker, sleeper = scene.steering(), scene.steering()
    sleeper.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    (helm,) = scene.stage.service.helms.values()
    heard = 0
    while len(helm.hands) == 2:
        scene.application.send(method="progress", params=["x" * 1000])
        heard += len(asker.read())
    assert heard > 100
    assert asker.ask("status")["id"] == IDENTITY
    scene.flows()


def test_it_floods_with_requests(scene: Scene) -> None:
    """And reads no answer: it is read no further."""
    sent = 0
    try:
        while sent < 1 << 24:
            sent += scene.application.connection.send(request("status") * 100)
            scene.stage.settle()
    except BlockingIOError:
        pass
    assert sent < 1 << 23
    scene.flows()


@pytest.mark.parametrize(
    "data", [b"\x00\n", b"{}\n", b"[]\n", b"7\n", b'"\n', b"[{}]\n", b"\n"]
)
def test_it_talks_nonsense(scene: Scene, data: bytes) -> None:
    scene.application.say(data * 3)
    answers = scene.application.heard()
    codes = {
        one["error"]["code"]
        for answer in answers
        for one in (answer if isinstance(answer, list) else [answer])
    }
    assert codes <= {-32700, -32600}
    assert scene.application.ask("status")["id"] == IDENTITY
    scene.flows()


def test_a_line_without_end(scene: Scene) -> None:
    asker = scene.steering()
    for _ in range(9):
        with suppress(BrokenPipeError):
            scene.application.say(b"x" * (LONGEST // 8))
    assert asker.ask("reset") == -32601
    scene.flows()


def test_a_bug_of_ours(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise RuntimeError("bug")

    monkeypatch.setattr("chimirror.helm.Helm.status", fail)
    scene.application.say(request("status"))
    assert scene.application.heard() == [None]
    assert scene.stage.records.of("note")
    scene.flows()


def test_it_exits(scene: Scene) -> None:
    asker = scene.steering()
    scene.stage.exit(3)
    assert scene.stage.peer.story(wait=False).closed == Closed(1011, "exit 3")
    scene.stage.peer.close()
    scene.stage.settle()
    assert asker.read() == [None]


# Real ones

COUNTER = """
import json, os, socket, sys, threading
position = 0

def main():
    control = socket.socket(fileno=int(os.environ["CHIMIRROR_CONTROL_FD"]))
    threading.Thread(target=listen, args=(control,), daemon=True).start()
    print("up", flush=True)
    count()

def count():
    global position
    for line in sys.stdin:
        position += 1
        print(position, flush=True)

def listen(control):
    global position
    for line in control.makefile():
        asked = json.loads(line)
        before, position = position, 0
        for told in (
            {"id": asked["id"], "result": {"was": before}},
            {"method": "moved", "params": {"to": 0}},
        ):
            control.sendall(json.dumps({"jsonrpc": "2.0", **told}).encode() + b"\\n")

if __name__ == "__main__":
    main()
"""
SCRIPT = [sys.executable, "-c", COUNTER]


def counts(connect: Callable[[], socket.socket], target: str = "/") -> None:
    """A session of the program above is reset over its control part."""
    with Peer(connect()) as peer:
        assert peer.open(target, framing="stdio").status == 101
        hello = peer.message()
        assert peer.output(3) == b"up\n"
        peer.send(stdin(b"x\n" * 3))
        assert peer.output(6) == b"1\n2\n3\n"
        steered = (connect, hello, target)
        with steer(*steered) as steerer, steer(*steered) as other:
            assert steerer.ask("reset") == {"was": 3}
            for one in (steerer, other):
                assert one.peer.message()["params"] == {"to": 0}
        peer.send(stdin(b"x\n"))
        assert peer.output(2) == b"1\n"
        peer.send({"type": "eof"})
        assert peer.story().closed == Closed(1000, "exit 0")


@pytest.mark.usefixtures("runtime_place")
@pytest.mark.parametrize("stderr", ["client", "discard"])
@pytest.mark.parametrize("way", [server, activated])
def test_real_ones(tmp_path: Path, way: Way, stderr: str) -> None:
    with way(tmp_path, SCRIPT, "--control", "--stderr", stderr) as service:
        counts(service.connect)
        counts(service.connect)


@pytest.mark.usefixtures("runtime_place")
@pytest.mark.parametrize("stderr", ["client", "discard"])
def test_warm_copies(tmp_path: Path, stderr: str) -> None:
    (tmp_path / "counter.py").write_text(COUNTER)
    options = ("--control", "--stderr", stderr, "--workers=1")
    with preloading(tmp_path, "counter:main", *options) as service:
        counts(service.connect)
        counts(service.connect)


@pytest.mark.usefixtures("runtime_place")
def test_each_application_by_its_file(tmp_path: Path) -> None:
    """Which may be changed while they are served."""
    file = tmp_path / "counter.toml"
    command = f"command = {json.dumps(SCRIPT)}\n"
    file.write_text(f"{command}control = true\n")
    with server(tmp_path, [], "--apps", str(tmp_path), "--workers=1") as service:
        counts(service.connect, "/counter")
        file.write_text('command = ["cat"]\n')
        with Peer(service.connect()) as peer:
            assert peer.open("/counter", framing="stdio").status == 101
            with steer(service.connect, peer.message(), "/counter") as steerer:
                assert steerer.ask("reset") == -32601


def test_what_a_zygotes_guest_asks_for(tmp_path: Path) -> None:
    """Of any program; the fourth descriptor is the last."""
    program = ("--", "sh", "-c", 'echo "$CHIMIRROR_CONTROL_FD"; cat <&3 >&3')
    with zygote(tmp_path, *program) as service:
        for stderr in (True, False):
            link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with link:
                link.settimeout(30)
                link.connect(str(service.address))
                asked = {"start": 1, "stderr": stderr, "control": True}
                link.send(json.dumps(asked).encode())
                _, pipes, _, _ = socket.recv_fds(link, 1 << 16, 4)
                assert len(pipes) == 3 + stderr
                with socket.socket(fileno=pipes[-1]) as channel:
                    channel.settimeout(30)
                    channel.sendall(b"echo")
                    assert channel.recv(9) == b"echo"
                os.set_blocking(pipes[1], True)
                assert os.read(pipes[1], 9) == b"3\n"
                for fd in pipes[:-1]:
                    os.close(fd)
