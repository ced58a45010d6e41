"""Whole sessions in this process, from the request to the record, with injected time.

All data of client, application and event log is compared. Real processes are in
tests/programs: test_transports, test_teardown and test_bridge.
"""

from __future__ import annotations

import base64
import json
import os
import posix
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chimirror.access import Identity
from chimirror.apps import Application
from chimirror.framing.json_framing import JsonFraming
from chimirror.framing.lines import LinesFraming
from chimirror.io.write_buffer import HIGH
from chimirror.protocol import (
    CLOSED_BY_CONTROL,
    CLOSED_BY_OPERATOR,
    DRAIN,
    KILLED_BY_OPERATOR,
    CloseReason,
    http,
)
from chimirror.protocol.frame_reader import Close
from chimirror.session import Peer as Address
from chimirror.session import session
from chimirror.session.connection import CLOSED, CONNECTING, OPEN
from chimirror.session.request_handler import path_of
from session_harness import SESSION_ID, SessionHarness
from websocket_peer import CLOSE, PING, PONG, Closed, frame, stdin, text, upgrade

GONE = frame(CLOSE, b"\x03\xe8")
FRAMINGS = pytest.mark.parametrize("framing", ["json", "stdio", "lines", "lsp"])
EVERY = ("--framing=json,stdio,lines,lsp",)
BODY = b"Content-Length: 4\r\n\r\ngood"


def said(message: dict[str, Any]) -> tuple[str, bytes]:
    return message["type"], base64.b64decode(message["payload"])


def rejection(harness: SessionHarness) -> tuple[int, str]:
    """Read the error response, and check that the session is over."""
    reply = harness.peer.refusal()
    assert reply.fields["connection"].startswith("close")
    assert reply.fields["content-length"] == str(len(reply.body))
    assert not harness.application.started
    return reply.status, reply.body.decode()


# The request


def test_session_from_request_to_record() -> None:
    with SessionHarness() as harness:
        harness.open("json", "Origin: http://localhost", target="/a?b")
        harness.say(text({"verb": "look"}) + text(b"[1,\n2]"))
        assert harness.application.read_stdin() == b'{"verb":"look"}\n[1, 2]\n'
        harness.print(b"seen")
        harness.print(b"oops", "stderr")
        assert said(harness.peer.message()) == ("stdout", b"seen")
        assert said(harness.peer.message()) == ("stderr", b"oops")
        harness.wait(1.5)
        harness.exit()
        assert harness.peer.transcript(wait=False).closed == Closed(1000, "exit 0")
        assert harness.context.sessions, "the client has not closed yet"
    start, end = harness.event_log.records
    assert start[1].pop("start_usec") >= 0
    assert start == (
        "start",
        {
            "session": SESSION_ID,
            "peer": "192.0.2.7:4711",
            "command": "program argument",
            "application": "",
            "path": "/a",
            "origin": "http://localhost",
            "framing": "json",
            "user": "",
        },
    )
    assert end[0] == "end"
    duration = end[1].pop("duration_usec")
    assert 1_500_000 <= duration < 1_600_000
    assert end[1] == {
        "session": SESSION_ID,
        "peer": "192.0.2.7:4711",
        "command": "program argument",
        "application": "",
        "bytes_in": 33,
        "bytes_out": 80,
        "messages_in": 2,
        "messages_out": 2,
        "exit": "exit 0",
        "reason": "exit 0",
        "user": "",
        "output": None,
    }


def test_every_record_names_a_known_user(monkeypatch: pytest.MonkeyPatch) -> None:
    with SessionHarness("--framing=lines", "--stderr=log") as harness:
        harness.session.identity = Identity("ann", "Basic")
        harness.open("lines")
        harness.print(b"oops\n", "stderr")
        monkeypatch.setattr(LinesFraming, "decode_batch", fail)
        harness.say(text("x"))
        harness.exit()
    records = harness.event_log.records
    assert [kind for kind, _ in records] == ["start", "stderr", "note", "end"]
    assert [fields["user"] for _, fields in records] == ["ann"] * 4
    text_of_error = harness.event_log.of("note")[0]["text"]
    assert text_of_error.startswith("internal error in session 01234567 of ann: ")


@pytest.mark.parametrize("failure", ["EAGAIN", "no such program"])
def test_a_failed_start_names_a_known_user(failure: str) -> None:
    with SessionHarness() as harness:
        harness.session.identity = Identity("ann", "Basic")
        harness.application.failure = failure
        harness.application.shortage = failure == "EAGAIN"
        harness.ask(upgrade("/", "json", ()))
        harness.peer.close()
        harness.end()
    *failed, (kind, refusal) = harness.event_log.records
    assert (kind, refusal["user"]) == ("refused", "ann")
    assert [fields["user"] for _, fields in failed] == ["ann"] * (failure != "EAGAIN")


def test_a_short_session_has_both_records() -> None:
    with SessionHarness() as harness:
        harness.open()
        harness.exit(3)
    assert [kind for kind, _ in harness.event_log.records] == ["start", "end"]
    assert harness.event_log.of("end")[0]["reason"] == "exit 3"


def test_request_in_pieces() -> None:
    with SessionHarness() as harness:
        for byte in upgrade("/", "json", ()) + text([1]):
            harness.say(bytes([byte]))
        assert harness.peer.head().status == 101
        assert harness.application.read_stdin() == b"[1]\n"


def test_a_response_field_names_the_session() -> None:
    with SessionHarness("--session-id-header", "X-Session-Id") as harness:
        harness.ask(upgrade("/", "json", ()))
        assert harness.peer.head().fields["x-session-id"] == SESSION_ID
    assert harness.event_log.of("end")[0]["session"] == SESSION_ID


def test_early_messages_are_kept() -> None:
    with SessionHarness() as harness:
        harness.open(first=text([1]) + GONE)
        assert harness.application.read_stdin() == b"[1]\n"
        assert harness.peer.transcript(wait=False).closed == Closed(1000, "")


