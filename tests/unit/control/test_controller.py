"""Control of one session: authorization, methods, limits, and no effect on its data.

Sessions have fake time, and clients connect over a Unix socket. WebSockets are in
test_gateway. Real servers and bridges are in tests/programs/test_control.py.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chimirror.control import server
from chimirror.control.connection import MAX_FIRST_LINE
from chimirror.control.controller import MAX_PEERS
from chimirror.control.server import MAX_UNAUTHORIZED, MAX_UNAUTHORIZED_PER_USER
from chimirror.io.write_buffer import HIGH
from chimirror.process.application_process import ApplicationProcess
from chimirror.protocol.jsonrpc import MAX_BATCH, MAX_LINE
from chimirror.resources.responder import build_manifest
from control_requests import ControlSocketClient, request
from controlled_session import OTHER_USER, ControlledSession, opened
from session_harness import SESSION_ID, SessionHarness
from websocket_peer import Closed, stdin, text

STATUS = {
    "id": SESSION_ID,
    "application": "",
    "framing": "stdio",
    "state": "open",
    "bytes_in": 0,
    "bytes_out": 79,
    "messages_in": 0,
    "messages_out": 1,
    "age": 0.0,
    "backlog_in": 0,
    "backlog_out": 0,
    "paused": [],
}


@pytest.fixture
def controlled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ControlledSession]:
    with opened(tmp_path, monkeypatch) as found:
        yield found


# Authorization


@pytest.mark.parametrize("method", ["drain", "undrain"])
def test_a_bridge_cannot_be_drained(controlled: ControlledSession, method: str) -> None:
    assert controlled.connect().ask(method) == -32601


def test_same_user_needs_no_secret(controlled: ControlledSession) -> None:
    client = controlled.connect()
    assert client.ask("authorize", session=SESSION_ID) == {}
    assert client.ask("pause") == {"paused": ["stdin", "stdout", "stderr"]}
    assert client.ask("resume") == {"paused": []}


def test_other_users_need_the_secret(controlled: ControlledSession) -> None:
    assert controlled.authorized_client().ask("pause", streams=[]) == {"paused": []}


def test_a_client_that_only_watches_sends_no_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path, monkeypatch, "--read-only") as controlled:
        client = controlled.authorized_client()
        assert client.ask("signal", name="INT") == -32001
        assert not controlled.harness.application.signals
        local = controlled.connect()
        local.ask("authorize", session=SESSION_ID)
        assert local.ask("signal", name="INT") == {}


@pytest.mark.parametrize(
    ("session", "secret"),
    [
        (SESSION_ID, None),
        (SESSION_ID, "0." + "0" * 32),
        (SESSION_ID, ""),
        (SESSION_ID, 7),
        ("f" * 32, "right"),
        (7, "right"),
        (None, None),
    ],
)
def test_wrong_credentials_get_one_error_and_a_disconnect(
    controlled: ControlledSession, session: object, secret: object
) -> None:
    client = controlled.connect(OTHER_USER)
    credentials = {"session": session, "secret": secret}
    if secret == "right":
        credentials["secret"] = controlled.secret
    given = {name: value for name, value in credentials.items() if value is not None}
    again = request("authorize", session=SESSION_ID, secret=controlled.secret)
    client.say(request("authorize", **given) + again)
    assert client.read() == [
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


def test_wrong_secret_is_rejected_for_the_same_user(
    controlled: ControlledSession,
) -> None:
    """A gateway runs as the same user, so it must pass on the secret of its client."""
    client = controlled.connect()
    assert client.ask("authorize", session=SESSION_ID, secret="0.1") == -32001


def test_batch_is_one_attempt(controlled: ControlledSession) -> None:
    client = controlled.connect(OTHER_USER)
    guesses = [
        json.loads(request("authorize", session=SESSION_ID, secret=secret))
        for secret in ("0.1", controlled.secret)
    ]
    client.say(json.dumps(guesses).encode() + b"\n")
    answers, end = client.read()
    assert [one["error"]["code"] for one in answers] == [-32001, -32001]
    assert end is None


def test_session_before_its_101_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SessionHarness() as harness:
        controlled = ControlledSession(harness, tmp_path)
        monkeypatch.setattr(server, "peer_uid", lambda _handle: controlled.uid)
        client = controlled.connect()
        assert client.ask("authorize", session=SESSION_ID) == -32001
        client.connection.close()
        controlled.server.close()


def test_other_users_begin_with_authorize(controlled: ControlledSession) -> None:
    client = controlled.connect(OTHER_USER)
    client.say(request("sessions"))
    answer, end = client.read()
    assert (answer["error"]["code"], end) == (-32001, None)


def test_authorization_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path, monkeypatch, "--handshake-timeout=3") as controlled:
        unauthorized, client, own = (
            controlled.connect(OTHER_USER),
            controlled.authorized_client(),
            controlled.connect(),
        )
        controlled.harness.wait(2.9)
        assert unauthorized.read() == []
        controlled.harness.wait(0.2)
        assert unauthorized.read() == [None]
        controlled.harness.wait(100)
        assert client.read() == own.read() == []


def test_oldest_unauthorized_client_gives_way(controlled: ControlledSession) -> None:
    """A user has a share, and authorized clients do not count."""
    authorized = controlled.authorized_client()
    most = MAX_UNAUTHORIZED_PER_USER
    clients = [controlled.connect(OTHER_USER) for _ in range(most + 2)]
    assert [one.read() for one in clients] == [[None]] * 2 + [[]] * most
    other = controlled.connect(OTHER_USER + 1)
    assert other.read() == clients[2].read() == authorized.read() == []
    assert controlled.connect().ask("status") == {"sessions": 1, "connecting": 0}


def test_own_users_leave_no_more_than_the_limit(controlled: ControlledSession) -> None:
    clients = [controlled.connect() for _ in range(MAX_UNAUTHORIZED + 1)]
    assert [one.read() for one in clients] == [[None]] + [[]] * MAX_UNAUTHORIZED


def test_first_line_is_short(controlled: ControlledSession) -> None:
    """A client without authorization may not fill our memory."""
    client, own = controlled.connect(OTHER_USER), controlled.connect()
    authorized = controlled.authorized_client()
    for one in (client, own, authorized):
        one.connection.setblocking(False)
        one.connection.send(b" " * (MAX_FIRST_LINE + 1))
        controlled.harness.settle()
    answer, end = client.read()
    assert (answer["error"]["code"], end) == (-32600, None)
    assert own.read() == authorized.read() == []


def test_control_peers_are_limited(controlled: ControlledSession) -> None:
    peers = [controlled.authorized_client() for _ in range(MAX_PEERS)]
    fifth = controlled.connect(OTHER_USER)
    fifth.say(request("authorize", session=SESSION_ID, secret=controlled.secret))
    answer, end = fifth.read()
    assert (answer["error"]["code"], end) == (-32000, None)
    own = controlled.connect()
    assert own.ask("authorize", session=SESSION_ID) == {}, "it is counted by itself"
    peers[0].connection.close()
    controlled.harness.settle()
    controlled.authorized_client()


def test_control_peer_cannot_query_other_sessions(
    controlled: ControlledSession,
) -> None:
    client = controlled.connect()
    assert client.ask("sessions")["more"] is False
    assert client.ask("authorize", session=SESSION_ID) == {}
    assert client.ask("sessions") == -32601
    assert client.ask("kill", ids=[SESSION_ID]) == -32601
    assert client.ask("authorize", session=SESSION_ID) == -32601


def test_a_command_line_that_is_not_utf8(controlled: ControlledSession) -> None:
    controlled.harness.session.application.command = "cat \udcff"
    (session,) = controlled.connect().ask("sessions")["sessions"]
    assert session["command"] == "cat \udcff"


def test_a_line_that_is_too_long_is_answered(controlled: ControlledSession) -> None:
    client = controlled.connect()
    line = b'{"jsonrpc":"2.0","id":"x","method":"status","params":["'
    for _ in range(MAX_LINE // 4096 + 1):
        client.say(line)
        line = b"x" * 4096
    answer, end = client.read()
    assert (answer["id"], answer["error"]["code"], end) == ("x", -32600, None)


# Methods


def test_status(controlled: ControlledSession) -> None:
    client = controlled.authorized_client()
    assert client.ask("status") == STATUS
    controlled.harness.session.process.pause(1)
    controlled.harness.say(text(stdin(b"abc")))
    controlled.harness.wait(2)
    found = client.ask("status")
    assert (found["backlog_in"], found["paused"]) == (3, ["stdin"])
    assert (found["messages_in"], found["age"]) == (1, 2)


def test_manifest_equals_that_of_the_endpoint(controlled: ControlledSession) -> None:
    found = controlled.authorized_client().ask("manifest")
    assert found == build_manifest(controlled.harness.session.application)
    assert found["asyncapi"] == "3.0.0"


def test_pausing_by_name(controlled: ControlledSession) -> None:
    client = controlled.authorized_client()
    assert client.ask("pause", streams=["stdout"]) == {"paused": ["stdout"]}
    twice = ["stdin", "stdin"]
    assert client.ask("pause", streams=twice) == {"paused": ["stdin", "stdout"]}
    assert client.ask("resume", streams=["stdout"]) == {"paused": ["stdin"]}
    client.connection.close()
    controlled.harness.settle()
    assert controlled.authorized_client().ask("status")["paused"] == ["stdin"], (
        "it stays so"
    )


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
def test_wrong_params(
    controlled: ControlledSession, method: str, params: dict[str, Any]
) -> None:
    assert controlled.authorized_client().ask(method, **params) == -32602


def test_params_by_position_are_rejected(controlled: ControlledSession) -> None:
    client = controlled.authorized_client()
    client.say(b'{"jsonrpc":"2.0","id":1,"method":"pause","params":["stdout"]}\n')
    assert client.read()[0]["error"]["code"] == -32602


def test_signal(controlled: ControlledSession) -> None:
    assert controlled.authorized_client().ask("signal", name="USR1") == {}
    assert controlled.harness.application.signals == [10]


def test_close(controlled: ControlledSession) -> None:
    client = controlled.authorized_client()
    assert client.ask("close") == {}
    assert controlled.harness.peer.transcript(wait=False).closed == Closed(
        1000, "closed"
    )
    controlled.harness.peer.close()
    controlled.harness.exit()
    assert client.read() == [None]


def test_unknown_method_without_a_channel(controlled: ControlledSession) -> None:
    assert controlled.authorized_client().ask("reset") == -32601


def test_batch_and_notification(controlled: ControlledSession) -> None:
    client = controlled.authorized_client()
    batch = [
        {"jsonrpc": "2.0", "method": "pause", "params": {"streams": ["stderr"]}},
        {"jsonrpc": "2.0", "id": "a", "method": "status"},
    ]
    client.say(json.dumps(batch).encode() + b"\n")
    ((answer,),) = client.read()
    assert (answer["id"], answer["result"]["paused"]) == ("a", ["stderr"])


# Subscriptions


def test_subscriber_gets_only_changes(controlled: ControlledSession) -> None:
    client = controlled.authorized_client()
    assert client.ask("subscribe", interval=2.0)["messages_in"] == 0
    controlled.harness.wait(10)
    assert client.read() == []
    controlled.harness.say(text(stdin(b"a")))
    controlled.harness.wait(2.1)
    (message,) = client.read()
    assert (message["method"], message["params"]["messages_in"]) == ("status", 1)
    assert "id" not in message
    controlled.harness.session.process.pause(2)
    controlled.harness.wait(2.1)
    assert client.read()[0]["params"]["paused"] == ["stdout"]
    assert client.ask("unsubscribe") == {}
    controlled.harness.say(text(stdin(b"a")))
    controlled.harness.wait(10)
    assert client.read() == []


def test_subscriber_that_does_not_read_is_disconnected(
    controlled: ControlledSession,
) -> None:
    client = controlled.authorized_client()
    client.ask("subscribe", interval=0.1)
    client.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    (connection,) = controlled.server.connections
    backlogs = [0]
    while controlled.server.connections:
        controlled.harness.say(text(stdin(b"a")))
        controlled.harness.wait(0.11)
        backlogs.append(connection.queued_bytes)
    assert HIGH < max(backlogs) < HIGH + 4096


# Floods


def fill(client: ControlSocketClient, data: bytes) -> int:
    sent = 0
    try:
        while sent < 1 << 24:
            sent += client.connection.send(data)
            client.harness.settle()
    except BlockingIOError:
        pass
    return sent


def test_unread_responses_pause_reading(
    controlled: ControlledSession,
) -> None:
    client = controlled.authorized_client()
    sent = fill(client, request("status") * 1000)
    assert sent < 1 << 22
    (connection,) = controlled.server.connections
    assert HIGH < connection.queued_bytes < HIGH + (1 << 16)
    answers = 0
    while answers * len(request("status")) < sent - len(request("status")):
        answers += len(client.read())
    assert controlled.harness.peer.socket.fileno() >= 0


def too_long(client: ControlSocketClient) -> None:
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        fill(client, b"x" * 10_000)


def half(client: ControlSocketClient) -> None:
    client.say(request("pause")[:30])
    client.connection.close()


def silent(client: ControlSocketClient) -> None:
    client.connection.shutdown(socket.SHUT_WR)


def nonsense(client: ControlSocketClient) -> None:
    client.say(b"\xff\x00\n{}\n[]\n" * 1000)
    client.connection.close()


@pytest.mark.parametrize("act", [too_long, half, silent, nonsense])
@pytest.mark.parametrize(
    "begin", [ControlledSession.authorized_client, ControlledSession.connect]
)
def test_misbehaving_clients_do_not_affect_the_session(
    controlled: ControlledSession,
    act: Callable[[ControlSocketClient], None],
    begin: Callable[[ControlledSession], ControlSocketClient],
) -> None:
    act(begin(controlled))
    controlled.harness.settle()
    assert not controlled.server.connections
    assert controlled.harness.session.process.paused == 0
    controlled.harness.say(text(stdin(b"a")))
    assert controlled.harness.application.read_stdin() == b"a"


def test_longest_line_and_batch(controlled: ControlledSession) -> None:
    client = controlled.authorized_client()
    line = request("pause", streams=[], x="x" * (MAX_LINE - 100))
    while line:
        line = line[client.connection.send(line) :]
        controlled.harness.settle()
    assert client.read()[0]["result"] == {"paused": []}
    for count, answers in ((MAX_BATCH, MAX_BATCH), (MAX_BATCH + 1, 1)):
        client.say(json.dumps([json.loads(request("x"))] * count).encode() + b"\n")
        (message,) = client.read()
        assert len(message if isinstance(message, list) else [message]) == answers


def test_internal_error_closes_one_control_connection(
    controlled: ControlledSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise RuntimeError("bug")

    client = controlled.authorized_client()
    monkeypatch.setattr(ApplicationProcess, "pause", fail)
    client.say(request("pause"))
    assert client.read() == [None]
    (note,) = controlled.harness.event_log.of("note")
    assert note["text"] == "internal error in session 01234567: RuntimeError: bug"
    controlled.harness.say(text(stdin(b"a")))
    assert controlled.harness.application.read_stdin() == b"a"
