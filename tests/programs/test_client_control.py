"""Control calls of the client library, through both APIs.

The server is chimirror-server, or a fake server for behaviour that chimirror-server
does not show.
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

import serve
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
from client_apis import APIS, Connect
from fake_server import LONG, Remote, exited
from processes import until
from tls_servers import server_url

CONTROL = "chimirror.control.v1"
NOTE = json.dumps({"jsonrpc": "2.0", "method": "note"})
HELLO = json.dumps({"type": "session", "id": "x", "secret": "0.s"})


@pytest.fixture(params=sorted(APIS))
def connect(request: pytest.FixtureRequest) -> Connect:
    return APIS[request.param]


# With a real server.


def test_control_calls(connect: Connect, tmp_path: Path) -> None:
    with (
        serve.server(tmp_path, ["cat"]) as service,
        connect(server_url(service)) as session,
    ):
        calls = session.control
        status = calls.status()
        assert (status["id"], status["state"]) == (session.id, "open")
        assert calls.manifest()["asyncapi"].startswith("3.")
        assert calls.pause("stdout") == ["stdout"]
        session.send(b"later")
        until(lambda: calls.status()["messages_in"], "the input has arrived")
        with pytest.raises(TimeoutError):
            session.receive(timeout=0.1)
        assert calls.pause() == ["stdin", "stdout", "stderr"]
        assert calls.resume("stdin", "stderr") == ["stdout"]
        assert calls.resume() == []
        assert session.receive() == ("stdout", b"later")
        with pytest.raises(CallFailed, match="no method 'dance'") as caught:
            calls.call("dance", {"music": None})
        assert (caught.value.code, caught.value.data) == (-32601, None)
        for wrong in ("stdlog", ""):
            with pytest.raises(ValueError, match="write one of stdin, stdout, stderr"):
                calls.pause(wrong)
        with pytest.raises(ValueError, match="write one of HUP, INT"):
            calls.signal("STOP")
        calls.signal("SIGTERM")
        assert session.wait().signal == "TERM"
        with pytest.raises(SessionOver):
            calls.status()


def test_subscribing(connect: Connect, tmp_path: Path) -> None:
    with (
        serve.server(tmp_path, ["cat"]) as service,
        connect(server_url(service)) as session,
    ):
        received = iter(session.control.subscribe(0.1))
        assert next(received)["messages_in"] == 0
        session.send(b"x")
        assert next(received)["messages_in"] == 1
        session.control.unsubscribe()
        assert all(status["messages_in"] == 1 for status in received)
        other = iter(session.control.subscribe())
        session.control.unsubscribe()
        assert list(other) == []  # no reader consumes them
        with pytest.raises(CallFailed, match='"interval" must be a number'):
            next(iter(session.control.subscribe(0)))
        session.end_input()
        session.wait()
        assert next(received, None) is None


def test_closing_over_control(connect: Connect, tmp_path: Path) -> None:
    with (
        serve.server(tmp_path, ["cat"]) as service,
        connect(server_url(service)) as session,
    ):
        session.control.close()
        with pytest.raises(SessionLost, match=r"close 1000 \(normal\): closed"):
            session.wait()


def test_control_connections_are_limited(connect: Connect, tmp_path: Path) -> None:
    """A closed control connection makes room for another one."""
    with (
        serve.server(tmp_path, ["cat"]) as service,
        connect(server_url(service)) as session,
    ):
        for _ in range(6):
            assert session.control.status()["state"] == "open"
            session.control.disconnect()
        session.control.disconnect()


def test_a_blocked_process_can_be_controlled(connect: Connect, tmp_path: Path) -> None:
    """Neither the output nor the input of the process is read."""
    with (
        serve.server(tmp_path, ["yes"]) as service,
        connect(server_url(service)) as session,
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


def test_an_application_with_a_control_channel(
    connect: Connect, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", APPLICATION]
    with (
        serve.server(tmp_path, command, "--control") as service,
        connect(server_url(service)) as session,
    ):
        notes = session.control.notifications()
        for params in ({}, {"to": 0}, [1, "\u00e4"]):
            assert session.control.call("reset", params) == ["reset", params]
            session.control.notify("hint", params)
            assert next(notes) == Notification("heard", ["hint", params])


def test_a_framing_without_secret(connect: Connect, tmp_path: Path) -> None:
    with (
        serve.server(tmp_path, ["cat"]) as service,
        connect(server_url(service), framing="json") as session,
        pytest.raises(ValueError, match="framing json has no control connections"),
    ):
        session.control.status()


# With fake servers.


@contextmanager
def control_server(
    *plays: Callable[[Remote], object], hello: str = HELLO
) -> Iterator[str]:
    """Serve control connections with these handlers. The session ends with eof."""
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
            pass  # the client may already have disconnected
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


def authorize(ws: Remote) -> Iterator[Any]:
    """Authorize the client. Yields its later requests."""
    requests = iter(ws)
    first: Any = next(requests)
    assert first["jsonrpc"] == "2.0"
    assert first["method"] == "authorize"
    assert first["params"] == {"session": "x", "secret": "0.s"}
    answer(ws, first, result={})
    return requests


@pytest.mark.parametrize("session", ["6f1c0e8d", "", "x y", "x,y", "\u00e4", "x" * 65])
def test_the_id_of_the_session_is_offered(connect: Connect, session: str) -> None:
    """For balancers. An id that is no name of a subprotocol is left out."""
    offers: list[str] = []

    def play(ws: Remote) -> None:
        offers.append(ws.request.headers["Sec-WebSocket-Protocol"])
        for request in ws:
            answer(ws, request, result={})

    hello = HELLO.replace('"x"', json.dumps(session))
    with control_server(play, hello=hello) as url, connect(url) as running:
        running.control.call("anything")
    more = ", chimirror.session.6f1c0e8d" if session == "6f1c0e8d" else ""
    assert offers == [CONTROL + more]


def test_calls_and_answers(connect: Connect) -> None:
    """Includes responses without a waiting call, and notifications in between."""

    def play(ws: Remote) -> None:
        for request in authorize(ws):
            ws.send('{"jsonrpc":"2.0","id":null,"method":"note","params":[1]}')
            ws.send('{"jsonrpc":"2.0","id":12345,"result":"for nobody"}')
            if request["method"] == "fail":
                error = {"code": -1, "message": "no\x1b", "data": [request["params"]]}
                answer(ws, request, error=error)
            else:
                answer(ws, request, result=[request["method"], request["params"]])

    with control_server(play) as url, connect(url) as session:
        notes = session.control.notifications()
        assert session.control.call("a") == ["a", {}]
        assert session.control.call("b", {"c": "\u00e4"}) == ["b", {"c": "\u00e4"}]
        with pytest.raises(CallFailed, match=r"^no\\x1b$") as caught:
            session.control.call("fail", {"x": 1})
        assert (caught.value.code, caught.value.data) == (-1, [{"x": 1}])
        for _ in range(3):
            assert next(notes) == Notification("note", [1])


def test_values_that_parsers_refuse(connect: Connect) -> None:
    """Python reads no integer of more than 4,300 digits."""
    value = f'[{2**64},{"7" * 5000},"\\ud800","\\u0000",{"[" * 600}{"]" * 600}]'

    def play(ws: Remote) -> None:
        for request in authorize(ws):
            ws.send(f'{{"jsonrpc":"2.0","id":{request["id"]},"result":{value}}}')

    with control_server(play) as url, connect(url) as session:
        *found, _ = session.control.call("a", {"b": "\ud800"})
        assert found == [2**64, float("inf"), "\ud800", "\0"]


def test_answers_may_come_in_any_order(connect: Connect) -> None:
    def play(ws: Remote) -> None:
        requests = authorize(ws)
        for request in [next(requests) for _ in range(3)][::-1]:
            answer(ws, request, result=request["method"])
        list(requests)

    found: dict[str, object] = {}
    with control_server(play) as url, connect(url) as session:

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
        requests = authorize(ws)
        answer(ws, next(requests), result="open")
        late = next(requests)
        for request in requests:
            answer(ws, late, result="late")
            answer(ws, request, result="in time")

    with control_server(play) as url, connect(url) as session:
        assert session.control.call("open") == "open"  # without a time limit
        with pytest.raises(TimeoutError):
            session.control.call("a", timeout=0.05)
        assert session.control.call("b", timeout=LONG) == "in time"


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("{", "violates chimirror.control.v1: a message is not JSON-RPC"),
        ("[" * 100_000, "a message is not JSON-RPC"),
        ("[]", "a message is not JSON-RPC"),
        ("7", "a message is not JSON-RPC"),
        ('{"jsonrpc":"2.0","id":2}', "a message is not JSON-RPC"),
        ('{"jsonrpc":"2.0","id":2,"error":7}', "a message is not JSON-RPC"),
        ('{"jsonrpc":"2.0","id":2,"error":{"code":"x"}}', "a message is not JSON-RPC"),
        ('{"jsonrpc":"2.0","id":2,"result":7}', "a response has the wrong type"),
    ],
)
def test_invalid_responses(connect: Connect, said: str, text: str) -> None:
    """The next call opens another connection. The session continues."""

    def play(ws: Remote) -> None:
        requests = authorize(ws)
        next(requests)
        ws.send(said)
        assert not list(requests)
        assert ws.close_code == 1008

    def well(ws: Remote) -> None:
        for request in authorize(ws):
            answer(ws, request, result={"paused": []})

    with control_server(play, well) as url, connect(url) as session:
        with pytest.raises(ControlLost, match=text):
            session.control.pause("stdin")
        assert session.control.pause("stdin") == []
        session.end_input()
        assert session.wait().code == 0


@pytest.mark.parametrize(
    ("code", "reason", "text"),
    [
        (1001, "drain", "the control connection has ended: close 1001"),
        (1000, "control over", "the session has ended"),
        (1008, "\x1b", r"close 1008 \(policy\): \\x1b"),
    ],
)
def test_a_connection_that_is_lost(
    connect: Connect, code: int, reason: str, text: str
) -> None:
    def play(ws: Remote) -> None:
        requests = authorize(ws)
        ws.send(NOTE)
        next(requests)
        next(requests)
        ws.close(code, reason)

    received: list[object] = []
    with control_server(play) as url, connect(url) as session:
        notes = session.control.notifications()

        def listen() -> None:
            try:
                received.extend(note.method for note in notes)
                received.append("end")
            except ControlLost as error:
                received.append(error.close_code)

        def call() -> None:
            try:
                session.control.call("call")
            except (ControlLost, SessionOver) as error:
                received.append(str(error))

        threads = [threading.Thread(target=one) for one in (listen, call, call)]
        threads[0].start()
        until(lambda: received, "the first notification")
        for thread in threads[1:]:
            thread.start()
        for thread in threads:
            thread.join()
    assert received.pop(0) == "note"
    ends = [one for one in received if not isinstance(one, str) or one == "end"]
    assert ends == (["end"] if reason == "control over" else [code])
    (first, second) = [one for one in received if one not in ends]
    assert first == second
    assert re.search(text, str(first))


def test_a_subscription_survives_a_lost_connection(connect: Connect) -> None:
    def lose(ws: Remote) -> None:
        authorize(ws)
        ws.close(1001, "drain")

    def tell(ws: Remote) -> None:
        requests = authorize(ws)
        ws.send(NOTE)
        list(requests)

    with control_server(lose, tell) as url, connect(url) as session:
        notes = iter(session.control.notifications())
        with pytest.raises(ControlLost, match="drain"):
            next(notes)
        assert next(notes) == Notification("note", None)
        session.end_input()
        session.wait()


def test_a_subscription_survives_a_cancelled_read() -> None:
    def play(ws: Remote) -> None:
        for request in authorize(ws):
            ws.send(NOTE)
            answer(ws, request, result={})

    async def scenario(url: str) -> list[str]:
        async with client.connect(url) as session:
            notes = session.control.notifications()
            statuses = session.control.subscribe()
            for received in (notes, statuses):
                listening = asyncio.ensure_future(anext(received))
                await asyncio.sleep(0)
                listening.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await listening
            await session.control.call("say")
            received_texts = [str(await anext(notes)), str(await anext(statuses))]
            await session.end_input()
            await session.wait()
            return received_texts

    with control_server(play) as url:
        received_texts = asyncio.run(scenario(url))
    assert received_texts == [str(Notification("note", None)), "{}"]


def test_a_denied_authorization(connect: Connect) -> None:
    def refuse(ws: Remote) -> None:
        error = {"code": -32001, "message": "no such session, or not its secret"}
        answer(ws, ws.message(), error=error)
        ws.close(1008, "not authorized")

    with control_server(refuse) as url, connect(url) as session:
        with pytest.raises(CallFailed, match="no such session") as caught:
            session.control.status()
        assert caught.value.code == -32001


def test_a_server_without_control(connect: Connect) -> None:
    hello = '{"type":"session","id":"x"}'
    with (
        control_server(hello=hello) as url,
        connect(url) as session,
        pytest.raises(NotConnected, match="offers no control connection"),
    ):
        session.control.status()


def test_a_flood_of_notifications(connect: Connect) -> None:
    """Without a subscriber they are dropped. For a subscriber, some are kept."""
    size = 1 << 14
    note = {
        "jsonrpc": "2.0",
        "method": "note",
        "params": {"number": 0, "x": "x" * size},
    }

    def play(ws: Remote) -> None:
        for request in authorize(ws):
            for number in range(200):
                note["params"] = {"number": number, "x": "x" * size}
                ws.send(json.dumps(note))
            answer(ws, request, result=None)

    with control_server(play) as url, connect(url) as session:
        assert session.control.call("flood") is None
        notes = session.control.notifications()
        assert session.control.call("flood") is None
        first = next(notes).params["number"]
        assert 200 - control.MAX_QUEUED // size <= first < 200
        assert [next(notes).params["number"] for _ in range(first + 1, 200)] == list(
            range(first + 1, 200)
        )


def test_leaving_closes_the_control_connection(connect: Connect) -> None:
    closes = []

    def play(ws: Remote) -> None:
        for request in authorize(ws):
            answer(ws, request, result={})
        closes.append(ws.close_code)

    with control_server(play) as url, connect(url) as session:
        session.control.status()
        session.end_input()
    assert closes == [1001]