def test_a_proxy_header_before_the_request() -> None:
    with SessionHarness("--proxy-protocol") as harness:
        harness.ask(b"PROXY TCP4 198.51.100.9 192.0.2.1 ")
        harness.ask(b"5000 80\r\n")
        harness.open()
        assert harness.application.environment["REMOTE_ADDR"] == "198.51.100.9"
        assert harness.application.environment["REMOTE_PORT"] == "5000"
    assert harness.event_log.of("end")[0]["peer"] == "198.51.100.9:5000"


def test_local_proxy_header_keeps_the_peer() -> None:
    with SessionHarness("--proxy-protocol") as harness:
        harness.ask(b"PROXY UNKNOWN\r\n" + upgrade("/", "json", ()))
        assert harness.peer.head().status == 101
        assert harness.application.environment["REMOTE_ADDR"] == "192.0.2.7"


def test_missing_proxy_header_is_rejected() -> None:
    with SessionHarness("--proxy-protocol") as harness:
        harness.ask(upgrade("/", "json", ()))
        assert rejection(harness)[0] == 400


def test_trusted_proxy_names_the_peer() -> None:
    with SessionHarness("--trusted-proxy=192.0.2.0/24") as harness:
        harness.open("json", "X-Forwarded-For: 198.51.100.9")
        assert harness.application.environment["REMOTE_ADDR"] == "198.51.100.9"
        assert "REMOTE_PORT" not in harness.application.environment
    assert harness.event_log.of("end")[0]["peer"] == "198.51.100.9"


