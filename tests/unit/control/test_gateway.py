"""Control WebSockets: the gateway between a client and the session's control socket.

Session, control server, gateway and client share one loop. The test decides on place
and time of the socket. Methods are tested in test_controller.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from chimirror.control import gateway, upstream
from chimirror.control.controller import MAX_PEERS
from chimirror.control.gateway import (
    AUTHORIZE_DELAY,
    BUSY_WORKER,
    MAX_FIRST_MESSAGE,
)
from chimirror.control.server import ControlServer
from chimirror.io.session_socket import SessionSocket
from chimirror.io.write_buffer import HIGH
from chimirror.protocol import DRAIN
from chimirror.protocol.jsonrpc import BUSY, MAX_LINE
from chimirror.session import Peer as Address
from chimirror.session import SessionContext, session_secret
from chimirror.session.connection import CLOSED, RESPONSE_TIMEOUT
from chimirror.session.session import Session
from session_harness import SESSION_ID, SessionHarness
from websocket_peer import (
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

WRONG = "no such session, or not its secret"
FIELDS = {False: ("Remote-User: ann",)}  # of a client that has to have a name


class ControllableContext(SessionContext):
    """Context with a control socket at a path of the test."""

    __slots__ = ()
    path = ""

    def supports_control(self) -> bool:
        return bool(self.path)

    def control_path(self, identity: str, secret: str) -> str | None:
        return (
            self.path
            if session_secret.worker_number(secret) == 0 and identity
            else None
        )


class ControlledSession:
    """A session with its control server and control WebSockets."""

    def __init__(self, harness: SessionHarness, path: Path) -> None:
        self.harness = harness
        self.path = path
        self.server: ControlServer | None = None
        self.peers: list[Peer] = []
        harness.open("stdio", *FIELDS.get(harness.context.access is None, ()))
        self.secret = harness.peer.message()["secret"]

    def listen(self) -> None:
        """Open the control socket of the session."""
        session_socket = SessionSocket(str(self.path), 0o600)
        self.server = self.harness.control.listen(session_socket)

    def connect(self, first: bytes = b"", fields: tuple[str, ...] = ()) -> Peer:
        """Open a control WebSocket."""
        peer = self.start()
        peer.send_raw(upgrade("/", "control", fields) + first)
        self.harness.settle()
        reply = peer.head()
        assert reply.fields["sec-websocket-protocol"] == "chimirror.control.v1"
        return peer

    def connect_slowly(self, seconds: float) -> Peer:
        """Open a control WebSocket. The request head arrives after a time."""
        peer = self.start()
        self.harness.wait(seconds)
        peer.send_raw(upgrade("/", "control", ()))
        self.harness.settle()
        peer.head()
        return peer

    def start(self) -> Peer:
        client_end, server_end = socket.socketpair()
        fd = server_end.detach()
        os.set_blocking(fd, False)
        name = f"{len(self.peers):032}"
        one = Session(self.harness.context, Address("192.0.2.9", 1), fd, fd, name)
        one.connection.start()
        peer = Peer(client_end)
        self.peers.append(peer)
        return peer

    def ask(self, peer: Peer, method: str, **params: object) -> Any:
        peer.send_raw(request(method, **params))
        self.harness.settle()
        answer = peer.message()
        assert (answer["jsonrpc"], answer["id"]) == ("2.0", 1)
        return answer.get("result", answer.get("error"))

    def authorized_client(self) -> Peer:
        peer = self.connect()
        credentials = {"session": SESSION_ID, "secret": self.secret}
        assert self.ask(peer, "authorize", **credentials) == {}
        return peer


def request(method: str, **params: object) -> bytes:
    return text({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})


def receive_raw(peer: Peer) -> bytes:
    """Receive a message that need not be an object."""
    got = peer.receive()
    assert isinstance(got, bytes)
    return got


@contextmanager
def opened(path: Path, *options: str) -> Iterator[ControlledSession]:
    ControllableContext.path = str(path / "control")
    with SessionHarness(
        "--ping-interval=off", *options, context_type=ControllableContext
    ) as harness:
        controlled = ControlledSession(harness, path / "control")
        yield controlled
        for peer in controlled.peers:
            peer.close()
        harness.settle()
        if controlled.server is not None:
            controlled.server.close()
        assert not harness.context.gateways
        assert not harness.context.handshakes
        assert not harness.context.responses
        assert not harness.context.connecting


@pytest.fixture
def controlled(tmp_path: Path) -> Iterator[ControlledSession]:
    with opened(tmp_path) as found:
        found.listen()
        yield found


# Relayed messages


def test_client_controls_its_session(controlled: ControlledSession) -> None:
    peer = controlled.authorized_client()
    service = controlled.harness.context
    assert (len(service.sessions), len(service.gateways)) == (1, 1)
    assert service.connecting == 0
    assert controlled.ask(peer, "pause", streams=["stdout"]) == {"paused": ["stdout"]}
    controlled.harness.print(b"later")
    assert controlled.ask(peer, "status")["paused"] == ["stdout"]
    assert controlled.ask(peer, "resume") == {"paused": []}
    controlled.harness.settle()
    assert controlled.harness.peer.output(5) == b"later"
    assert controlled.harness.application.started == 1, "none for the gateway"
    controlled.harness.wait(1)
    assert [kind for kind, _ in controlled.harness.event_log.records] == ["start"]


def test_a_client_controls_sessions_of_its_own_user_alone(tmp_path: Path) -> None:
    proxy = ("--trusted-proxy=192.0.2.0/24", "--user-header=Remote-User")
    with opened(tmp_path, *proxy, "--allow-anonymous") as controlled:
        controlled.listen()
        credentials = {"session": SESSION_ID, "secret": controlled.secret}
        for fields in (("Remote-User: bob",), ()):
            peer = controlled.connect(fields=fields)
            peer.send_raw(request("authorize", **credentials))
            controlled.harness.wait(AUTHORIZE_DELAY + 0.1)
            assert peer.message()["error"]["message"] == WRONG
        refused = controlled.harness.event_log.of("refused")
        assert [one.get("user") for one in refused] == ["bob", None]
        peer = controlled.connect(fields=("Remote-User: ann",))
        assert controlled.ask(peer, "authorize", **credentials) == {}


def test_a_control_socket_with_a_full_queue_is_busy(tmp_path: Path) -> None:
    with opened(tmp_path) as controlled, ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(controlled.path))
        listener.listen(0)
        for _ in range(2):  # the second one finds no room
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            client.connect_ex(str(controlled.path))
        peer = controlled.connect()
        credentials = {"session": SESSION_ID, "secret": controlled.secret}
        peer.send_raw(request("authorize", **credentials))
        controlled.harness.wait(AUTHORIZE_DELAY + 0.1)
        assert peer.message()["error"] == {"code": BUSY, "message": BUSY_WORKER}


def test_first_messages_may_arrive_together(controlled: ControlledSession) -> None:
    credentials = {"session": SESSION_ID, "secret": controlled.secret}
    first = request("authorize", **credentials) + request("pause") + request("status")
    peer = controlled.connect(first)
    answers = [peer.message()["result"] for _ in range(3)]
    assert answers[1] == {"paused": ["stdin", "stdout", "stderr"]}
    assert answers[2]["paused"] == ["stdin", "stdout", "stderr"]


def test_notifications_are_relayed(controlled: ControlledSession) -> None:
    peer = controlled.authorized_client()
    controlled.ask(peer, "subscribe", interval=1)
    controlled.harness.say(text(stdin(b"a")))
    controlled.harness.wait(1.1)
    assert peer.message()["params"]["messages_in"] == 1


def test_message_with_line_breaks(controlled: ControlledSession) -> None:
    peer = controlled.authorized_client()
    peer.send_raw(text(b'{"jsonrpc":"2.0",\r\n"id":7,\n"method":"status"}'))
    peer.send_raw(text(b'{"jsonrpc"\n"}\n{}'))
    peer.send_raw(text(b'{"id":8,\n"params":[NaN]}'))
    controlled.harness.settle()
    answers = {answer["id"]: answer for answer in [peer.message() for _ in range(3)]}
    assert answers[7]["result"]["id"] == SESSION_ID
    assert answers[None]["error"]["code"] == answers[8]["error"]["code"] == -32700
    assert controlled.ask(peer, "status")["id"] == SESSION_ID


# Authorization


@pytest.mark.parametrize(
    ("session", "secret"),
    [
        (SESSION_ID, "0." + "0" * 32),
        (SESSION_ID, "1." + "0" * 32),
        (SESSION_ID, ""),
        (SESSION_ID, "0"),
        (SESSION_ID, None),
        (SESSION_ID, ["right"]),
        ("f" * 32, "right"),
        ("../../etc/passwd", "right"),
        (None, "right"),
    ],
)
def test_wrong_credentials(
    controlled: ControlledSession, session: object, secret: object
) -> None:
    """Every wrong attempt gets the same error after the same time."""
    credentials = {"session": session, "secret": secret}
    if secret == "right":
        credentials["secret"] = controlled.secret
    peer = controlled.connect()
    peer.send_raw(request("authorize", **credentials) + request("status"))
    controlled.harness.wait(AUTHORIZE_DELAY - 0.1)
    assert controlled.harness.context.connecting == 1
    controlled.harness.wait(0.2)
    assert peer.message() == {
        "jsonrpc": "2.0",
        "id": 1,
        "error": {"code": -32001, "message": WRONG},
    }
    assert peer.receive() == Closed(1008, WRONG)
    (refused,) = controlled.harness.event_log.of("refused")
    assert (refused["peer"], refused["cause"]) == ("192.0.2.9:1", "control")
    assert refused["path"].startswith("/")
    is_named = isinstance(session, str) and isinstance(secret, str)
    assert refused["detail"] == (f"session {str(session)[:8]}: " * is_named) + WRONG


@pytest.mark.parametrize("first", ["status", "close", "sessions", "kill"])
def test_first_message_is_authorize(controlled: ControlledSession, first: str) -> None:
    peer = controlled.connect(request(first, ids=[SESSION_ID]))
    controlled.harness.wait(AUTHORIZE_DELAY + 0.1)
    assert peer.message()["error"]["code"] == -32001
    assert peer.receive() == Closed(1008, WRONG)
    assert SESSION_ID in controlled.harness.context.sessions


def test_user_of_the_gateway_is_not_trusted(controlled: ControlledSession) -> None:
    """The control server trusts its own user, but a gateway passes on no trust."""
    for call in (
        {"method": "authorize", "params": {"session": SESSION_ID}},
        {"method": "sessions", "params": {}},
    ):
        peer = controlled.connect(text({"jsonrpc": "2.0", "id": 1, **call}))
        controlled.harness.wait(AUTHORIZE_DELAY + 0.1)
        assert peer.message()["error"]["code"] == -32001


@pytest.mark.parametrize("message", [b"oops", b"[]", b"7", b"[1,2]", b"{}"])
def test_invalid_first_messages(controlled: ControlledSession, message: bytes) -> None:
    peer = controlled.connect(text(message))
    answer = json.loads(receive_raw(peer))
    answers = answer if isinstance(answer, list) else [answer]
    codes = [one["error"]["code"] for one in answers]
    assert set(codes) <= {-32700, -32600}
    assert peer.receive() == Closed(1008, "not authorized")


def test_message_is_short_until_authorized(controlled: ControlledSession) -> None:
    peer = controlled.connect()
    peer.send_raw(frame(1, b" " * (MAX_FIRST_MESSAGE + 1))[:100])
    controlled.harness.settle()
    assert peer.receive() == Closed(1009, "over 4096 bytes before authorize")
    assert not controlled.harness.context.connecting
    authorized = controlled.authorized_client()
    long = {"x": "y" * MAX_FIRST_MESSAGE}
    assert controlled.ask(authorized, "status", **long)["id"] == SESSION_ID


def test_messages_behind_the_first_wait(controlled: ControlledSession) -> None:
    """They are served in order after the authorization, a bounded number in one turn.

    Until then the connection holds them. It reads no more.
    """
    credentials = {"session": SESSION_ID, "secret": controlled.secret}
    first = request("authorize", **credentials)
    peer = controlled.connect(first + request("status") * 1000)
    assert peer.message()["result"] == {}
    for _ in range(1000):
        controlled.harness.settle()
        assert peer.message()["result"]["id"] == SESSION_ID


def test_refused_messages_behind_the_first(controlled: ControlledSession) -> None:
    peer = controlled.connect(request("authorize", session="x", secret="y") * 1000)
    controlled.harness.wait(AUTHORIZE_DELAY + 0.1)
    assert peer.message()["error"]["code"] == -32001
    assert isinstance(peer.receive(), Closed)


def test_head_and_authorization_share_one_timeout(tmp_path: Path) -> None:
    with opened(tmp_path, "--handshake-timeout=3") as controlled:
        peer = controlled.connect_slowly(2)
        controlled.harness.wait(1.1)
        assert peer.receive() == Closed(1008, "not authorized in time")


def test_gateway_counts_first_as_handshake_then_as_peer(
    controlled: ControlledSession,
) -> None:
    context = controlled.harness.context
    peer = controlled.connect()
    (gateway,) = context.handshakes
    credentials = {"session": SESSION_ID, "secret": controlled.secret}
    assert controlled.ask(peer, "authorize", **credentials) == {}
    assert not context.handshakes
    assert context.gateways == {gateway}
    peer.send_close()
    controlled.harness.settle()
    assert not context.gateways
    assert list(context.responses) == [gateway], "until the client closes"
    assert list(context.sessions) == [SESSION_ID]


def test_gateway_that_gives_way(controlled: ControlledSession) -> None:
    peer = controlled.connect()
    (one,) = controlled.harness.context.handshakes
    one.connection.abort()
    controlled.harness.settle()
    assert peer.receive() == Closed(NO_CLOSE, "")
    assert not controlled.harness.context.connecting


def test_no_room_for_gateways(
    controlled: ControlledSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SessionContext, "has_gateway_room", lambda _context: False)
    credentials = {"session": SESSION_ID, "secret": controlled.secret}
    peer = controlled.connect(request("authorize", **credentials))
    controlled.harness.wait(AUTHORIZE_DELAY + 0.1)
    assert peer.message()["error"]["code"] == -32000
    assert peer.receive() == Closed(1008, BUSY_WORKER)
    assert not controlled.harness.context.gateways


def test_closed_gateway_that_is_not_read_ends(tmp_path: Path) -> None:
    """The session is over, and the client takes nothing and answers nothing."""
    with opened(tmp_path) as controlled:
        controlled.listen()
        controlled.authorized_client()
        one = cast("Any", next(iter(controlled.harness.context.gateways)))
        one.connection.send([bytes(1 << 20)])
        one.on_upstream_lost()
        controlled.harness.wait(RESPONSE_TIMEOUT - 1)
        assert list(controlled.harness.context.responses) == [one]
        controlled.harness.wait(2)
        assert not controlled.harness.context.responses


def test_batch_is_one_attempt(controlled: ControlledSession) -> None:
    all_credentials = [
        {"session": SESSION_ID, "secret": "0.1"},
        {"session": SESSION_ID, "secret": controlled.secret},
    ]
    call = {"jsonrpc": "2.0", "id": 1, "method": "authorize"}
    peer = controlled.connect(
        text([{**call, "params": credentials} for credentials in all_credentials])
    )
    controlled.harness.wait(AUTHORIZE_DELAY + 0.1)
    answers = json.loads(receive_raw(peer))
    assert [one["error"]["code"] for one in answers] == [-32600, -32001]


def test_authorization_timeout(tmp_path: Path) -> None:
    with opened(tmp_path, "--handshake-timeout=3") as controlled:
        controlled.listen()
        peer, authorized = controlled.connect(), controlled.authorized_client()
        controlled.harness.wait(2.9)
        assert controlled.harness.context.connecting == 1
        controlled.harness.wait(0.2)
        assert peer.receive() == Closed(1008, "not authorized in time")
        controlled.harness.wait(100)
        assert controlled.ask(authorized, "status")["id"] == SESSION_ID


def test_control_peers_are_limited(controlled: ControlledSession) -> None:
    for _ in range(MAX_PEERS):
        controlled.authorized_client()
    peer = controlled.connect(
        request("authorize", session=SESSION_ID, secret=controlled.secret)
    )
    controlled.harness.wait(AUTHORIZE_DELAY + 0.1)
    assert peer.message()["error"]["code"] == -32000
    assert peer.receive() == Closed(1008, "4 control connections are there already")


def test_process_without_control_sockets(tmp_path: Path) -> None:
    ControllableContext.path = ""
    with SessionHarness(context_type=ControllableContext) as harness:
        harness.ask(upgrade("/", "control", ()))
        reply = harness.peer.refusal()
        assert (reply.status, reply.body) == (
            503,
            b"sessions of this endpoint cannot be controlled\n",
        )
    with SessionHarness(context_type=ControllableContext) as harness:
        harness.open("stdio")
        message = {"type": "session", "id": SESSION_ID, "direction": "both"}
        assert harness.peer.message() == message


# The control socket


def test_control_socket_appears_later(tmp_path: Path) -> None:
    with opened(tmp_path) as controlled:
        credentials = {"session": SESSION_ID, "secret": controlled.secret}
        peer = controlled.connect(request("authorize", **credentials))
        controlled.harness.wait(AUTHORIZE_DELAY - 0.2)
        controlled.listen()
        controlled.harness.wait(0.2)
        assert peer.message()["result"] == {}


def test_control_socket_never_appears(tmp_path: Path) -> None:
    with opened(tmp_path) as controlled:
        credentials = {"session": SESSION_ID, "secret": controlled.secret}
        peer = controlled.connect(request("authorize", **credentials))
        controlled.harness.wait(AUTHORIZE_DELAY + 0.2)
        assert peer.message()["error"]["message"] == WRONG


def test_control_path_is_not_a_socket(tmp_path: Path) -> None:
    with opened(tmp_path) as controlled:
        controlled.path.mkdir()
        credentials = {"session": SESSION_ID, "secret": controlled.secret}
        peer = controlled.connect(request("authorize", **credentials))
        controlled.harness.wait(AUTHORIZE_DELAY + 0.2)
        assert peer.message()["error"]["message"] == WRONG


def test_control_server_hangs_up(
    controlled: ControlledSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang_up(_server: ControlServer, fd: int, _address: object) -> None:
        os.close(fd)

    monkeypatch.setattr(ControlServer, "on_connection", hang_up)
    credentials = {"session": SESSION_ID, "secret": controlled.secret}
    peer = controlled.connect(request("authorize", **credentials))
    controlled.harness.wait(AUTHORIZE_DELAY + 0.1)
    assert peer.message()["error"]["message"] == WRONG


# Disconnects


def test_session_ends(controlled: ControlledSession) -> None:
    peer = controlled.authorized_client()
    controlled.harness.exit()
    assert controlled.harness.peer.transcript(wait=False).closed == Closed(
        1000, "exit 0"
    )
    controlled.harness.peer.close()
    controlled.harness.settle()
    assert peer.receive() == Closed(1000, "control over")


def sends_close(peer: Peer) -> None:
    peer.send_close(1000)


def disconnects(peer: Peer) -> None:
    peer.close()


def disconnects_within_a_frame(peer: Peer) -> None:
    peer.send_raw(request("pause")[:20])
    peer.close()


@pytest.mark.parametrize(
    "leave", [sends_close, disconnects, disconnects_within_a_frame]
)
@pytest.mark.parametrize("late", [False, True])
def test_client_disconnects(
    controlled: ControlledSession, leave: Callable[[Peer], None], late: bool
) -> None:
    peer = controlled.authorized_client() if late else controlled.connect()
    leave(peer)
    controlled.harness.settle()
    if leave is sends_close:
        assert peer.receive() == Closed(1000, "")
        peer.close()
        controlled.harness.settle()
    assert not controlled.harness.context.gateways
    assert not controlled.harness.control.controllers
    assert controlled.harness.session.process.paused == 0


def test_client_disconnects_during_authorization(controlled: ControlledSession) -> None:
    peer = controlled.connect(request("authorize", session=SESSION_ID, secret="0.1"))
    peer.close()
    controlled.harness.settle()
    assert not controlled.harness.context.gateways
    controlled.harness.wait(AUTHORIZE_DELAY + 1)
    assert not controlled.harness.event_log.of("refused")


def test_drain_and_abort(controlled: ControlledSession) -> None:
    for end in ("close", "abort"):
        peer = controlled.authorized_client()
        (one,) = controlled.harness.context.all_connections()[1:]
        if end == "close":
            one.close(DRAIN)
        else:
            one.abort(DRAIN)
        assert peer.receive() == Closed(1001, "drain")
        peer.close()
        controlled.harness.settle()


# Frames


@pytest.mark.parametrize(
    ("data", "closed"),
    [
        (frame(BINARY, b"x"), Closed(1003, "binary")),
        (b"\x81\x00", Closed(1002, "protocol")),
        (frame(1, b"\xff"), Closed(1007, "not UTF-8")),
        (text(b"x" * (MAX_LINE + 1)), Closed(1009, f"over {MAX_LINE} bytes")),
        (frame(CLOSE, b"\x03\xe8"), Closed(1000, "")),
    ],
)
def test_frames(controlled: ControlledSession, data: bytes, closed: Closed) -> None:
    peer = controlled.authorized_client()
    controlled.harness.peer.socket.settimeout(30)
    send_until_blocked(controlled, peer, data)
    assert peer.receive() == closed


def send_until_blocked(controlled: ControlledSession, peer: Peer, data: bytes) -> int:
    """Send until the socket blocks. Returns the number of bytes."""
    peer.socket.setblocking(False)
    sent = 0
    try:
        while sent < len(data):
            sent += peer.socket.send(data[sent:])
            controlled.harness.settle()
    except BlockingIOError:
        pass
    peer.socket.settimeout(30)
    return sent


def test_pings_are_answered(controlled: ControlledSession) -> None:
    peer = controlled.authorized_client()
    peer.send_raw(frame(PING, b"x"))
    controlled.harness.settle()
    assert peer.read_frame() == (PONG, b"x")


# Floods


def test_unread_responses_pause_reading(
    controlled: ControlledSession,
) -> None:
    peer = controlled.authorized_client()
    flood = request("status") * 200_000
    sent = send_until_blocked(controlled, peer, flood)
    assert sent < len(flood) // 2
    (one,) = controlled.harness.context.gateways
    assert one.connection.queued_bytes < 2 * HIGH
    controlled.harness.say(text(stdin(b"a")))
    assert controlled.harness.application.read_stdin() == b"a"
    answers = 0
    while answers < sent // len(request("status")):
        controlled.harness.settle()
        assert peer.message()["id"] == 1
        answers += 1


def test_endless_response(
    controlled: ControlledSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "MAX_RESPONSE", 1000)
    monkeypatch.setattr(
        "chimirror.control.controller.SessionController.status",
        lambda _controller: {"x": "x" * 100_000},
    )
    peer = controlled.authorized_client()
    peer.send_raw(request("status"))
    controlled.harness.settle()
    assert peer.receive() == Closed(1000, "control over")


def test_internal_error_closes_only_the_gateway(
    controlled: ControlledSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise RuntimeError("bug")

    peer = controlled.authorized_client()
    monkeypatch.setattr(gateway.ControlGateway, "on_upstream_line", fail)
    peer.send_raw(request("status"))
    controlled.harness.settle()
    assert peer.receive() == Closed(NO_CLOSE, "")
    assert controlled.harness.event_log.of("note")
    assert controlled.harness.session.connection.state != CLOSED
