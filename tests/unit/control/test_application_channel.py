"""Control channel of an application: requests, responses, notifications, failures.

The test holds the application's end of the channel. Real applications are at the end
of the file.
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

from chimirror.control import application_channel, connection, controller, gateway, peer
from chimirror.control.application_channel import MAX_PENDING
from chimirror.io.session_socket import SessionSocket
from chimirror.io.write_buffer import HIGH
from chimirror.protocol.jsonrpc import MAX_LINE
from chimirror.session.connection import OPEN
from control_clients import authorized
from control_requests import ControlSocketClient, request
from json_texts import ODD_VALUES, REFUSED_VALUES, shorten
from serve import ServiceFactory, activated, preloading, server, zygote
from session_harness import SESSION_ID, SessionHarness
from websocket_peer import Closed, Peer, stdin, text


class Application(ControlSocketClient):
    """The application's end of its control channel."""

    def send(self, **message: object) -> None:
        line = json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n"
        while line:
            line = line[self.connection.send(line) :]
            self.harness.settle()


class ControlledSession:
    """A session with a control channel, and its other control peers."""

    def __init__(self, harness: SessionHarness, path: Path) -> None:
        self.harness = harness
        self.path = path
        self.server = harness.control.listen(SessionSocket(str(path), 0o600))
        harness.open("stdio")
        harness.peer.message()
        assert harness.application.channel is not None
        self.application = Application(harness, harness.application.channel)
        self.clients: list[ControlSocketClient] = []

    def authorized_client(self) -> ControlSocketClient:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self.path))
        client = ControlSocketClient(self.harness, connection)
        self.clients.append(client)
        assert client.ask("authorize", session=SESSION_ID) == {}
        return client

    def close(self) -> None:
        self.server.close()
        for client in self.clients:
            client.connection.close()

    def assert_data_flows(self) -> None:
        """Check that the data of the session still flows."""
        self.harness.say(text(stdin(b"a")))
        assert self.harness.application.read_stdin() == b"a"
        assert self.harness.session.connection.state == OPEN


@contextmanager
def opened(path: Path, *options: str) -> Iterator[ControlledSession]:
    with SessionHarness("--ping-interval=off", "--control", *options) as harness:
        controlled = ControlledSession(harness, path / "control")
        try:
            yield controlled
        finally:
            controlled.close()
    assert not harness.control.controllers


@pytest.fixture
def controlled(tmp_path: Path) -> Iterator[ControlledSession]:
    with opened(tmp_path) as found:
        yield found


def test_no_channel_without_the_option() -> None:
    with SessionHarness() as harness:
        harness.open()
        assert harness.application.channel is None
        assert harness.session.process.control_fd == -1


# Requests of the application


def test_application_controls_its_own_session(
    controlled: ControlledSession,
) -> None:
    assert not controlled.harness.control.controllers
    assert controlled.application.ask("status")["id"] == SESSION_ID
    assert controlled.application.ask("pause", streams=["stdin"]) == {
        "paused": ["stdin"]
    }
    assert controlled.application.ask("subscribe", interval=1)["paused"] == ["stdin"]
    controlled.harness.say(text(stdin(b"a")))
    controlled.harness.wait(1.1)
    assert controlled.application.read()[0]["params"]["backlog_in"] == 1
    assert controlled.application.ask("resume") == {"paused": []}
    assert controlled.application.ask("dance") == -32601
    assert controlled.application.ask("authorize", session=SESSION_ID) == -32601
    assert controlled.application.ask("sessions") == -32601


def test_application_closes_its_session(controlled: ControlledSession) -> None:
    assert controlled.application.ask("close") == {}
    assert controlled.harness.peer.transcript(wait=False).closed == Closed(
        1000, "closed"
    )


def test_notification_of_a_known_method_is_performed(
    controlled: ControlledSession,
) -> None:
    client = controlled.authorized_client()
    controlled.application.send(method="pause", params={"streams": ["stdout"]})
    assert client.ask("status")["paused"] == ["stdout"]


# Requests to the application


def test_unknown_methods_are_forwarded(controlled: ControlledSession) -> None:
    client, other = controlled.authorized_client(), controlled.authorized_client()
    for one, name in ((client, "a"), (other, "b")):
        call = {"jsonrpc": "2.0", "id": name, "method": "reset", "params": [name]}
        one.say(json.dumps(call).encode() + b"\n")
    first, second = controlled.application.read()
    assert (first["method"], first["params"]) == ("reset", ["a"])
    assert first["id"] != second["id"]
    error = {"code": 7, "message": "not now", "data": [1]}
    controlled.application.send(id=second["id"], error=error)
    controlled.application.send(id=first["id"], result={"position": 0})
    assert client.read() == [{"jsonrpc": "2.0", "id": "a", "result": {"position": 0}}]
    assert other.read() == [{"jsonrpc": "2.0", "id": "b", "error": error}]


