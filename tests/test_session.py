"""Whole sessions in this process: from the request to the record, time injected.

Law: what the client reads, what the application reads and what is recorded is compared
whole; `stage` says how. Real processes and real programs are in test_transports,
test_teardown and test_bridge.
"""

from __future__ import annotations

import base64
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from chimirror import session
from chimirror.apps import App
from chimirror.connection import CLOSED, CONNECTING, OPEN
from chimirror.service import Peer as Address
from chimirror.system.outbox import HIGH
from chimirror.wire.frames import Close
from chimirror.wire.framing import Json
from peers import CLOSE, PING, PONG, Closed, frame, stdin, text, upgrade
from stage import IDENTITY, Stage

GONE = frame(CLOSE, b"\x03\xe8")
FRAMINGS = pytest.mark.parametrize("framing", ["json", "stdio", "lines", "lsp"])
EVERY = ("--framing=json,stdio,lines,lsp",)
BODY = b"Content-Length: 4\r\n\r\ngood"


def said(message: dict[str, Any]) -> tuple[str, bytes]:
    return message["type"], base64.b64decode(message["payload"])


def refusal(stage: Stage) -> tuple[int, str]:
    """The refusal that the client gets, whole; and then the session is over."""
    reply = stage.peer.refusal()
    assert reply.fields["connection"].startswith("close")
    assert reply.fields["content-length"] == str(len(reply.body))
    assert not stage.application.started
    return reply.status, reply.body.decode()


# The request


def test_a_session_from_request_to_record() -> None:
    with Stage() as stage:
        stage.open("json", "Origin: http://localhost", target="/a?b")
        stage.say(text({"verb": "look"}) + text(b"[1,\n2]"))
        assert stage.application.heard() == b'{"verb":"look"}\n[1, 2]\n'
        stage.print(b"seen")
        stage.print(b"oops", "stderr")
        assert said(stage.peer.message()) == ("stdout", b"seen")
        assert said(stage.peer.message()) == ("stderr", b"oops")
        stage.wait(1.5)
        stage.exit()
        assert stage.peer.story(wait=False).closed == Closed(1000, "exit 0")
        assert stage.service.sessions, "the client has not closed yet"
    start, end = stage.records.told
    assert start == (
        "start",
        {
            "session": IDENTITY,
            "peer": "192.0.2.7:4711",
            "command": "program argument",
            "application": "",
            "path": "/a?b",
            "origin": "http://localhost",
            "framing": "json",
        },
    )
    assert end[0] == "end"
    duration = end[1].pop("duration_usec")
    assert 1_500_000 <= duration < 1_600_000
    assert end[1] == {
        "session": IDENTITY,
        "peer": "192.0.2.7:4711",
        "command": "program argument",
        "application": "",
        "bytes_in": 33,
        "bytes_out": 80,
        "messages_in": 2,
        "messages_out": 2,
        "exit": "exit 0",
        "reason": "exit 0",
    }


def test_a_short_session_has_both_records() -> None:
    with Stage() as stage:
        stage.open()
        stage.exit(3)
    assert [kind for kind, _ in stage.records.told] == ["start", "end"]
    assert stage.records.of("end")[0]["reason"] == "exit 3"


def test_the_request_may_come_in_pieces() -> None:
    with Stage() as stage:
        for byte in upgrade("/", "json", ()) + text([1]):
            stage.say(bytes([byte]))
        assert stage.peer.head().status == 101
        assert stage.application.heard() == b"[1]\n"


def test_what_comes_with_the_request_is_not_lost() -> None:
    with Stage() as stage:
        stage.open(first=text([1]) + GONE)
        assert stage.application.heard() == b"[1]\n"
        assert stage.peer.story(wait=False).closed == Closed(1000, "")


def test_a_proxy_header_before_the_request() -> None:
    with Stage("--proxy-protocol") as stage:
        stage.ask(b"PROXY TCP4 198.51.100.9 192.0.2.1 ")
        stage.ask(b"5000 80\r\n")
        stage.open()
        assert stage.application.environment["REMOTE_ADDR"] == "198.51.100.9"
        assert stage.application.environment["REMOTE_PORT"] == "5000"
    assert stage.records.of("end")[0]["peer"] == "198.51.100.9:5000"


