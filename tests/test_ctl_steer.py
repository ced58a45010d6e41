"""pause, resume, call: of real bridges and servers; units are in test_steering_live."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chimirror.ctl import control, live, steer
from chimirror.ctl.failure import Failure
from chimirror.ctl.host import Host
from chimirror.ctl.main import run
from chimirror.system import runtime
from hosts import Screen, ctl
from launch import Bridge, server
from peers import Closed, Peer, stdin
from settling import until
from test_ctl_ending import alone

CAT = ["sh", "-c", "echo up; exec cat"]


class Steered:
    """A session, and a host where it is found."""

    def __init__(self, host: Host, peer: Peer) -> None:
        self.host = host
        self.peer = peer
        assert peer.open(framing="stdio").status == 101
        self.id: str = peer.message()["id"]
        assert peer.output(3) == b"up\n"

    def ask(self, *argv: str) -> str:
        verb, *words = argv
        return ctl(self.host, verb, self.id[:16], *words).text

    def fail(self, *argv: str) -> tuple[int, str]:
        verb, *words = argv
        with pytest.raises(Failure) as caught:
            run([verb, self.id, *words], self.host, Screen())
        return caught.value.status, str(caught.value)


@contextmanager
def of_a_server(path: Path, place: Path) -> Iterator[Steered]:
    del place
    with server(path, CAT, "--workers=2") as service, Peer(service.connect()) as peer:
        yield Steered(alone(path, service), peer)


@contextmanager
def of_a_bridge(path: Path, place: Path) -> Iterator[Steered]:
    host = Host((str(place.parent),), run=str(path / "run"))
    with Bridge(CAT) as bridge, Peer(bridge.socket) as peer:
        steered = Steered(host, peer)
        socket = place / runtime.control(steered.id)
        until(socket.exists, "its control socket")
        until((place / steered.id).read_text, "its status")
        yield steered
        peer.close()
        bridge.finish()


@pytest.fixture(params=[of_a_server, of_a_bridge])
def steered(
    request: pytest.FixtureRequest, tmp_path: Path, runtime_place: Path
) -> Iterator[Steered]:
    with request.param(tmp_path, runtime_place) as found:
        yield found


def test_pause_and_resume(steered: Steered) -> None:
    assert steered.ask("pause", "stdout") == "paused: stdout\n"
    assert steered.ask("pause") == "paused: stdin, stdout, stderr\n"
    steered.peer.send(stdin(b"later"))
    assert steered.ask("resume", "stderr", "stdin") == "paused: stdout\n"
    assert steered.ask("resume") == "paused: nothing\n"
    assert steered.peer.output(5) == b"later"


def test_call(steered: Steered) -> None:
    status = json.loads(steered.ask("call", "status"))
    assert (status["id"], status["paused"]) == (steered.id, [])
    params = '{"streams":["stdin"]}'
    assert steered.ask("call", "pause", params) == '{"paused": ["stdin"]}\n'
    assert json.loads(steered.ask("call", "manifest"))["asyncapi"] == "3.0.0"
    assert steered.ask("call", "close") == "{}\n"
    assert steered.peer.story(wait=False).closed == Closed(1000, "closed")


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (("call", "dance"), os.EX_UNAVAILABLE, "no method 'dance'"),
        (("call", "signal", '{"name":"X"}'), os.EX_UNAVAILABLE, "is none of HUP"),
        (("call", "pause", "[]"), os.EX_UNAVAILABLE, "params go by name"),
        (("call", "pause", "stdout"), os.EX_USAGE, "PARAMS: not JSON"),
        (("call", "pause", "7"), os.EX_USAGE, "neither an object nor an array"),
        (
            ("pause", "stdlog"),
            os.EX_USAGE,
            '"stdlog" is no stream; write stdin, stdout',
        ),
    ],
)
def test_mistakes(
    steered: Steered, words: tuple[str, ...], status: int, text: str
) -> None:
    found = steered.fail(*words)
    assert found[0] == status
    assert text in found[1]


def test_a_session_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Failure) as caught:
        run(["pause", "abc"], Host((str(tmp_path),)), Screen())
    assert caught.value.status == os.EX_NOINPUT


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (FileNotFoundError(), os.EX_NOINPUT),
        (control.HungUp("x"), os.EX_NOINPUT),
        (PermissionError(), os.EX_NOPERM),
        (control.Silent("x"), os.EX_TEMPFAIL),
        (TimeoutError(), os.EX_TEMPFAIL),
    ],
)
def test_nobody_answers(
    error: Exception, status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(_path: str) -> None:
        raise error

    one = live.Live("a" * 32, 1, 0, socket=str(tmp_path / "x"))
    monkeypatch.setattr("chimirror.ctl.choose.live", lambda _found, _texts: [one])
    monkeypatch.setattr(control, "Worker", fail)
    with pytest.raises(Failure) as caught:
        run(["call", "a", "status"], Host((str(tmp_path),)), Screen())
    assert caught.value.status == status


def test_what_an_application_says_cannot_move_a_cursor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(steer, "_ask", lambda *_arguments: "\x9b2J\x7f\u202e")
    assert ctl(Host(()), "call", "a", "x").text == '"\\u009b2J\\u007f\\u202e"\n'