def test_the_page() -> None:
    with SessionHarness() as harness:
        harness.ask(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        status, body = rejection(harness)
        assert (status, "ws://localhost/" in body) == (200, True)
    assert harness.event_log.records == []


@pytest.mark.parametrize(
    ("request_line", "status"),
    [(b"HEAD / HTTP/1.1", 200), (b"HEAD /x HTTP/1.1", 426), (b"HEAD /x HTTP/1.0", 200)],
)
def test_head_is_answered_without_a_body(request_line: bytes, status: int) -> None:
    with SessionHarness() as harness:
        harness.ask(request_line + b"\r\nHost: localhost\r\n\r\n")
        reply = harness.peer.refusal()
        assert (reply.status, reply.body) == (status, b"")
        assert int(reply.fields["content-length"]) > 0


def test_rejection_is_recorded_and_starts_no_process() -> None:
    with SessionHarness() as harness:
        harness.ask(upgrade("/a?token=secret", "json", ("Host: evil.example",)))
        status, body = rejection(harness)
        assert status == 403
    (refused,) = harness.event_log.of("refused")
    assert refused == {
        "peer": "192.0.2.7:4711",
        "path": b"/a",
        "status": 403,
        "cause": "host",
        "detail": body.rstrip("\n"),
    }
    assert not harness.event_log.of("end")


@pytest.mark.parametrize(
    ("head", "path"),
    [
        (b"GET /a/b%20c HTTP/1.1\r\nHost: h\r\n", b"/a/b%20c"),
        (b"GET /a?token=secret HTTP/1.1\r\n", b"/a"),
        (b"GET /a#secret HTTP/1.1\r\n", b"/a"),
        (b"GET http://user:secret@h/a?secret HTTP/1.1\r\n", b"/a"),
        (b"GET ws://h?secret HTTP/1.1\r\n", b"/"),
        (b"GET /incomplete", b"/incomplete"),
        (b"GET /a?x://secret/secret HTTP/1.1", b"/a"),
        (b"GET /\xff\x1b\r\n", b"/\xff\x1b"),
        (b"CONNECT h:443 HTTP/1.1\r\n", b""),
        (b"\x16\x03\x01\x02\0", b""),
        (b"", b""),
    ],
)
def test_the_path_of_a_request_in_the_log(head: bytes, path: bytes) -> None:
    assert path_of(head) == path
    assert path_of(bytearray(head)) == path


@pytest.mark.parametrize("part", [b"", b"GET / HT", upgrade("/", "", ())[:-2]])
def test_a_slow_head(part: bytes) -> None:
    with SessionHarness("--handshake-timeout=3") as harness:
        harness.ask(part)
        harness.wait(2.9)
        assert harness.session.connection.state == CONNECTING
        harness.wait(0.2)
        assert rejection(harness) == (408, "the request did not arrive in time\n")


def test_the_handshake_timeout_ends_with_the_request() -> None:
    with SessionHarness("--handshake-timeout=1", "--ping-interval=off") as harness:
        harness.application.answers_late = True
        harness.ask(upgrade("/", "json", ()))
        harness.wait(100)
        harness.application.answer()
        assert harness.peer.head().status == 101


@pytest.mark.parametrize("part", [b"", b"GET / HT", upgrade("/", "", ())[:-2]])
def test_client_closes_before_the_request(part: bytes) -> None:
    with SessionHarness() as harness:
        harness.ask(part)
        harness.peer.half_close()
        harness.settle()
        assert not harness.context.sessions
        assert harness.context.connecting == 0
        text = f"the request ended within its head, after {len(part)} bytes"
        answer = http.HTTPError(400, text, cause="short-head").response()
        assert harness.peer.stream.read() == (answer if part else b"")
    assert [record["detail"] for record in harness.event_log.of("refused")] == (
        [text] if part else []
    )


def test_command_that_cannot_be_started() -> None:
    with SessionHarness() as harness:
        harness.application.failure = "program: no such file"
        harness.ask(upgrade("/", "json", ()))
        assert rejection(harness) == (500, "the application could not be started\n")
    (failed,) = harness.event_log.of("start failed")
    reason = "program: no such file"
    assert failed == {"session": SESSION_ID, "reason": reason}


def test_shortage_at_the_start() -> None:
    with SessionHarness(admission=CountingAdmission(None)) as harness:
        harness.application.failure, harness.application.shortage = (
            "program: EAGAIN",
            True,
        )
        harness.ask(upgrade("/", "json", ()))
        reply = harness.peer.refusal()
        assert (reply.status, reply.fields["retry-after"]) == (503, "7")
        begin = b"no application can be started just now"
        assert reply.body == begin + b"; try again later\n"
    (record,) = harness.event_log.of("refused")
    assert not harness.event_log.of("note")
    assert (record["cause"], record["detail"]) == ("start-shortage", "program: EAGAIN")


class CountingAdmission:
    """Admission that counts."""

    def __init__(self, cause: str | None) -> None:
        self.cause = cause
        self.admitted: list[Address] = []
        self.users: list[str] = []

    def acquire(self, peer: Address, app: Application, user: str = "") -> str | None:
        if self.cause is None:
            self.admitted.append(peer)
            self.users.append(user)
        return self.cause

    def release(self, peer: Address, app: Application, user: str = "") -> None:
        self.admitted.remove(peer)
        self.users.remove(user)

    def find_exceeded(
        self, peer: Address, app: Application, user: str = ""
    ) -> str | None:
        self.users.append(user)
        return self.cause

    def retry_after(self, cause: str) -> int:
        return 7


@pytest.mark.parametrize(
    ("cause", "begin"),
    [
        ("max-sessions", "all sessions are taken"),
        ("max-sessions-per-source", "all sessions of this address are taken"),
        ("max-sessions-per-user", "all sessions of this user are taken"),
        ("max-rate", "too many new sessions just now"),
    ],
)
def test_limits_reject_requests(cause: str, begin: str) -> None:
    with SessionHarness(admission=CountingAdmission(cause)) as harness:
        harness.ask(upgrade("/", "json", ()))
        reply = harness.peer.refusal()
        assert (reply.status, reply.fields["retry-after"]) == (503, "7")
        assert reply.body.decode() == f"{begin}; try again later\n"
    assert harness.event_log.of("refused")[0]["cause"] == cause


CHECK = (
    b"GET %b HTTP/1.1\r\nHost: localhost\r\n"
    b"Chimirror-Subprotocol: chimirror.%b.v1\r\n\r\n"
)


@pytest.mark.parametrize("cause", ["max-sessions", "max-rate", None])
def test_a_check_of_limits_counts_nothing(cause: str | None, tmp_path: Path) -> None:
    (tmp_path / "plain.toml").write_text('command = ["cat"]')
    admission, directory = CountingAdmission(cause), str(tmp_path)
    with SessionHarness("--apps", directory, admission=admission) as harness:
        harness.ask(CHECK % (b"/plain", b"json"))
        reply = harness.peer.refusal()
        assert not harness.application.started
        assert not admission.admitted
    if cause is None:
        assert (reply.status, reply.body) == (204, b"")
    else:
        assert (reply.status, reply.fields["retry-after"]) == (503, "7")
    assert not harness.event_log.of("refused")


def test_a_check_of_a_program_that_is_missing() -> None:
    with SessionHarness() as harness:
        harness.ask(CHECK % (b"/", b"json"))
        reply = harness.peer.refusal()
        assert (reply.status, reply.body) == (
            500,
            b"the application could not be started\n",
        )
        assert not harness.application.started
    (record,) = harness.event_log.of("refused")
    assert (record["cause"], record["path"]) == ("start", b"/")
    assert "program" in record["detail"]


def test_a_check_finds_a_program_in_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "in-path-only"
    program.write_text("#!/bin/sh")
    program.chmod(0o755)
    (tmp_path / "plain.toml").write_text('command = ["in-path-only"]')
    monkeypatch.setitem(posix.environ, b"PATH", bytes(tmp_path))
    with SessionHarness("--apps", str(tmp_path)) as harness:
        harness.ask(CHECK % (b"/plain", b"json"))
        assert harness.peer.refusal().status == 204


def test_a_check_of_control() -> None:
    with SessionHarness() as harness:
        harness.ask(CHECK % (b"/", b"control"))
        assert harness.peer.refusal().status == 503


def test_admission_is_released_once() -> None:
    admission = CountingAdmission(None)
    with SessionHarness(admission=admission) as harness:
        harness.open()
        assert admission.admitted == [harness.session.peer]
        harness.exit()
        harness.peer.close()
        harness.end()
        assert admission.admitted == []


def test_limits_count_the_user() -> None:
    admission = CountingAdmission(None)
    with SessionHarness(admission=admission) as harness:
        harness.session.identity = Identity("ann", "Basic")
        harness.open()
        assert admission.users == ["ann"]
        harness.exit()
        harness.peer.close()
        harness.end()
        assert admission.users == []


def test_a_check_asks_for_the_limit_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "plain.toml").write_text('command = ["cat"]')
    admission = CountingAdmission("max-sessions-per-user")
    with SessionHarness("--apps", str(tmp_path), admission=admission) as harness:
        harness.session.identity = Identity("ann", "Basic")
        harness.ask(CHECK % (b"/plain", b"json"))
        assert harness.peer.refusal().status == 503
        assert admission.users == ["ann"]


def test_failed_start_releases_the_admission() -> None:
    admission = CountingAdmission(None)
    with SessionHarness(admission=admission) as harness:
        harness.application.failure = "no"
        harness.ask(upgrade("/", "json", ()))
        harness.peer.close()
        harness.end()
        assert admission.admitted == []


# Late replies of the spawner


def test_client_closes_while_the_application_starts() -> None:
    """The process starts all the same, and gets the stop sequence."""
    with SessionHarness() as harness:
        harness.application.answers_late = True
        harness.ask(upgrade("/", "json", ()) + text([1]))
        harness.peer.close()
        harness.settle()
        assert harness.context.connecting == 1
        harness.application.answer()
        harness.settle()
        assert harness.application.read_stdin() == b"[1]\n"
        harness.wait(1.1)
        assert harness.application.signals == [15, 18]
        harness.exit(-15)
        assert not harness.context.sessions
    assert harness.event_log.of("end")[0]["exit"] == "signal TERM"


