"""Traffic in one direction: what a client that only sends, or only hears, is told."""

from __future__ import annotations

import os

import pytest

from peers import Closed, frame, stdin, text
from stage import Stage

EVERY = "--framing=json,stdio,lines,lsp"
FRAMINGS = pytest.mark.parametrize("framing", ["json", "stdio", "lines", "lsp"])
PING, PONG = 9, 10
MESSAGES = {"json": {"a": 1}, "stdio": stdin(b"hi"), "lines": {"a": 1}, "lsp": {"a": 1}}


def rest(stage: Stage) -> tuple[list[bytes], Closed]:
    """What the client hears up to its end."""
    messages: list[bytes] = []
    while not isinstance(got := stage.peer.receive(), Closed):
        messages.append(got)
    return messages, got


@FRAMINGS
def test_one_that_only_sends_has_no_input(framing: str) -> None:
    with Stage(EVERY, "--direction=receive") as stage:
        stage.open(framing)
        assert os.read(stage.application.stdin, 1) == b""  # the end: it does not block


@FRAMINGS
def test_its_client_may_say_nothing(framing: str) -> None:
    with Stage(EVERY, "--direction=receive") as stage:
        stage.open(framing)
        stage.say(text(MESSAGES[framing]))
        _, closed = rest(stage)
        assert closed == Closed(1008, "this application only sends")
    assert stage.records.of("end")[0]["reason"] == "this application only sends"


@pytest.mark.parametrize("message", ["eof", "signal"])
def test_nor_end_or_signal_it(message: str) -> None:
    with Stage("--direction=receive") as stage:
        stage.open("stdio")
        stage.say(text({"type": message, "name": "INT"}))
        assert rest(stage)[1].code == 1008
        assert 2 not in stage.application.signals


def test_pings_are_no_messages() -> None:
    with Stage("--direction=receive") as stage:
        stage.open()
        stage.say(frame(PING, b"a"))
        assert stage.peer.read_frame() == (PONG, b"a")
        stage.say(frame(PONG, b"b"))
        stage.print(b"hi")
        assert stage.peer.output(2) == b"hi"


@FRAMINGS
def test_what_it_says_is_heard_to_its_end(framing: str) -> None:
    said = {"lsp": b"Content-Length: 2\r\n\r\nhi", "lines": b"hi"}
    with Stage(EVERY, "--direction=receive") as stage:
        stage.open(framing)
        stage.print(said.get(framing, b"hi\n"))
        stage.exit(3)
        messages, closed = rest(stage)
        assert closed == Closed(1011, "exit 3")
        if framing == "stdio":
            session, *messages, ended = messages
            assert (b'"session"' in session, ended) == (
                True,
                b'{"type":"exit","code":3}',
            )
        assert len(messages) == 1


@FRAMINGS
def test_a_client_that_only_sends_hears_nothing(framing: str) -> None:
    with Stage(EVERY, "--direction=send") as stage:
        stage.open(framing)
        stage.say(text(MESSAGES[framing]))
        assert stage.application.heard()
        stage.print(b"one\ntw")
        stage.print(b"oops\n", "stderr")
        stage.print(b"o\nthree")
        stage.exit()
        messages, closed = rest(stage)
        assert closed == Closed(1000, "exit 0")
        assert len(messages) == (2 if framing == "stdio" else 0)
    lines = [fields["line"] for fields in stage.records.of("stdout")]
    assert lines == [b"one", b"two", b"three"]
    assert [fields["line"] for fields in stage.records.of("stderr")] == [b"oops"]


def test_but_of_its_mistakes() -> None:
    with Stage("--direction=send") as stage:
        stage.open()
        stage.say(text(b"not JSON"))
        assert stage.peer.message()["type"] == "error"


def test_standard_error_may_be_dropped() -> None:
    with Stage("--direction=send", "--stderr=discard") as stage:
        stage.open()
        assert not stage.application.keeps_stderr
        stage.print(b"one\n")
        stage.exit()
        assert rest(stage) == ([], Closed(1000, "exit 0"))
    assert [fields["line"] for fields in stage.records.of("stdout")] == [b"one"]


def test_standard_error_may_be_logged_where_output_is_not() -> None:
    with Stage("--direction=receive", "--stderr=log") as stage:
        stage.open()
        stage.print(b"one\n", "stderr")
        stage.print(b"hi")
        assert stage.peer.output(2) == b"hi"
        stage.exit()
    assert [fields["line"] for fields in stage.records.of("stderr")] == [b"one"]
