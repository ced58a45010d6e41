"""Steering a session with the client library, through both faces.

Law: the server is chimirror-server, or one that the tests write where it has to say
what no server of ours does.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidState

import launch
from chimirror import client
from chimirror.client import (
    CallFailed,
    ControlLost,
    NotConnected,
    Notification,
    SessionLost,
    SessionOver,
    control,
)
from faces import FACES, Connect
from remote import LONG, Remote, exited
from settling import until
from test_connect_live import where

CONTROL = "chimirror.control.v1"
HELLO = json.dumps({"type": "session", "id": "x", "secret": "0.s"})


@pytest.fixture(params=sorted(FACES))
def connect(request: pytest.FixtureRequest) -> Connect:
    return FACES[request.param]


# With a real server.


def test_steering(connect: Connect, tmp_path: Path) -> None:
    with (
        launch.server(tmp_path, ["cat"]) as service,
        connect(where(service)) as session,
    ):
        steer = session.control
        status = steer.status()
        assert (status["id"], status["state"]) == (session.id, "open")
        assert steer.manifest()["asyncapi"].startswith("3.")
        assert steer.pause("stdout") == ["stdout"]
        session.send(b"later")
        until(lambda: steer.status()["messages_in"], "the input has arrived")
        with pytest.raises(TimeoutError):
            session.receive(timeout=0.1)
        assert steer.pause() == ["stdin", "stdout", "stderr"]
        assert steer.resume("stdin", "stderr") == ["stdout"]
        assert steer.resume() == []
        assert session.receive() == ("stdout", b"later")
        with pytest.raises(CallFailed, match="no method 'dance'") as caught:
            steer.call("dance", {"music": None})
        assert (caught.value.code, caught.value.data) == (-32601, None)
        for wrong in ("stdlog", ""):
            with pytest.raises(ValueError, match="there are stdin, stdout, stderr"):
                steer.pause(wrong)
        with pytest.raises(ValueError, match="there are HUP, INT"):
            steer.signal("STOP")
        steer.signal("SIGTERM")
        assert session.wait().signal == "TERM"
        with pytest.raises(SessionOver):
            steer.status()


def test_subscribing(connect: Connect, tmp_path: Path) -> None:
    with (
        launch.server(tmp_path, ["cat"]) as service,
        connect(where(service)) as session,
    ):
        told = iter(session.control.subscribe(0.1))
        assert next(told)["messages_in"] == 0
        session.send(b"x")
        assert next(told)["messages_in"] == 1
        session.control.unsubscribe()
        assert all(status["messages_in"] == 1 for status in told)
        other = iter(session.control.subscribe())
        session.control.unsubscribe()
        assert list(other) == []  # and nobody is asked for them
        with pytest.raises(CallFailed, match='"interval" is a number'):
            next(iter(session.control.subscribe(0)))
        session.end_input()
        session.wait()
        assert next(told, None) is None


def test_closing_over_control(connect: Connect, tmp_path: Path) -> None:
    with (
        launch.server(tmp_path, ["cat"]) as service,
        connect(where(service)) as session,
    ):
        session.control.close()
        with pytest.raises(SessionLost, match=r"close 1000 \(normal\): closed"):
            session.wait()


def test_each_session_has_so_many(connect: Connect, tmp_path: Path) -> None:
    """One that is closed makes room for another."""
    with (
        launch.server(tmp_path, ["cat"]) as service,
        connect(where(service)) as session,
    ):
        for _ in range(6):
            assert session.control.status()["state"] == "open"
            session.control.disconnect()
        session.control.disconnect()


def test_a_process_that_is_held_up_can_be_steered(
    connect: Connect, tmp_path: Path
) -> None:
    """Nobody reads what it says, and it does not read what it is told."""
    with (
        launch.server(tmp_path, ["yes"]) as service,
        connect(where(service)) as session,
    ):
        with suppress(TimeoutError):
            while True:
                session.send(bytes(1 << 20), timeout=0.5)
        assert session.control.status()["backlog_in"] > 0
        session.control.signal("KILL")
        assert sum(1 for _ in session) > 0
        assert session.wait().signal == "KILL"


APPLICATION = """
import json, os, socket
control = socket.socket(fileno=int(os.environ["CHIMIRROR_CONTROL_FD"]))
def say(**message):
    control.sendall(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\\n")
for line in control.makefile():
    asked = json.loads(line)
    if "id" in asked:
        say(id=asked["id"], result=[asked["method"], asked["params"]])
    else:
        say(method="heard", params=[asked["method"], asked["params"]])
"""


def test_an_application_that_can_be_steered(connect: Connect, tmp_path: Path) -> None:
    command = [sys.executable, "-c", APPLICATION]
    with (
        launch.server(tmp_path, command, "--control") as service,
        connect(where(service)) as session,
    ):
        notes = session.control.notifications()
        for params in ({}, {"to": 0}, [1, "\u00e4"]):
            assert session.control.call("reset", params) == ["reset", params]
            session.control.notify("hint", params)
            assert next(notes) == Notification("heard", ["hint", params])


def test_a_framing_without_secret(connect: Connect, tmp_path: Path) -> None:
    with (
        launch.server(tmp_path, ["cat"]) as service,
        connect(where(service), framing="json") as session,
        pytest.raises(ValueError, match="framing json knows no secret"),
    ):
        session.control.status()


# With servers that the tests write.


@contextmanager
def steered(*plays: Callable[[Remote], object], hello: str = HELLO) -> Iterator[str]:
    """A server whose control connections are played so; its session ends with eof."""
    wrong: list[BaseException] = []
    number = count()

    def serve(connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(LONG)
                ws = Remote(connection, "chimirror.stdio.v1", CONTROL)
                if ws.subprotocol == CONTROL:
                    plays[next(number)](ws)
                else:
                    ws.send(hello)
                    for message in ws:
                        assert message == {"type": "eof"}
                        ws.send(exited())
                        break
                ws.close(1000, "exit 0")
        except (OSError, InvalidState):
            pass  # the client went, or goes
        except BaseException as error:  # noqa: BLE001 it fails the test
            wrong.append(error)

    threads: list[threading.Thread] = []

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threads.append(threading.Thread(target=serve, args=(connection,)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for thread in [accepting, *threads]:
                thread.join()
    assert not wrong


def answer(ws: Remote, request: Any, **outcome: object) -> None:
    ws.send(json.dumps({"jsonrpc": "2.0", "id": request["id"], **outcome}))


def admit(ws: Remote) -> Iterator[Any]:
    """Authorizes the client; its requests."""
    requests = iter(ws)
    first: Any = next(requests)
    assert first["jsonrpc"] == "2.0"
    assert first["method"] == "authorize"
    assert first["params"] == {"session": "x", "secret": "0.s"}
    answer(ws, first, result={})
    return requests


def test_calls_and_answers(connect: Connect) -> None:
    """Also those that nobody waits for, and what is told meanwhile."""

    def play(ws: Remote) -> None:
        for request in admit(ws):
            ws.send('{"jsonrpc":"2.0","id":null,"method":"note","params":[1]}')
            ws.send('{"jsonrpc":"2.0","id":12345,"result":"for nobody"}')
            if request["method"] == "fail":
                error = {"code": -1, "message": "no\x1b", "data": [request["params"]]}
                answer(ws, request, error=error)
            else:
                answer(ws, request, result=[request["method"], request["params"]])

    with steered(play) as url, connect(url) as session:
        notes = session.control.notifications()
        assert session.control.call("a") == ["a", {}]
        assert session.control.call("b", {"c": "\u00e4"}) == ["b", {"c": "\u00e4"}]
        with pytest.raises(CallFailed, match=r"^no\\x1b$") as caught:
            session.control.call("fail", {"x": 1})
        assert (caught.value.code, caught.value.data) == (-1, [{"x": 1}])
        for _ in range(3):
            assert next(notes) == Notification("note", [1])


def test_answers_may_come_in_any_order(connect: Connect) -> None:
    def play(ws: Remote) -> None:
        requests = admit(ws)
        for request in [next(requests) for _ in range(3)][::-1]:
            answer(ws, request, result=request["method"])
        list(requests)

    found: dict[str, object] = {}
    with steered(play) as url, connect(url) as session:

        def call(name: str) -> None:
            found[name] = session.control.call(name)

        threads = [threading.Thread(target=call, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {name: name for name in "abc"}


def test_an_answer_that_does_not_come(connect: Connect) -> None:
    def play(ws: Remote) -> None:
        requests = admit(ws)
        late = next(requests)
        for request in requests:
            answer(ws, late, result="late")
            answer(ws, request, result="in time")

    with steered(play) as url, connect(url) as session:
        with pytest.raises(TimeoutError):
            session.control.call("a", timeout=0.05)
        assert session.control.call("b", timeout=LONG) == "in time"


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("{", "does not keep to chimirror.control.v1: a message is no JSON-RPC"),
        ("[" * 100_000, "a message is no JSON-RPC"),
        ("[]", "a message is no JSON-RPC"),
        ("7", "a message is no JSON-RPC"),
        ('{"jsonrpc":"2.0","id":2}', "a message is no JSON-RPC"),
        ('{"jsonrpc":"2.0","id":2,"error":7}', "a message is no JSON-RPC"),
        ('{"jsonrpc":"2.0","id":2,"error":{"code":"x"}}', "a message is no JSON-RPC"),
        ('{"jsonrpc":"2.0","id":2,"result":7}', "an answer is not what was asked for"),
    ],
)
def test_answers_that_are_none(connect: Connect, said: str, text: str) -> None:
    """The next call has a connection of its own, and the session has not felt it."""

    def play(ws: Remote) -> None:
        requests = admit(ws)
        next(requests)
        ws.send(said)
        assert not list(requests)
        assert ws.close_code == 1008

    def well(ws: Remote) -> None:
        for request in admit(ws):
            answer(ws, request, result={"paused": []})

    with steered(play, well) as url, connect(url) as session:
        with pytest.raises(ControlLost, match=text):
            session.control.pause("stdin")
        assert session.control.pause("stdin") == []
        session.end_input()
        assert session.wait().code == 0


@pytest.mark.parametrize(
    ("code", "reason", "text"),
    [
        (1001, "drain", "the control connection is over: close 1001"),
        (1000, "control over", "the session has ended"),
        (1008, "\x1b", r"close 1008 \(policy\): \\x1b"),
    ],
)
def test_a_connection_that_is_lost(
    connect: Connect, code: int, reason: str, text: str
) -> None:
    def play(ws: Remote) -> None:
        requests = admit(ws)
        next(requests)
        next(requests)
        ws.close(code, reason)

    told: list[object] = []
    with steered(play) as url, connect(url) as session:
        notes = session.control.notifications()

        def listen() -> None:
            try:
                told.extend(notes)
                told.append("end")
            except ControlLost as error:
                told.append(error.close_code)

        def call() -> None:
            try:
                session.control.call("call")
            except (ControlLost, SessionOver) as error:
                told.append(str(error))

        threads = [threading.Thread(target=one) for one in (listen, call, call)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    ends = [one for one in told if not isinstance(one, str) or one == "end"]
    assert ends == (["end"] if reason == "control over" else [code])
    (first, second) = [one for one in told if one not in ends]
    assert first == second
    assert re.search(text, str(first))


NOTE = json.dumps({"jsonrpc": "2.0", "method": "note"})


def test_who_listens_hears_of_a_loss_and_listens_on(connect: Connect) -> None:
    def lose(ws: Remote) -> None:
        admit(ws)
        ws.close(1001, "drain")

    def tell(ws: Remote) -> None:
        requests = admit(ws)
        ws.send(NOTE)
        list(requests)

    with steered(lose, tell) as url, connect(url) as session:
        notes = iter(session.control.notifications())
        with pytest.raises(ControlLost, match="drain"):
            next(notes)
        assert next(notes) == Notification("note", None)
        session.end_input()
        session.wait()


def test_who_was_cancelled_listens_on() -> None:
    def play(ws: Remote) -> None:
        for request in admit(ws):
            ws.send(NOTE)
            answer(ws, request, result={})

    async def scenario(url: str) -> list[str]:
        async with client.connect(url) as session:
            notes = session.control.notifications()
            statuses = session.control.subscribe()
            for told in (notes, statuses):
                listening = asyncio.ensure_future(anext(told))
                await asyncio.sleep(0)
                listening.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await listening
            await session.control.call("say")
            heard = [str(await anext(notes)), str(await anext(statuses))]
            await session.end_input()
            await session.wait()
            return heard

    with steered(play) as url:
        heard = asyncio.run(scenario(url))
    assert heard == [str(Notification("note", None)), "{}"]


def test_not_being_let_in(connect: Connect) -> None:
    def refuse(ws: Remote) -> None:
        error = {"code": -32001, "message": "no such session, or not its secret"}
        answer(ws, ws.message(), error=error)
        ws.close(1008, "not authorized")

    with steered(refuse) as url, connect(url) as session:
        with pytest.raises(CallFailed, match="no such session") as caught:
            session.control.status()
        assert caught.value.code == -32001


def test_a_server_without_control(connect: Connect) -> None:
    hello = '{"type":"session","id":"x"}'
    with (
        steered(hello=hello) as url,
        connect(url) as session,
        pytest.raises(NotConnected, match="nothing to steer this session with"),
    ):
        session.control.status()


def test_a_flood_of_notifications(connect: Connect) -> None:
    """Is no concern of who does not listen, and of who does, some are kept."""
    size = 1 << 14
    note = {
        "jsonrpc": "2.0",
        "method": "note",
        "params": {"number": 0, "x": "x" * size},
    }

    def play(ws: Remote) -> None:
        for request in admit(ws):
            for number in range(200):
                note["params"] = {"number": number, "x": "x" * size}
                ws.send(json.dumps(note))
            answer(ws, request, result=None)

    with steered(play) as url, connect(url) as session:
        assert session.control.call("flood") is None
        notes = session.control.notifications()
        assert session.control.call("flood") is None
        first = next(notes).params["number"]
        assert 200 - control.HIGH // size <= first < 200
        assert [next(notes).params["number"] for _ in range(first + 1, 200)] == list(
            range(first + 1, 200)
        )


def test_leaving_closes_the_control_connection(connect: Connect) -> None:
    closes = []

    def play(ws: Remote) -> None:
        for request in admit(ws):
            answer(ws, request, result={})
        closes.append(ws.close_code)

    with steered(play) as url, connect(url) as session:
        session.control.status()
        session.end_input()
    assert closes == [1001]