def test_drain_while_the_application_starts() -> None:
    with SessionHarness() as harness:
        harness.application.answers_late = True
        harness.ask(upgrade("/", "json", ()))
        harness.session.close(DRAIN)
        assert rejection(harness)[0] == 503
        harness.peer.close()
        harness.settle()
        assert harness.context.sessions, "the answer is still to come"
        harness.application.answer()
        harness.settle()
        assert harness.application.read_stdin() == b""
        harness.wait(1.1)
        assert harness.application.signals == [15, 18]
        harness.exit(0)
        assert not harness.context.sessions


def test_failed_start_after_the_client_closed() -> None:
    with SessionHarness() as harness:
        harness.application.answers_late = True
        harness.application.failure = "no"
        harness.ask(upgrade("/", "json", ()))
        harness.session.close(DRAIN)
        harness.peer.close()
        harness.settle()
        harness.application.answer()
        assert not harness.context.sessions


# Messages


def test_rejected_messages_keep_the_session() -> None:
    with SessionHarness() as harness:
        harness.open()
        wrong = {
            b"": b"not JSON at byte 0: found the end",
            b"x": b'not JSON at byte 0: found "x"',
            b" [NaN]": b'not JSON at byte 2: found "NaN]"',
            b'"a\tb"': b'not JSON at byte 2: found "\\x09b""',
            b"\xef\xbb\xbf1": b'not JSON at byte 0: found "\\xef\\xbb\\xbf1"',
            b"[" * 1001 + b"]" * 1001: b"not JSON: nested deeper than 1000",
        }
        for message, found in wrong.items():
            harness.say(text(message))
            assert said(harness.peer.message()) == ("error", found)
        harness.say(text(b'"\\ud800"') + text(b"x") + text(b"1e999"))
        assert harness.application.read_stdin() == b'"\\ud800"\n1e999\n'
        assert said(harness.peer.message()) == ("error", wrong[b"x"])


STDIO_MISTAKES: dict[bytes, bytes] = {
    b"no": b'not JSON at byte 0: found "no"',
    b"[]": b"not an object: found an array",
    b"1": b"not an object: found 1",
    b"{}": b"type is none of stdin, eof, signal: found nothing",
    b'{"type":true}': b"type is none of stdin, eof, signal: found true",
    b'{"type":"stdout","payload":""}': (
        b'type is none of stdin, eof, signal: found "stdout"'
    ),
    b'{"type":"stdin"}': b"payload is not base64: found nothing",
    b'{"type":"stdin","payload":"a"}': b'payload is not base64: found "a"',
    b'{"type":"signal","name":"STOP"}': (
        b"name is none of HUP, INT, QUIT, TERM, KILL, USR1, USR2, CONT, WINCH: found "
        b'"STOP"'
    ),
}


@pytest.mark.parametrize("message", STDIO_MISTAKES)
def test_rejected_messages_in_stdio(message: bytes) -> None:
    with SessionHarness() as harness:
        harness.open("stdio")
        first = {"type": "session", "id": SESSION_ID, "direction": "both"}
        assert harness.peer.message() == first
        harness.say(text(message) + text(stdin(b"on")))
        assert said(harness.peer.message()) == ("error", STDIO_MISTAKES[message])
        assert harness.application.read_stdin() == b"on"


def test_stdio() -> None:
    with SessionHarness() as harness:
        harness.open("stdio")
        harness.say(text(stdin(b"\x00\xff")) + text({"type": "signal", "name": "INT"}))
        assert harness.application.read_stdin() == b"\x00\xff"
        assert harness.application.signals == [2]
        harness.say(text(stdin(b"last")) + text({"type": "eof"}) + text(stdin(b"late")))
        assert os.read(harness.application.stdin, 99) == b"last"
        assert os.read(harness.application.stdin, 99) == b""
        harness.say(text({"type": "eof"}))
        harness.print(b"still here")
        harness.exit(-9)
        story = harness.peer.transcript(wait=False)
        assert story.stdout == b"still here"
        assert story.messages[-1] == {"type": "exit", "signal": "KILL"}
        assert story.closed == Closed(1011, "signal KILL")


@pytest.mark.parametrize("framing", ["json", "stdio"])
def test_binary_is_rejected(framing: str) -> None:
    with SessionHarness(*EVERY) as harness:
        harness.open(framing)
        harness.say(text(stdin(b"first")) + frame(2, b"x") + text(stdin(b"not read")))
        heard = harness.application.read_stdin()
        assert b"first" in heard if framing == "stdio" else heard.count(b"payload") == 1
        if framing == "stdio":
            assert harness.peer.message()["type"] == "session"
        assert harness.peer.receive() == Closed(1003, "binary")


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
def test_protocol_errors_of_the_client(data: bytes, closed: Closed) -> None:
    with SessionHarness("--max-message=100") as harness:
        harness.open()
        harness.say(text([1]) + data + text([2]))
        assert harness.application.read_stdin() == b"[1]\n"
        got = harness.peer.receive()
        assert isinstance(got, Closed)
        assert got == closed or (got.code, closed.reason) == (closed.code, "")
        assert harness.application.signals == []
        harness.wait(1.1)
        assert harness.application.signals == [15, 18]
    assert harness.event_log.of("end")[0]["reason"] == got.reason


def test_lines() -> None:
    with SessionHarness(*EVERY) as harness:
        harness.open("lines")
        harness.say(text(b"any text") + text(b"[1,\r\n2]"))
        assert harness.application.read_stdin() == b"any text\n[1,  2]\n"
        harness.print(b"one\r\ntwo\n\nthr")
        harness.print(b"ee")
        harness.exit()
        received = [harness.peer.receive() for _ in range(5)]
        assert received == [b"one", b"two", b"", b"three", Closed(1000, "exit 0")]