def test_notifications_in_both_directions(controlled: ControlledSession) -> None:
    clients = [controlled.authorized_client(), controlled.authorized_client()]
    clients[0].say(b'{"jsonrpc":"2.0","method":"hurry","params":{"x":1}}\n')
    (message,) = controlled.application.read()
    assert message == {"jsonrpc": "2.0", "method": "hurry", "params": {"x": 1}}
    controlled.application.send(method="progress", params={"percent": 10})
    for client in clients:
        assert client.read() == [
            {"jsonrpc": "2.0", "method": "progress", "params": {"percent": 10}}
        ]
    assert controlled.application.read() == []


def test_batch_waits_for_its_last_response(controlled: ControlledSession) -> None:
    client = controlled.authorized_client()
    calls = [json.loads(request("reset")), json.loads(request("pause", streams=[]))]
    calls.append({"jsonrpc": "2.0", "method": "hurry"})
    client.say(json.dumps(calls).encode() + b"\n")
    assert client.read() == []
    reset, hurry = controlled.application.read()
    assert hurry["method"] == "hurry"
    controlled.application.send(id=reset["id"], result=1)
    ((first, second),) = client.read()
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
def test_invalid_responses(
    controlled: ControlledSession, answer: dict[str, Any]
) -> None:
    client = controlled.authorized_client()
    client.say(request("reset"))
    controlled.application.send(id=controlled.application.read()[0]["id"], **answer)
    assert client.read()[0]["error"]["code"] == -32603


@pytest.mark.parametrize("value", ODD_VALUES, ids=shorten)
def test_values_are_relayed_as_they_came(
    controlled: ControlledSession, value: bytes
) -> None:
    """Params, results, error data and notifications."""
    client, application = controlled.authorized_client(), controlled.application
    client.say_all(
        b'{"jsonrpc":"2.0","id":18446744073709551616,"method":"f","params":[%b]}\n'
        % value
    )
    line = b'{"jsonrpc":"2.0","id":%d,"method":"f","params":[%b]}'
    assert application.read_lines() == [line % (1, value)]
    application.say_all(b'{"jsonrpc":"2.0","id":1,"result":%b}\n' % value)
    line = b'{"jsonrpc":"2.0","id":18446744073709551616,"result":%b}'
    assert client.read_lines() == [line % value]
    client.say(request("f"))
    application.read_lines()
    error = b'"error":{"code":1,"message":"","data":%b}' % value
    application.say_all(b'{"id":2,%b}\n' % error)
    assert client.read_lines() == [b'{"jsonrpc":"2.0","id":1,%b}' % error]
    application.say_all(b'{"jsonrpc":"2.0","method":"n","params":[%b]}\n' % value)
    line = b'{"jsonrpc":"2.0","method":"n","params":[%b]}'
    assert client.read_lines() == [line % value]
    controlled.assert_data_flows()


@pytest.mark.parametrize(
    "value", [*REFUSED_VALUES, b'"%b"' % (b"x" * (1 << 20))], ids=shorten
)
def test_refused_responses(controlled: ControlledSession, value: bytes) -> None:
    """The requester has an answer, the application an error, and both go on."""
    client, application = controlled.authorized_client(), controlled.application
    client.say(request("f"))
    (call,) = application.read()
    application.say_all(
        b'{"jsonrpc":"2.0","id":%d,"result":%b}\n' % (call["id"], value)
    )
    (answer,) = client.read()
    assert (answer["id"], answer["error"]["code"]) == (1, -32603)
    (failure,) = application.read()
    assert failure["id"] == call["id"]
    assert failure["error"]["code"] in (-32700, -32600)
    client.say(request("f"))
    application.send(id=application.read()[0]["id"], result=5)
    assert client.read()[0]["result"] == 5


def test_batch_of_responses(controlled: ControlledSession) -> None:
    client, application = controlled.authorized_client(), controlled.application
    client.say(request("f") * 2)
    first, second = application.read()
    answers = [{"id": call["id"], "result": 5} for call in (second, first)]
    application.say(json.dumps(answers).encode() + b"\n")
    assert [one["result"] for one in client.read()] == [5, 5]
    application.say(b"[]\n[{}]\n")
    empty, (wrong,) = application.read()
    assert (empty["error"]["code"], wrong["error"]["code"]) == (-32600, -32600)