def test_a_proxy_that_speaks_for_itself() -> None:
    with Stage("--proxy-protocol") as stage:
        stage.ask(b"PROXY UNKNOWN\r\n" + upgrade("/", "json", ()))
        assert stage.peer.head().status == 101
        assert stage.application.environment["REMOTE_ADDR"] == "192.0.2.7"


def test_no_proxy_header_where_one_is_expected() -> None:
    with Stage("--proxy-protocol") as stage:
        stage.ask(upgrade("/", "json", ()))
        assert refusal(stage)[0] == 400


def test_a_trusted_proxy_tells_the_peer() -> None:
    with Stage("--trusted-proxy=192.0.2.0/24") as stage:
        stage.open("json", "X-Forwarded-For: 198.51.100.9")
        assert stage.application.environment["REMOTE_ADDR"] == "198.51.100.9"
        assert "REMOTE_PORT" not in stage.application.environment
    assert stage.records.of("end")[0]["peer"] == "198.51.100.9"


def test_the_page() -> None:
    with Stage() as stage:
        stage.ask(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        status, body = refusal(stage)
        assert (status, "ws://localhost/" in body) == (200, True)
    assert stage.records.told == []


@pytest.mark.parametrize(
    ("request_line", "status"),
    [(b"HEAD / HTTP/1.1", 200), (b"HEAD /x HTTP/1.1", 426), (b"HEAD / HTTP/1.0", 400)],
)
def test_head_is_answered_without_a_body(request_line: bytes, status: int) -> None:
    with Stage() as stage:
        stage.ask(request_line + b"\r\nHost: localhost\r\n\r\n")
        reply = stage.peer.refusal()
        assert (reply.status, reply.body) == (status, b"")
        assert int(reply.fields["content-length"]) > 0


def test_a_refusal_is_recorded_and_starts_nothing() -> None:
    with Stage() as stage:
        stage.ask(upgrade("/", "json", ("Host: evil.example",)))
        status, body = refusal(stage)
        assert status == 403
    (refused,) = stage.records.of("refused")
    assert refused == {
        "peer": "192.0.2.7:4711",
        "status": 403,
        "cause": "host",
        "detail": body.rstrip("\n"),
    }
    assert not stage.records.of("end")


@pytest.mark.parametrize("part", [b"", b"GET / HT", upgrade("/", "", ())[:-2]])
def test_a_slow_head(part: bytes) -> None:
    with Stage("--handshake-timeout=3") as stage:
        stage.ask(part)
        stage.wait(2.9)
        assert stage.session.connection.state == CONNECTING
        stage.wait(0.2)
        assert refusal(stage) == (408, "the request did not arrive in time\n")


def test_the_handshake_timeout_ends_with_the_request() -> None:
    with Stage("--handshake-timeout=1", "--ping-interval=off") as stage:
        stage.application.late = True
        stage.ask(upgrade("/", "json", ()))
        stage.wait(100)
        stage.application.answer()
        assert stage.peer.head().status == 101


@pytest.mark.parametrize("part", [b"", b"GET / HT", upgrade("/", "", ())[:-2]])
def test_a_client_that_goes_before_it_has_asked(part: bytes) -> None:
    with Stage() as stage:
        stage.ask(part)
        stage.peer.close()
        stage.settle()
        assert not stage.service.sessions
        assert stage.service.connecting == 0
    assert stage.records.told == []


def test_a_command_that_cannot_be_started() -> None:
    with Stage() as stage:
        stage.application.failure = "program: no such file"
        stage.ask(upgrade("/", "json", ()))
        assert refusal(stage) == (500, "the application could not be started\n")
    (note,) = stage.records.of("note")
    assert note["text"] == "cannot start the application: program: no such file"


def test_a_command_that_cannot_be_started_just_now() -> None:
    with Stage(admission=Door(None)) as stage:
        stage.application.failure, stage.application.shortage = "program: EAGAIN", True
        stage.ask(upgrade("/", "json", ()))
        reply = stage.peer.refusal()
        assert (reply.status, reply.fields["retry-after"]) == (503, "7")
        begin = b"no application can be started just now"
        assert reply.body == begin + b"; try again later\n"
    (told,) = stage.records.of("refused")
    assert not stage.records.of("note")
    assert (told["cause"], told["detail"]) == ("start-shortage", "program: EAGAIN")


class Door:
    """An admission that counts."""

    def __init__(self, cause: str | None) -> None:
        self.cause = cause
        self.inside: list[Address] = []

    def enter(self, peer: Address, app: App) -> str | None:
        if self.cause is None:
            self.inside.append(peer)
        return self.cause

    def leave(self, peer: Address, app: App) -> None:
        self.inside.remove(peer)

    def retry_after(self, cause: str) -> int:
        return 7


@pytest.mark.parametrize(
    ("cause", "begin"),
    [
        ("max-sessions", "all sessions are taken"),
        ("max-sessions-per-source", "all sessions of this address are taken"),
        ("max-rate", "too many new sessions just now"),
    ],
)
def test_no_room(cause: str, begin: str) -> None:
    with Stage(admission=Door(cause)) as stage:
        stage.ask(upgrade("/", "json", ()))
        reply = stage.peer.refusal()
        assert (reply.status, reply.fields["retry-after"]) == (503, "7")
        assert reply.body.decode() == f"{begin}; try again later\n"
    assert stage.records.of("refused")[0]["cause"] == cause


def test_the_seat_is_given_back_once() -> None:
    door = Door(None)
    with Stage(admission=door) as stage:
        stage.open()
        assert door.inside == [stage.session.peer]
        stage.exit()
        stage.peer.close()
        stage.end()
        assert door.inside == []


def test_a_failed_start_gives_the_seat_back() -> None:
    door = Door(None)
    with Stage(admission=door) as stage:
        stage.application.failure = "no"
        stage.ask(upgrade("/", "json", ()))
        stage.peer.close()
        stage.end()
        assert door.inside == []


# An answer of the starter that comes late


def test_a_client_that_goes_while_its_application_starts() -> None:
    """It is started all the same, and gets the stop ladder."""
    with Stage() as stage:
        stage.application.late = True
        stage.ask(upgrade("/", "json", ()) + text([1]))
        stage.peer.close()
        stage.settle()
        assert stage.service.connecting == 1
        stage.application.answer()
        stage.settle()
        assert stage.application.heard() == b"[1]\n"
        stage.wait(1.1)
        assert stage.application.signals == [15, 18]
        stage.exit(-15)
        assert not stage.service.sessions
    assert stage.records.of("end")[0]["exit"] == "signal TERM"


def test_a_drain_while_the_application_starts() -> None:
    with Stage() as stage:
        stage.application.late = True
        stage.ask(upgrade("/", "json", ()))
        stage.session.close(1001, "drain")
        assert refusal(stage)[0] == 503
        stage.peer.close()
        stage.settle()
        assert stage.service.sessions, "the answer is still to come"
        stage.application.answer()
        stage.settle()
        assert stage.application.heard() == b""
        stage.wait(1.1)
        assert stage.application.signals == [15, 18]
        stage.exit(0)
        assert not stage.service.sessions


def test_a_start_that_fails_when_nobody_waits_for_it() -> None:
    with Stage() as stage:
        stage.application.late = True
        stage.application.failure = "no"
        stage.ask(upgrade("/", "json", ()))
        stage.session.close(1001, "drain")
        stage.peer.close()
        stage.settle()
        stage.application.answer()
        assert not stage.service.sessions


# Messages


def test_mistakes_are_answered_and_the_session_goes_on() -> None:
    with Stage() as stage:
        stage.open()
        wrong = [
            b"",
            b"x",
            b"NaN",
            b"1e999",
            b"\xef\xbb\xbf1",
            b"[" * 1001 + b"]" * 1001,
        ]
        for message in wrong:
            stage.say(text(message))
            assert said(stage.peer.message()) == ("error", b"not JSON")
        stage.say(text(b'"\\ud800"') + text(b"x") + text([2]))
        assert stage.application.heard() == b'"\\ud800"\n[2]\n'
        assert said(stage.peer.message()) == ("error", b"not JSON")


STDIO_MISTAKES: dict[bytes, bytes] = {
    b"no": b"not JSON",
    b"[]": b"not an object",
    b"{}": b"type is none of stdin, eof, signal",
    b'{"type":"stdout","payload":""}': b"type is none of stdin, eof, signal",
    b'{"type":"stdin"}': b"payload is not base64",
    b'{"type":"stdin","payload":"a"}': b"payload is not base64",
    b'{"type":"signal","name":"STOP"}': (
        b"name is none of HUP, INT, QUIT, TERM, KILL, USR1, USR2, CONT, WINCH"
    ),
}


@pytest.mark.parametrize("message", STDIO_MISTAKES)
def test_mistakes_in_stdio(message: bytes) -> None:
    with Stage() as stage:
        stage.open("stdio")
        assert stage.peer.message() == {"type": "session", "id": IDENTITY}
        stage.say(text(message) + text(stdin(b"on")))
        assert said(stage.peer.message()) == ("error", STDIO_MISTAKES[message])
        assert stage.application.heard() == b"on"


def test_stdio() -> None:
    with Stage() as stage:
        stage.open("stdio")
        stage.say(text(stdin(b"\x00\xff")) + text({"type": "signal", "name": "INT"}))
        assert stage.application.heard() == b"\x00\xff"
        assert stage.application.signals == [2]
        stage.say(text(stdin(b"last")) + text({"type": "eof"}) + text(stdin(b"late")))
        assert os.read(stage.application.stdin, 99) == b"last"
        assert os.read(stage.application.stdin, 99) == b""
        stage.say(text({"type": "eof"}))
        stage.print(b"still here")
        stage.exit(-9)
        story = stage.peer.story(wait=False)
        assert story.stdout == b"still here"
        assert story.messages[-1] == {"type": "exit", "signal": "KILL"}
        assert story.closed == Closed(1011, "signal KILL")


@FRAMINGS
def test_binary_is_refused_in_every_framing(framing: str) -> None:
    with Stage(*EVERY) as stage:
        stage.open(framing)
        stage.say(text(stdin(b"first")) + frame(2, b"x") + text(stdin(b"not read")))
        heard = stage.application.heard()
        assert b"first" in heard if framing == "stdio" else heard.count(b"payload") == 1
        if framing == "stdio":
            assert stage.peer.message()["type"] == "session"
        assert stage.peer.receive() == Closed(1003, "binary")


@pytest.mark.parametrize(
    ("data", "closed"),
    [
        (b"\x91\x80abcd", Closed(1002, "protocol")),
        (b"\x81\x01x", Closed(1002, "protocol")),
        (text(b"\xff"), Closed(1007, "not UTF-8")),
        (text(b"x" * 101), Closed(1009, "over --max-message")),
        (frame(1, b"x" * 99, fin=False) + frame(0, b"yz"), Closed(1009, "")),
    ],
)
def test_frames_that_break_the_rules(data: bytes, closed: Closed) -> None:
    with Stage("--max-message=100") as stage:
        stage.open()
        stage.say(text([1]) + data + text([2]))
        assert stage.application.heard() == b"[1]\n"
        got = stage.peer.receive()
        assert isinstance(got, Closed)
        assert got == closed or (got.code, closed.reason) == (closed.code, "")
        assert stage.application.signals == []
        stage.wait(1.1)
        assert stage.application.signals == [15, 18]
    assert stage.records.of("end")[0]["reason"] == got.reason


def test_lines() -> None:
    with Stage(*EVERY) as stage:
        stage.open("lines")
        stage.say(text(b"any text") + text(b"[1,\r\n2]"))
        assert stage.application.heard() == b"any text\n[1,  2]\n"
        stage.print(b"one\r\ntwo\n\nthr")
        stage.print(b"ee")
        stage.exit()
        received = [stage.peer.receive() for _ in range(5)]
        assert received == [b"one", b"two", b"", b"three", Closed(1000, "exit 0")]


def test_a_line_break_that_json_does_not_excuse() -> None:
    with Stage(*EVERY) as stage:
        stage.open("lines")
        stage.say(text(b"first") + text(b"a\nb") + text(b"third"))
        assert stage.application.heard() == b"first\n"
        assert stage.peer.receive() == Closed(1007, "line break outside JSON")
    assert stage.records.of("end")[0]["reason"] == "line break outside JSON"


@pytest.mark.parametrize(
    ("framing", "printed", "reason"),
    [
        ("lines", b"good\nbad\xff\nnever\n", "line not UTF-8"),
        ("lines", b"good\n" + b"x" * 101 + b"\nnever\n", "line over --max-message"),
        ("lines", b"good\n" + b"x" * 102, "line over --max-message"),
        ("lsp", BODY + b"hello\n", "bad header"),
        ("lsp", BODY + b"Content-Length: 101\r\n", "body over --max-message"),
        ("lsp", BODY + b"x" * 4096, "header over 4096 bytes"),
        ("lsp", BODY + b"Content-Length: 1\r\n\r\n\xff", "body not UTF-8"),
    ],
)
def test_an_application_that_breaks_the_rules(
    framing: str, printed: bytes, reason: str
) -> None:
    """What it printed before is delivered, and it is stopped."""
    with Stage(*EVERY, "--max-message=100") as stage:
        stage.open(framing)
        stage.print(printed)
        assert stage.peer.receive() == b"good"
        assert stage.peer.receive() == Closed(1011, reason)
        stage.print(b"more\n")
        stage.wait(1.1)
        assert stage.application.signals == [15, 18]
        stage.exit(-15)
        stage.peer.end()
    assert stage.records.of("end")[0]["reason"] == reason


def test_a_last_line_that_is_not_utf8() -> None:
    with Stage(*EVERY) as stage:
        stage.open("lines")
        stage.print(b"good\nbad\xff")
        stage.exit()
        assert stage.peer.receive() == b"good"
        assert stage.peer.receive() == Closed(1011, "line not UTF-8")
    assert stage.records.of("end")[0]["reason"] == "line not UTF-8"


def test_lsp() -> None:
    with Stage(*EVERY) as stage:
        stage.open("lsp")
        stage.say(text(b"[1,\r\n2]") + text(b'"3"'))
        heard = b'Content-Length: 7\r\n\r\n[1,\r\n2]Content-Length: 3\r\n\r\n"3"'
        assert stage.application.heard() == heard
        stage.print(heard[:3])
        stage.print(heard[3:40])
        stage.print(heard[40:])
        stage.exit()
        received = [stage.peer.receive() for _ in range(3)]
        assert received == [b"[1,\r\n2]", b'"3"', Closed(1000, "exit 0")]
    assert stage.records.of("end")[0]["messages_out"] == 2


def test_what_is_not_json_ends_a_session_of_lsp() -> None:
    with Stage(*EVERY) as stage:
        stage.open("lsp")
        stage.say(text(b"1") + text(b"hello") + text(b"3"))
        assert stage.application.heard() == b"Content-Length: 1\r\n\r\n1"
        assert stage.peer.receive() == Closed(1007, "not JSON")
    assert stage.records.of("end")[0]["reason"] == "not JSON"


def test_an_exit_inside_a_body() -> None:
    with Stage(*EVERY) as stage:
        stage.open("lsp")
        stage.print(BODY + b"Content-Length: 4\r\n\r\nbad")
        stage.exit()
        assert stage.peer.receive() == b"good"
        assert stage.peer.receive() == Closed(1011, "output cut off")


# stderr


@pytest.mark.parametrize(
    ("framing", "options", "where"),
    [
        ("json", (), "client"),
        ("stdio", (), "client"),
        ("lines", (), "log"),
        ("lsp", (), "log"),
        ("json", ("--stderr=log",), "log"),
        ("json", ("--stderr=discard",), "discard"),
        ("lines", ("--stderr=discard",), "discard"),
    ],
)
def test_where_stderr_goes(framing: str, options: tuple[str, ...], where: str) -> None:
    with Stage(*EVERY, *options) as stage:
        stage.open(framing)
        assert stage.application.keeps_stderr == (where != "discard")
        if where != "discard":
            stage.print(b"one\ntwo", "stderr")
        stage.exit()
        messages = []
        while not isinstance(got := stage.peer.receive(), Closed):
            messages.append(got)
        assert (b'"stderr"' in b"".join(messages)) == (where == "client")
    logged = [fields["line"] for fields in stage.records.of("stderr")]
    assert logged == ([b"one", b"two"] if where == "log" else [])


def test_a_line_of_stderr_without_end_is_cut_and_kept_in_bounds() -> None:
    with Stage("--stderr=log") as stage:
        stage.open()
        for _ in range(3):
            stage.print(b"x" * 4097, "stderr")
        stage.print(b"\nend", "stderr")
        stage.exit()
    logged = [fields["line"] for fields in stage.records.of("stderr")]
    assert [len(line) for line in logged] == [4096, 4096, 4096, 3, 3]


# Pings


def test_pings_are_answered_in_order() -> None:
    with Stage() as stage:
        stage.open()
        stage.say(frame(PING, b"a") + text([1]) + frame(PING, b"b"))
        assert stage.peer.read_frame() == (PONG, b"a")
        assert stage.peer.read_frame() == (PONG, b"b")
        assert stage.application.heard() == b"[1]\n"
        stage.say(frame(PONG, b"unasked"))
        assert stage.session.connection.state == OPEN


def flooded(stage: Stage) -> int:
    """The application prints until we read no more; how much that was."""
    written = 0
    os.set_blocking(stage.application.stdout, False)
    try:
        while True:
            written += os.write(stage.application.stdout, bytes(65536))
            stage.settle()
    except BlockingIOError:
        return written


def test_a_pong_goes_before_queued_data() -> None:
    with Stage() as stage:
        stage.open()
        written = flooded(stage)
        waiting = stage.session.connection.backlog
        for _ in range(1000):
            stage.say(frame(PING, b"x" * 125))
        stage.say(frame(PING, b"last"))
        assert stage.session.connection.backlog == waiting, "no pong is queued"
        read, pongs, after = 0, [], 0
        while read < written:
            stage.settle()
            got = stage.peer.read_frame()
            assert got is not None
            if got[0] == PONG:
                pongs.append(got[1])
                after = written - read
            else:
                read += len(base64.b64decode(got[1][28:-2]))
        assert pongs == [b"last"]
        assert after > 1 << 16


def test_a_flood_of_mistakes_is_read_no_further() -> None:
    with Stage() as stage:
        stage.open()
        assert pushed(stage, text(b"x") * 500_000) < 1 << 20
        assert stage.session.connection.backlog < 2 << 20
        while stage.session.connection.paused:
            assert said(stage.peer.message()) == ("error", b"not JSON")
            stage.settle()
        assert stage.session.connection.state == OPEN


def pushed(stage: Stage, data: bytes) -> int:
    """The client sends until we read no more; how much that was."""
    sent = 0
    stage.client.setblocking(False)
    try:
        while sent < len(data):
            sent += stage.client.send(data[sent:])
            stage.settle()
    except BlockingIOError:
        pass
    stage.client.settimeout(30)
    return sent


def test_back_pressure_and_its_end() -> None:
    """An application that does not read stops the client, and lets it go on."""
    with Stage("--ping-interval=off") as stage:
        stage.open("stdio")
        sent = pushed(stage, text(stdin(b"x" * 50_000)) * 200)
        assert sent < 5 << 20
        backlog = stage.session.application.backlog
        assert HIGH < backlog < HIGH + (1 << 18)
        stage.wait(100)
        assert stage.session.connection.state == OPEN
        read = 0
        while stage.session.connection.paused:
            read += len(stage.application.heard())
            stage.settle()
        assert read >= backlog - (1 << 16)


# Time


def test_the_session_timeout() -> None:
    with Stage("--session-timeout=60", "--ping-interval=off") as stage:
        stage.open()
        for _ in range(59):
            stage.say(text([1]))
            stage.wait(1)
        assert stage.session.connection.state == OPEN
        stage.wait(1.1)
        assert stage.peer.receive() == Closed(1001, "time")
    assert stage.records.of("end")[0]["reason"] == "time"


def speak(stage: Stage) -> None:
    stage.say(text([1]))


def half(stage: Stage) -> None:
    stage.say(text([1])[:3])


def write(stage: Stage) -> None:
    stage.print(b"x")


def mistake(stage: Stage) -> None:
    stage.say(text(b"?"))


@pytest.mark.parametrize("act", [speak, half, write, mistake])
def test_whatever_is_said_puts_the_idle_timeout_off(
    act: Callable[[Stage], None],
) -> None:
    with Stage("--idle-timeout=10", "--ping-interval=off") as stage:
        stage.open()
        stage.wait(9)
        act(stage)
        stage.wait(9.9)
        assert stage.session.connection.state == OPEN
        stage.wait(0.2)
        assert stage.session.connection.state > OPEN
    assert stage.records.of("end")[0]["reason"] == "idle"


def test_pings_and_pongs_say_nothing() -> None:
    """Else no session with an idle timeout above the ping interval would be idle."""
    with Stage("--idle-timeout=60", "--ping-interval=20") as stage:
        stage.open()
        for _ in range(2):
            stage.wait(20.1)
            assert stage.peer.read_frame() == (PING, b"")
            stage.say(frame(PONG, b"") + frame(PING, b"me"))
            assert stage.peer.read_frame() == (PONG, b"me")
        stage.wait(21)
        assert stage.peer.receive() == Closed(1001, "idle")


def test_a_reader_that_is_slow_is_not_idle() -> None:
    with Stage("--idle-timeout=10", "--ping-interval=off") as stage:
        stage.open()
        flooded(stage)
        for _ in range(3):
            stage.wait(9)
            while stage.session.application.backlog or stage.session.connection.backlog:
                stage.peer.read_frame()
                stage.settle()
            flooded(stage)
        assert stage.session.connection.state == OPEN


@pytest.mark.parametrize("how", ["time", "drain"])
def test_a_farewell_that_nobody_reads_is_cut_short(how: str) -> None:
    """The application has ended, and its output waits for a client that lives."""
    options = ("--session-timeout=60", "--ping-interval=off")
    with Stage(*options) as stage:
        stage.open()
        flooded(stage)
        stage.exit()
        stage.wait(30)
        assert stage.session.connection.state != CLOSED
        if how == "drain":
            stage.session.close(1001, "drain")
        else:
            stage.wait(30)
        stage.wait(2.1)
        assert stage.session.connection.state == CLOSED
    assert stage.records.of("end")[0]["reason"] == how


def test_output_that_was_cut_is_no_exit_0() -> None:
    with Stage("--ping-interval=off") as stage:
        stage.open()
        flooded(stage)
        stage.exit()
        stage.session.close(1001, "drain")
        while stage.session.connection.backlog:
            stage.peer.read_frame()
            stage.settle()
        assert stage.peer.story(wait=False).closed == Closed(1001, "drain")
    assert stage.records.of("end")[0]["reason"] == "drain"


# The end


def test_the_client_closes() -> None:
    with Stage() as stage:
        stage.open()
        stage.say(text([1]) + frame(CLOSE, b"\x0f\xa0bye"))
        assert stage.application.heard() == b"[1]\n"
        assert os.read(stage.application.stdin, 9) == b""
        assert stage.peer.receive() == Closed(4000, "")
        stage.print(b"nobody listens")
        stage.exit(5)
        stage.peer.end()
    end = stage.records.of("end")[0]
    assert (end["reason"], end["exit"]) == ("client close 4000", "exit 5")


def test_the_client_closes_without_a_code() -> None:
    with Stage() as stage:
        stage.open()
        stage.say(frame(CLOSE, b""))
        assert stage.peer.read_frame() == (CLOSE, b"")
        stage.exit()
    assert stage.records.of("end")[0]["reason"] == "client close 1005"


def test_the_client_goes_without_a_word() -> None:
    with Stage() as stage:
        stage.open()
        stage.client.sendall(text([1]))
        stage.peer.close()
        stage.settle()
        assert stage.application.heard() == b"[1]\n"
        assert os.read(stage.application.stdin, 9) == b""
        stage.wait(1.1)
        assert stage.application.signals == [15, 18]
        stage.wait(5.1)
        assert stage.application.signals == [15, 18, 9]
    end = stage.records.of("end")[0]
    assert (end["reason"], end["exit"]) == ("client gone", "signal KILL")


def test_the_reason_stands_whoever_ends_last() -> None:
    """The client goes while a descendant still holds the application's output."""
    with Stage() as stage:
        stage.open()
        held = os.dup(stage.application.stdout)
        stage.exit()
        stage.peer.close()
        stage.settle()
        os.close(held)
    end = stage.records.of("end")[0]
    assert (end["reason"], end["exit"]) == ("client gone", "exit 0")


def test_a_dead_client_is_given_up() -> None:
    with Stage() as stage:
        stage.open()
        stage.wait(20.1)
        assert stage.peer.read_frame() == (PING, b"")
        stage.wait(19.8)
        assert stage.session.connection.state == OPEN
        stage.wait(0.2)
        assert stage.session.connection.state == CLOSED
        stage.peer.end()
    assert stage.records.of("end")[0]["reason"] == "ping timeout"


def test_abort() -> None:
    with Stage() as stage:
        stage.open()
        stage.session.abort()
        assert stage.application.signals == [9]
        stage.exit(-9)
        assert stage.peer.story(wait=False).closed == Closed(1001, "drain")


def test_a_drain_before_the_request() -> None:
    with Stage() as stage:
        stage.session.close(1001, "drain")
        stage.settle()
        status, body = refusal(stage)
        assert (status, body) == (503, "this service is going down; try again later\n")


def test_once_drained_it_is_1001_whatever_the_application_does() -> None:
    with Stage() as stage:
        stage.open("stdio")
        stage.session.close(1001, "drain")
        stage.exit(3)
        story = stage.peer.story(wait=False)
        assert story.closed == Closed(1001, "drain")
    end = stage.records.of("end")[0]
    assert (end["reason"], end["exit"]) == ("drain", "exit 3")


# Faults of ours


class Bug(Exception):
    """With something in it that is nobody's business."""


def fail(*args: object, **options: object) -> None:
    raise Bug("secret")


def faults(stage: Stage) -> int:
    notes = stage.records.of("note")
    for note in notes:
        assert note["text"] == f"internal error in session {IDENTITY}"
        assert "Bug: secret" in note["detail"]
    return len(notes)


def test_a_fault_while_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    with Stage() as stage:
        stage.open()
        monkeypatch.setattr(Json, "gather", fail)
        stage.say(text([1]))
        story = stage.peer.story(wait=False)
        assert story.closed == Closed(1011, "error internal")
        assert faults(stage) == 1
        stage.exit()
    assert stage.records.of("end")[0]["reason"] == "error internal"


def test_a_fault_while_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    with Stage() as stage:
        stage.open()
        monkeypatch.setattr(Json, "encode", fail)
        stage.print(b"x")
        assert stage.peer.receive() == Closed(1011, "error internal")
        assert faults(stage) == 1


def test_a_fault_of_a_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    with Stage() as stage:
        stage.open()
        monkeypatch.setattr(session.Session, "next_timeout", fail)
        stage.wait(1)
        assert stage.peer.receive() == Closed(1011, "error internal")


def test_a_fault_during_the_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    with Stage() as stage:
        monkeypatch.setattr("chimirror.wire.opening.handshake.judge", fail)
        stage.ask(upgrade("/", "json", ()))
        assert refusal(stage) == (500, "an internal error\n")
        assert faults(stage) == 1


def test_a_fault_while_a_fault_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    with Stage() as stage:
        stage.open()
        monkeypatch.setattr(Json, "gather", fail)
        monkeypatch.setattr(session.Session, "close", fail)
        stage.say(text([1]))
        assert stage.session.connection.state == CLOSED
        assert stage.application.signals == [9]
        assert faults(stage) == 2


def test_a_fault_after_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    with Stage() as stage:
        stage.open()
        stage.session.on_fault(Bug("secret"))
        assert stage.session.connection.state != CLOSED
        stage.session.on_fault(Bug("secret"))
        assert stage.session.connection.state == CLOSED
        assert stage.application.signals == [9]


def test_a_descriptor_that_cannot_be_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is counted for a session that never was."""
    with Stage() as stage:
        ours, theirs = socket.socketpair()
        monkeypatch.setattr(stage.clock, "register", fail)
        with ours, theirs, pytest.raises(Bug):
            session.Session(
                stage.service, stage.session.peer, theirs.fileno(), theirs.fileno(), "x"
            )
        assert stage.service.sessions == {IDENTITY: stage.session}
        assert stage.service.connecting == 1


# What comes too late, or too early


def test_the_client_closes_after_we_did() -> None:
    with Stage() as stage:
        stage.open()
        stage.session.close(1001, "drain")
        stage.session.on_events([Close(1000, "")], 6)
        assert stage.peer.receive() == Closed(1001, "drain")
    assert stage.records.of("end")[0]["reason"] == "drain"


def test_room_for_output_while_input_waits() -> None:
    """Each direction has its own pressure."""
    with Stage("--ping-interval=off") as stage:
        stage.open("stdio")
        pushed(stage, text(stdin(b"x" * 50_000)) * 200)
        assert stage.session.connection.paused
        stage.session.on_output_room()
        assert stage.session.connection.paused
        stage.session.close(1001, "drain")
        stage.session.close(1001, "drain")
        assert not stage.session.connection.paused