def test_line_break_outside_json() -> None:
    with SessionHarness(*EVERY) as harness:
        harness.open("lines")
        harness.say(text(b"first") + text(b"a\nb") + text(b"third"))
        assert harness.application.read_stdin() == b"first\n"
        reason = r"line break outside JSON: a\x0ab"
        assert harness.peer.receive() == Closed(1007, reason)
    assert harness.event_log.of("end")[0]["reason"] == reason


LONG, XS = b"x" * 90, "x" * 80


@pytest.mark.parametrize(
    ("framing", "printed", "reason"),
    [
        ("lines", b"good\nbad\xff\nnever\n", r"line not UTF-8: bad\xff"),
        (
            "lines",
            b"good\n" + LONG + b"\xff\xfe\n",
            rf"line not UTF-8: {'x' * 20}\xff\xfe",
        ),
        ("lines", b"good\n" + b"x" * 101 + b"\nnever\n", f"line over --max-line: {XS}"),
        ("lines", b"good\n" + b"x" * 102, f"line over --max-line: {XS}"),
        ("lsp", BODY + b"Hi: there\n", r"bad header: Hi: there\x0a"),
        ("lsp", BODY + b"Starting\n", r"bad header: Starting\x0a"),
        ("lsp", BODY + b"Content-Length: 2\n", r"bad header: Content-Length: 2\x0a"),
        (
            "lsp",
            BODY + b"Content-Length: +1\r\n",
            r"bad header: Content-Length: +1\x0d",
        ),
        (
            "lsp",
            BODY + b"\xef\xbb\xbfContent-Length: 2\r\n\r\n",
            r"bad header: \xef\xbb\xbfContent-Length: 2\x0d",
        ),
        ("lsp", BODY + b"A: b\r\n\r\n", "bad header: A: b"),
        (
            "lsp",
            BODY + b"Content-Length: 101\r\n",
            r"body over --max-line: Content-Length: 101\x0d",
        ),
        ("lsp", BODY + b"x" * 4096, f"header over 4096 bytes: {XS}"),
        (
            "lsp",
            BODY + b"Content-Length: 3\r\n\r\n{}\xff",
            r"body not UTF-8: {}\xff",
        ),
    ],
)
def test_framing_errors_of_the_application(
    framing: str, printed: bytes, reason: str
) -> None:
    """Earlier output is delivered, and the application is stopped."""
    with SessionHarness(*EVERY, "--max-line=100") as harness:
        harness.open(framing)
        harness.print(printed)
        assert harness.peer.receive() == b"good"
        assert harness.peer.receive() == Closed(1011, reason)
        harness.print(b"more\n")
        harness.wait(1.1)
        assert harness.application.signals == [15, 18]
        harness.exit(-15)
        harness.peer.end()
    assert harness.event_log.of("end")[0]["reason"] == reason


@pytest.mark.parametrize("framing", ["json", "stdio"])
def test_max_output_message(framing: str) -> None:
    with SessionHarness("--max-output-message=1K") as harness:
        harness.open(framing)
        harness.print(b"x" * 5000)
        harness.print(b"y" * 5000, "stderr")
        harness.exit()
        sizes, output = [], b""
        while isinstance(message := harness.peer.receive(), bytes):
            sizes.append(len(message))
            output += base64.b64decode(json.loads(message).get("payload", ""))
        assert message == Closed(1000, "exit 0")
    assert output == b"x" * 5000 + b"y" * 5000
    assert max(sizes) <= 1024
    assert harness.session.messages_out == len(sizes)


def test_last_line_that_is_not_utf8() -> None:
    with SessionHarness(*EVERY) as harness:
        harness.open("lines")
        harness.print(b"good\nbad\xff")
        harness.exit()
        assert harness.peer.receive() == b"good"
        reason = r"line not UTF-8: bad\xff"
        assert harness.peer.receive() == Closed(1011, reason)
    assert harness.event_log.of("end")[0]["reason"] == reason


def test_lsp() -> None:
    with SessionHarness(*EVERY) as harness:
        harness.open("lsp")
        harness.say(text(b"[1,\r\n2]") + text(b'"3"'))
        heard = b'Content-Length: 7\r\n\r\n[1,\r\n2]Content-Length: 3\r\n\r\n"3"'
        assert harness.application.read_stdin() == heard
        harness.print(heard[:3])
        harness.print(heard[3:40])
        harness.print(heard[40:])
        harness.exit()
        received = [harness.peer.receive() for _ in range(3)]
        assert received == [b"[1,\r\n2]", b'"3"', Closed(1000, "exit 0")]
    assert harness.event_log.of("end")[0]["messages_out"] == 2


def test_lsp_rejects_other_than_json() -> None:
    with SessionHarness(*EVERY) as harness:
        harness.open("lsp")
        harness.say(text(b"1") + text(b"hello") + text(b"3"))
        assert harness.application.read_stdin() == b"Content-Length: 1\r\n\r\n1"
        assert harness.peer.receive() == Closed(1007, "not JSON: hello")
    assert harness.event_log.of("end")[0]["reason"] == "not JSON: hello"


BINARY_TAKEN = {
    "lines": b'["\xc3\xa9"]\n1\n2\n',
    "lsp": b'Content-Length: 6\r\n\r\n["\xc3\xa9"]'
    b"Content-Length: 1\r\n\r\n1Content-Length: 1\r\n\r\n2",
}


@pytest.mark.parametrize("framing", BINARY_TAKEN)
def test_binary_messages_of_utf8_are_text(framing: str) -> None:
    """Also in fragments that cut a character. What is sent stays text."""
    message = '["é"]'.encode()
    parts = frame(2, message[:3], fin=False) + frame(0, message[3:])
    with SessionHarness(*EVERY) as harness:
        harness.open(framing)
        harness.say(parts + text(b"1") + frame(2, b"2"))
        heard = harness.application.read_stdin()
        assert heard == BINARY_TAKEN[framing]
        harness.print(heard)
        harness.exit()
        received = [harness.peer.receive() for _ in range(4)]
        assert received == [message, b"1", b"2", Closed(1000, "exit 0")]
    assert harness.event_log.of("end")[0]["messages_in"] == 3