def test_unreadable_line_answers_all_requests(controlled: ControlledSession) -> None:
    client, application = controlled.authorized_client(), controlled.application
    client.say(request("f") * 2)
    application.read()
    application.say(b"Traceback (most recent call last):\n")
    assert [one["error"]["code"] for one in client.read()] == [-32603] * 2
    client.say(request("f"))
    application.send(id=application.read()[-1]["id"], result=5)
    assert client.read()[0]["result"] == 5


def test_unexpected_responses(controlled: ControlledSession) -> None:
    client = controlled.authorized_client()
    client.say(request("reset"))
    number = controlled.application.read()[0]["id"]
    for wrong in (number + 1, str(number), None, True):
        controlled.application.send(id=wrong, result=1)
    controlled.application.send(id=number, result=2)
    controlled.application.send(id=number, result=3)
    assert [one["result"] for one in client.read()] == [2]
    client.say(request("reset"))
    client.connection.close()
    controlled.harness.settle()
    controlled.application.send(id=number + 1, result=4)
    controlled.assert_data_flows()


def test_requests_of_a_disconnected_peer_are_dropped(
    controlled: ControlledSession,
) -> None:
    for _ in range(3 * MAX_PENDING):
        client = controlled.authorized_client()
        client.say(request("reset"))
        client.connection.close()
        controlled.harness.settle()
    controlled.authorized_client().say(request("reset"))
    assert len(controlled.application.read()) == 3 * MAX_PENDING + 1


# Failures


def test_pending_requests_are_limited(controlled: ControlledSession) -> None:
    client, other = controlled.authorized_client(), controlled.authorized_client()
    for _ in range(MAX_PENDING):
        client.say(request("reset"))
    assert client.ask("reset") == -32000
    assert client.ask("status")["id"] == SESSION_ID
    other.say(request("reset"))
    assert len(controlled.application.read()) == MAX_PENDING + 1


@pytest.mark.parametrize(
    "module", [connection, gateway, peer, controller, application_channel]
)
def test_no_module_keeps_an_exception(module: ModuleType) -> None:
    """An exception that is raised repeatedly would keep the frames of every raise."""
    kept = [one for one in vars(module).values() if isinstance(one, BaseException)]
    assert not kept


def test_application_that_does_not_read(controlled: ControlledSession) -> None:
    client = controlled.authorized_client()
    long = "x" * 60_000
    answers: list[Any] = []
    for _ in range(100):
        line = json.dumps({"jsonrpc": "2.0", "method": "hurry", "params": [long]})
        rest = line.encode() + b"\n"
        while rest:
            rest = rest[client.connection.send(rest) :]
            controlled.harness.settle()
        answers += client.read()
    assert client.ask("reset") == -32000
    (found_controller,) = controlled.harness.control.controllers.values()
    assert found_controller._application_channel is not None
    assert found_controller._application_channel.queued_bytes < HIGH + (1 << 17)
    controlled.assert_data_flows()


def test_application_closes_its_channel(controlled: ControlledSession) -> None:
    client = controlled.authorized_client()
    client.say(request("reset"))
    controlled.application.connection.close()
    controlled.harness.settle()
    assert client.read()[0]["error"]["code"] == -32000
    assert client.ask("reset") == -32601
    assert client.ask("status")["id"] == SESSION_ID
    controlled.assert_data_flows()


def test_application_closes_its_unused_channel(controlled: ControlledSession) -> None:
    controlled.application.connection.close()
    controlled.harness.settle()
    assert not controlled.harness.control.controllers
    controlled.assert_data_flows()


def test_flood_disconnects_peers_that_do_not_read(
    controlled: ControlledSession,
) -> None:
    client, idle_client = controlled.authorized_client(), controlled.authorized_client()
    idle_client.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    (found_controller,) = controlled.harness.control.controllers.values()
    received = 0
    while len(found_controller.peers) == 2:
        controlled.application.send(method="progress", params=["x" * 1000])
        received += len(client.read())
    assert received > 100
    assert client.ask("status")["id"] == SESSION_ID
    controlled.assert_data_flows()


def test_flood_of_requests_pauses_reading(controlled: ControlledSession) -> None:
    """An application that reads no responses is not read any further."""
    sent = 0
    try:
        while sent < 1 << 24:
            sent += controlled.application.connection.send(request("status") * 100)
            controlled.harness.settle()
    except BlockingIOError:
        pass
    assert sent < 1 << 23
    controlled.assert_data_flows()


@pytest.mark.parametrize(
    "data", [b"\x00\n", b"{}\n", b"[]\n", b"7\n", b'"\n', b"[{}]\n", b"\n"]
)
def test_invalid_messages(controlled: ControlledSession, data: bytes) -> None:
    controlled.application.say(data * 3)
    answers = controlled.application.read()
    codes = {
        one["error"]["code"]
        for answer in answers
        for one in (answer if isinstance(answer, list) else [answer])
    }
    assert codes <= {-32700, -32600}
    assert controlled.application.ask("status")["id"] == SESSION_ID
    controlled.assert_data_flows()