@pytest.mark.parametrize("framing", BINARY_TAKEN)
def test_binary_messages_of_other_bytes_are_rejected(framing: str) -> None:
    reason = "binary: " + "x" * 20 + "\\xff1"
    with SessionHarness(*EVERY) as harness:
        harness.open(framing)
        harness.say(frame(2, b"1") + frame(2, b"x" * 30 + b"\xff1") + text(b"3"))
        assert b"3" not in harness.application.read_stdin()
        assert harness.peer.receive() == Closed(1003, reason)
    assert harness.event_log.of("end")[0]["reason"] == reason


def test_lsp_with_a_byte_stream() -> None:
    """Input before an error is delivered. Messages are counted as they came."""
    stream = b"Content-Length: 1\r\n\r\n1"
    with SessionHarness(*EVERY) as harness:
        harness.open("lsp")
        harness.say(frame(2, stream[:21]) + frame(2, stream[21:]))
        assert harness.application.read_stdin() == stream
        harness.print(stream + stream)
        assert [harness.peer.receive() for _ in range(2)] == [stream, stream]
        harness.say(frame(2, stream + b"hello\n"))
        assert harness.application.read_stdin() == stream
        assert harness.peer.receive() == Closed(1007, "bad header: hello\\x0a")
    (end,) = harness.event_log.of("end")
    assert (end["reason"], end["messages_in"]) == ("bad header: hello\\x0a", 3)


def test_lsp_exit_within_a_body() -> None:
    with SessionHarness(*EVERY) as harness:
        harness.open("lsp")
        harness.print(BODY + b"Content-Length: 4\r\n\r\nbad")
        harness.exit()
        assert harness.peer.receive() == b"good"
        assert harness.peer.receive() == Closed(1011, "output cut off: bad")


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
def test_destinations_of_stderr(
    framing: str, options: tuple[str, ...], where: str
) -> None:
    with SessionHarness(*EVERY, *options) as harness:
        harness.open(framing)
        assert harness.application.keeps_stderr == (where != "discard")
        if where != "discard":
            harness.print(b"one\ntwo", "stderr")
        harness.exit()
        messages = []
        while not isinstance(got := harness.peer.receive(), Closed):
            messages.append(got)
        assert (b'"stderr"' in b"".join(messages)) == (where == "client")
    logged = [fields["line"] for fields in harness.event_log.of("stderr")]
    assert logged == ([b"one", b"two"] if where == "log" else [])


def test_endless_stderr_line_is_split() -> None:
    with SessionHarness("--stderr=log") as harness:
        harness.open()
        for _ in range(3):
            harness.print(b"x" * 4097, "stderr")
        harness.print(b"\nend", "stderr")
        harness.exit()
    logged = [fields["line"] for fields in harness.event_log.of("stderr")]
    assert [len(line) for line in logged] == [4096, 4096, 4096, 3, 3]


# Pings


def test_the_most_recent_ping_of_a_read_is_answered() -> None:
    with SessionHarness() as harness:
        harness.open()
        harness.say(frame(PING, b"first"))
        assert harness.peer.read_frame() == (PONG, b"first")
        harness.say(frame(PING, b"a") + text([1]) + frame(PING, b"b"))
        assert harness.peer.read_frame() == (PONG, b"b")
        assert harness.application.read_stdin() == b"[1]\n"
        harness.say(frame(PONG, b"unasked"))
        assert harness.session.connection.state == OPEN


def print_until_blocked(harness: SessionHarness) -> int:
    """Print as the application until reading stops. Returns the number of bytes."""
    written = 0
    os.set_blocking(harness.application.stdout, False)
    try:
        while True:
            written += os.write(harness.application.stdout, bytes(65536))
            harness.settle()
    except BlockingIOError:
        return written


def test_pong_precedes_queued_data() -> None:
    with SessionHarness() as harness:
        harness.open()
        written = print_until_blocked(harness)
        waiting = harness.session.connection.queued_bytes
        for _ in range(1000):
            harness.say(frame(PING, b"x" * 125))
        harness.say(frame(PING, b"last"))
        assert harness.session.connection.queued_bytes == waiting, "no pong is queued"
        read, pongs, after = 0, [], 0
        while read < written:
            harness.settle()
            got = harness.peer.read_frame()
            assert got is not None
            if got[0] == PONG:
                pongs.append(got[1])
                after = written - read
            else:
                read += len(base64.b64decode(got[1][28:-2]))
        assert pongs == [b"last"]
        assert after > 1 << 16


def test_flood_of_rejected_messages_pauses_reading() -> None:
    with SessionHarness() as harness:
        harness.open()
        assert send_until_blocked(harness, text(b"x") * 500_000) < 1 << 20
        assert harness.session.connection.queued_bytes < 2 << 20
        while harness.session.connection.paused:
            assert said(harness.peer.message())[0] == "error"
            harness.settle()
        assert harness.session.connection.state == OPEN


def send_until_blocked(harness: SessionHarness, data: bytes) -> int:
    """Send as the client until reading stops. Returns the number of bytes."""
    sent = 0
    harness.client.setblocking(False)
    try:
        while sent < len(data):
            sent += harness.client.send(data[sent:])
            harness.settle()
    except BlockingIOError:
        pass
    harness.client.settimeout(30)
    return sent


def test_backpressure_on_the_client() -> None:
    """An application that does not read pauses the client, and resumes it later."""
    with SessionHarness("--ping-interval=off") as harness:
        harness.open("stdio")
        sent = send_until_blocked(harness, text(stdin(b"x" * 50_000)) * 200)
        assert sent < 5 << 20
        backlog = harness.session.process.queued_input
        assert HIGH < backlog < HIGH + (1 << 18)
        harness.wait(100)
        assert harness.session.connection.state == OPEN
        read = 0
        while harness.session.connection.paused:
            read += len(harness.application.read_stdin())
            harness.settle()
        assert read >= backlog - (1 << 16)


# Time


def test_session_timeout() -> None:
    with SessionHarness("--session-timeout=60", "--ping-interval=off") as harness:
        harness.open()
        for _ in range(59):
            harness.say(text([1]))
            harness.wait(1)
        assert harness.session.connection.state == OPEN
        harness.wait(1.1)
        assert harness.peer.receive() == Closed(1001, "time")
    assert harness.event_log.of("end")[0]["reason"] == "time"


def speak(harness: SessionHarness) -> None:
    harness.say(text([1]))


def send_fragment(harness: SessionHarness) -> None:
    harness.say(text([1])[:3])


def write(harness: SessionHarness) -> None:
    harness.print(b"x")


def mistake(harness: SessionHarness) -> None:
    harness.say(text(b"?"))


@pytest.mark.parametrize("act", [speak, send_fragment, write, mistake])
def test_messages_postpone_the_idle_timeout(
    act: Callable[[SessionHarness], None],
) -> None:
    with SessionHarness("--idle-timeout=10", "--ping-interval=off") as harness:
        harness.open()
        harness.wait(9)
        act(harness)
        harness.wait(9.9)
        assert harness.session.connection.state == OPEN
        harness.wait(0.2)
        assert harness.session.connection.state > OPEN
    assert harness.event_log.of("end")[0]["reason"] == "idle"


def test_pings_and_pongs_do_not_postpone_the_idle_timeout() -> None:
    """Otherwise no idle timeout above the ping interval would expire."""
    with SessionHarness("--idle-timeout=60", "--ping-interval=20") as harness:
        harness.open()
        for _ in range(2):
            harness.wait(20.1)
            assert harness.peer.read_frame() == (PING, b"")
            harness.say(frame(PONG, b"") + frame(PING, b"me"))
            assert harness.peer.read_frame() == (PONG, b"me")
        harness.wait(21)
        assert harness.peer.receive() == Closed(1001, "idle")


def test_slow_reader_is_not_idle() -> None:
    with SessionHarness("--idle-timeout=10", "--ping-interval=off") as harness:
        harness.open()
        print_until_blocked(harness)
        for _ in range(3):
            harness.wait(9)
            while (
                harness.session.process.queued_input
                or harness.session.connection.queued_bytes
            ):
                harness.peer.read_frame()
                harness.settle()
            print_until_blocked(harness)
        assert harness.session.connection.state == OPEN


@pytest.mark.parametrize("how", ["time", "drain"])
def test_unread_close_frame_times_out(how: str) -> None:
    """The application has ended, and its output waits for a living client."""
    options = ("--session-timeout=60", "--ping-interval=off")
    with SessionHarness(*options) as harness:
        harness.open()
        print_until_blocked(harness)
        harness.exit()
        harness.wait(30)
        assert harness.session.connection.state != CLOSED
        if how == "drain":
            harness.session.close(DRAIN)
        else:
            harness.wait(30)
        harness.wait(2.1)
        assert harness.session.connection.state == CLOSED
    assert harness.event_log.of("end")[0]["reason"] == how


def test_discarded_output_is_not_reported_as_exit_0() -> None:
    with SessionHarness("--ping-interval=off") as harness:
        harness.open()
        print_until_blocked(harness)
        harness.exit()
        harness.session.close(DRAIN)
        while harness.session.connection.queued_bytes:
            harness.peer.read_frame()
            harness.settle()
        assert harness.peer.transcript(wait=False).closed == Closed(1001, "drain")
    assert harness.event_log.of("end")[0]["reason"] == "drain"


# End of the session


def test_client_closes() -> None:
    with SessionHarness() as harness:
        harness.open()
        harness.say(text([1]) + frame(CLOSE, b"\x0f\xa0bye"))
        assert harness.application.read_stdin() == b"[1]\n"
        assert os.read(harness.application.stdin, 9) == b""
        assert harness.peer.receive() == Closed(4000, "")
        harness.print(b"unread output")
        harness.exit(5)
        harness.peer.end()
    end = harness.event_log.of("end")[0]
    assert (end["reason"], end["exit"]) == ("client close 4000", "exit 5")


def test_client_closes_without_a_code() -> None:
    with SessionHarness() as harness:
        harness.open()
        harness.say(frame(CLOSE, b""))
        assert harness.peer.read_frame() == (CLOSE, b"")
        harness.exit()
    assert harness.event_log.of("end")[0]["reason"] == "client close 1005"


def test_client_disconnects_without_a_close_frame() -> None:
    with SessionHarness() as harness:
        harness.open()
        harness.client.sendall(text([1]))
        harness.peer.close()
        harness.settle()
        assert harness.application.read_stdin() == b"[1]\n"
        assert os.read(harness.application.stdin, 9) == b""
        harness.wait(1.1)
        assert harness.application.signals == [15, 18]
        harness.wait(5.1)
        assert harness.application.signals == [15, 18, 9]
    end = harness.event_log.of("end")[0]
    assert (end["reason"], end["exit"]) == ("client gone", "signal KILL")


def test_first_reason_is_recorded() -> None:
    """The client closes while a descendant holds the output of the application."""
    with SessionHarness() as harness:
        harness.open()
        held = os.dup(harness.application.stdout)
        harness.exit()
        harness.peer.close()
        harness.settle()
        os.close(held)
    end = harness.event_log.of("end")[0]
    assert (end["reason"], end["exit"]) == ("client gone", "exit 0")