def test_endless_line_closes_the_channel(controlled: ControlledSession) -> None:
    client = controlled.authorized_client()
    for _ in range(9):
        with suppress(BrokenPipeError):
            controlled.application.say(b"x" * (MAX_LINE // 8))
    assert client.ask("reset") == -32601
    controlled.assert_data_flows()


def test_internal_error_closes_only_the_channel(
    controlled: ControlledSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise RuntimeError("bug")

    monkeypatch.setattr("chimirror.control.controller.SessionController.status", fail)
    controlled.application.say(request("status"))
    assert controlled.application.read() == [None]
    assert controlled.harness.event_log.of("note")
    controlled.assert_data_flows()


def test_exit_disconnects_peers(controlled: ControlledSession) -> None:
    client = controlled.authorized_client()
    controlled.harness.exit(3)
    assert controlled.harness.peer.transcript(wait=False).closed == Closed(
        1011, "exit 3"
    )
    controlled.harness.peer.close()
    controlled.harness.settle()
    assert client.read() == [None]


# Real applications

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
        call = json.loads(line)
        before, position = position, 0
        for message in (
            {"id": call["id"], "result": {"was": before}},
            {"method": "moved", "params": {"to": 0}},
        ):
            control.sendall(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\\n")

if __name__ == "__main__":
    main()
"""
SCRIPT = [sys.executable, "-c", COUNTER]


def check_counter(connect: Callable[[], socket.socket], target: str = "/") -> None:
    """Reset a session of the program above over its control connections."""
    with Peer(connect()) as peer:
        assert peer.open(target, framing="stdio").status == 101
        hello = peer.message()
        assert peer.output(3) == b"up\n"
        peer.send(stdin(b"x\n" * 3))
        assert peer.output(6) == b"1\n2\n3\n"
        found_controller = (connect, hello, target)
        with (
            authorized(*found_controller) as client,
            authorized(*found_controller) as other,
        ):
            assert client.ask("reset") == {"was": 3}
            for one in (client, other):
                assert one.peer.message()["params"] == {"to": 0}
        peer.send(stdin(b"x\n"))
        assert peer.output(2) == b"1\n"
        peer.send({"type": "eof"})
        assert peer.transcript().closed == Closed(1000, "exit 0")


@pytest.mark.usefixtures("sessions_directory")
@pytest.mark.parametrize("stderr", ["client", "discard"])
@pytest.mark.parametrize("way", [server, activated])
def test_real_applications(tmp_path: Path, way: ServiceFactory, stderr: str) -> None:
    with way(tmp_path, SCRIPT, "--control", "--stderr", stderr) as service:
        check_counter(service.connect)
        check_counter(service.connect)


@pytest.mark.usefixtures("sessions_directory")
@pytest.mark.parametrize("stderr", ["client", "discard"])
def test_preloaded_application(tmp_path: Path, stderr: str) -> None:
    (tmp_path / "counter.py").write_text(COUNTER)
    options = ("--control", "--stderr", stderr, "--workers=1")
    with preloading(tmp_path, "counter:main", *options) as service:
        check_counter(service.connect)
        check_counter(service.connect)


@pytest.mark.usefixtures("sessions_directory")
def test_option_in_application_files(tmp_path: Path) -> None:
    """The option of a file may change while its application is served."""
    file = tmp_path / "counter.toml"
    command = f"command = {json.dumps(SCRIPT)}\n"
    file.write_text(f"{command}control = true\n")
    with server(tmp_path, [], "--apps", str(tmp_path), "--workers=1") as service:
        check_counter(service.connect, "/counter")
        file.write_text('command = ["cat"]\n')
        with Peer(service.connect()) as peer:
            assert peer.open("/counter", framing="stdio").status == 101
            with authorized(service.connect, peer.message(), "/counter") as client:
                assert client.ask("reset") == -32601


def test_zygote_client_may_request_a_channel(tmp_path: Path) -> None:
    """The channel is the last descriptor, for any program."""
    program = ("--", "sh", "-c", 'echo "$CHIMIRROR_CONTROL_FD"; cat <&3 >&3')
    with zygote(tmp_path, *program) as service:
        for stderr in (True, False):
            link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with link:
                link.settimeout(30)
                link.connect(str(service.address))
                call = {"start": 1, "stderr": stderr, "control": True}
                link.send(json.dumps(call).encode())
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