def test_dead_client_ends_the_session() -> None:
    with SessionHarness() as harness:
        harness.open()
        harness.wait(20.1)
        assert harness.peer.read_frame() == (PING, b"")
        harness.wait(19.8)
        assert harness.session.connection.state == OPEN
        harness.wait(0.2)
        assert harness.session.connection.state == CLOSED
        harness.peer.end()
    assert harness.event_log.of("end")[0]["reason"] == "ping timeout"


def test_abort() -> None:
    with SessionHarness() as harness:
        harness.open()
        harness.session.abort(KILLED_BY_OPERATOR)
        assert harness.application.signals == [9]
        harness.exit(-9)
        closed = harness.peer.transcript(wait=False).closed
        assert closed == Closed(1001, "killed by operator")
    assert harness.event_log.of("end")[0]["reason"] == "killed by operator"


@pytest.mark.parametrize("reason", [CLOSED_BY_OPERATOR, CLOSED_BY_CONTROL])
def test_an_operator_ends_it_while_the_application_starts(reason: CloseReason) -> None:
    """The client is not asked to try again."""
    with SessionHarness() as harness:
        harness.application.answers_late = True
        harness.ask(upgrade("/", "json", ()))
        harness.session.close(reason)
        harness.settle()
        assert rejection(harness) == (503, f"the session was ended: {reason.text}\n")
        harness.peer.close()
        harness.application.answer()
        harness.settle()
        harness.exit(0)
    (refused,) = harness.event_log.of("refused")
    assert refused["cause"] == "ended"


def test_drain_before_the_request() -> None:
    with SessionHarness() as harness:
        harness.session.close(DRAIN)
        harness.settle()
        status, body = rejection(harness)
        assert (status, body) == (503, "this service is going down; try again later\n")


def test_drained_session_closes_with_1001() -> None:
    with SessionHarness() as harness:
        harness.open("stdio")
        harness.session.close(DRAIN)
        harness.exit(3)
        story = harness.peer.transcript(wait=False)
        assert story.closed == Closed(1001, "drain")
    end = harness.event_log.of("end")[0]
    assert (end["reason"], end["exit"]) == ("drain", "exit 3")


# Internal errors


class InternalError(Exception):
    """Error with a detail that must not reach the client."""


def fail(*args: object, **options: object) -> None:
    raise InternalError("secret")


def internal_errors(harness: SessionHarness) -> int:
    notes = harness.event_log.of("note")
    for note in notes:
        text = "internal error in session 01234567: "
        assert note["text"] == f"{text}{__name__}.InternalError: secret"
        assert note["session"] == SESSION_ID
        assert "InternalError: secret" in note["detail"]
    return len(notes)


def test_error_while_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    with SessionHarness() as harness:
        harness.open()
        monkeypatch.setattr(JsonFraming, "decode_batch", fail)
        harness.say(text([1]))
        story = harness.peer.transcript(wait=False)
        assert story.closed == Closed(1011, "error internal")
        assert internal_errors(harness) == 1
        harness.exit()
    assert harness.event_log.of("end")[0]["reason"] == "error internal"


def test_error_while_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    with SessionHarness() as harness:
        harness.open()
        monkeypatch.setattr(JsonFraming, "encode", fail)
        harness.print(b"x")
        assert harness.peer.receive() == Closed(1011, "error internal")
        assert internal_errors(harness) == 1


def test_error_in_a_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    with SessionHarness() as harness:
        harness.open()
        monkeypatch.setattr(session.Session, "next_timeout", fail)
        harness.wait(1)
        assert harness.peer.receive() == Closed(1011, "error internal")


def test_error_during_the_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    with SessionHarness() as harness:
        monkeypatch.setattr(
            "chimirror.protocol.request_cache.handshake.negotiate", fail
        )
        harness.ask(upgrade("/", "json", ()))
        assert rejection(harness) == (500, "an internal error\n")
        assert internal_errors(harness) == 1


def test_error_while_closing_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with SessionHarness() as harness:
        harness.open()
        monkeypatch.setattr(JsonFraming, "decode_batch", fail)
        monkeypatch.setattr(session.Session, "close", fail)
        harness.say(text([1]))
        assert harness.session.connection.state == CLOSED
        assert harness.application.signals == [9]
        assert internal_errors(harness) == 2


def test_second_error_aborts(monkeypatch: pytest.MonkeyPatch) -> None:
    with SessionHarness() as harness:
        harness.open()
        harness.session.on_error(InternalError("secret"))
        assert harness.session.connection.state != CLOSED
        harness.session.on_error(InternalError("secret"))
        assert harness.session.connection.state == CLOSED
        assert harness.application.signals == [9]


def test_descriptor_that_cannot_be_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failed creation of a session counts nothing."""
    with SessionHarness() as harness:
        client_end, server_end = socket.socketpair()
        monkeypatch.setattr(harness.clock, "register", fail)
        with client_end, server_end, pytest.raises(InternalError):
            session.Session(
                harness.context,
                harness.session.peer,
                server_end.fileno(),
                server_end.fileno(),
                "x",
            )
        assert list(harness.context.handshakes) == [harness.session]
        assert harness.context.connecting == 1


# Events out of order


def test_client_close_frame_after_the_servers() -> None:
    with SessionHarness() as harness:
        harness.open()
        harness.session.close(DRAIN)
        harness.session.on_frames([Close(1000, "")], 6)
        assert harness.peer.receive() == Closed(1001, "drain")
    assert harness.event_log.of("end")[0]["reason"] == "drain"


def test_directions_have_separate_backpressure() -> None:
    """Backpressure of one direction does not affect the other."""
    with SessionHarness("--ping-interval=off") as harness:
        harness.open("stdio")
        send_until_blocked(harness, text(stdin(b"x" * 50_000)) * 200)
        assert harness.session.connection.paused
        harness.session.on_output_buffer_low()
        assert harness.session.connection.paused
        harness.session.close(DRAIN)
        harness.session.close(DRAIN)
        assert not harness.session.connection.paused
