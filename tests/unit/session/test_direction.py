"""Sessions with --direction: clients that only send, and clients that only receive."""

from __future__ import annotations

import os

import pytest

from session_harness import SessionHarness
from websocket_peer import Closed, frame, stdin, text

EVERY = "--framing=json,stdio,lines,lsp"
FRAMINGS = pytest.mark.parametrize("framing", ["json", "stdio", "lines", "lsp"])
BINARY, PING, PONG = 2, 9, 10
MESSAGES = {"json": {"a": 1}, "stdio": stdin(b"hi"), "lines": {"a": 1}, "lsp": {"a": 1}}


def remaining_messages(harness: SessionHarness) -> tuple[list[bytes], Closed]:
    """Read messages until the close frame."""
    messages: list[bytes] = []
    while not isinstance(got := harness.peer.receive(), Closed):
        messages.append(got)
    return messages, got


@FRAMINGS
def test_direction_receive_gives_the_application_no_input(framing: str) -> None:
    with SessionHarness(EVERY, "--direction=receive") as harness:
        harness.open(framing)
        # End of file, since the read does not block.
        assert os.read(harness.application.stdin, 1) == b""


@FRAMINGS
def test_direction_receive_rejects_messages(framing: str) -> None:
    with SessionHarness(EVERY, "--direction=receive") as harness:
        harness.open(framing)
        harness.say(text(MESSAGES[framing]))
        _, closed = remaining_messages(harness)
        assert closed == Closed(1008, "this application only sends")
    assert harness.event_log.of("end")[0]["reason"] == "this application only sends"


@pytest.mark.parametrize("framing", ["lines", "lsp"])
@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"1", Closed(1008, "this application only sends")),
        (b'{"a":1}', Closed(1008, "this application only sends")),
        (b"\xff", Closed(1003, "binary: \\xff")),
    ],
)
def test_direction_receive_rejects_binary_messages(
    framing: str, payload: bytes, reason: Closed
) -> None:
    with SessionHarness(EVERY, "--direction=receive") as harness:
        harness.open(framing)
        harness.say(frame(BINARY, payload))
        _, closed = remaining_messages(harness)
        assert closed == reason


def test_direction_receive_rejects_a_byte_stream() -> None:
    """Also if it has an error behind a body."""
    body = b"Content-Length: 1\r\n\r\n1"
    for stream in (body, body + b"hello\n"):
        with SessionHarness(EVERY, "--direction=receive") as harness:
            harness.open("lsp")
            harness.say(frame(BINARY, stream))
            _, closed = remaining_messages(harness)
            assert closed == Closed(1008, "this application only sends")


def test_direction_receive_accepts_the_end_of_input_and_signals() -> None:
    harmless = (stdin(b""), {"type": "eof"}, {"type": "eof"}, stdin(b""))
    signal = {"type": "signal", "name": "INT"}
    with SessionHarness("--direction=receive") as harness:
        harness.open("stdio")
        harness.say(b"".join(map(text, (*harmless, signal))))
        assert harness.application.signals == [2]
        harness.print(b"all of it")
        harness.exit(3)
        messages, closed = remaining_messages(harness)
        assert len(messages) == 3
        assert closed == Closed(1011, "exit 3")


@pytest.mark.parametrize("framing", ["json", "stdio"])
def test_direction_receive_answers_invalid_messages(framing: str) -> None:
    with SessionHarness("--direction=receive") as harness:
        harness.open(framing)
        harness.say(text(b"not JSON"))
        if framing == "stdio":
            harness.say(text({"type": "resize", "columns": 80, "rows": 24}))
        harness.exit()
        messages, closed = remaining_messages(harness)
        errors = [message for message in messages if b'"error"' in message]
        assert len(errors) == (2 if framing == "stdio" else 1)
        assert closed == Closed(1000, "exit 0")


@FRAMINGS
def test_read_only_ignores_what_a_client_sends(framing: str) -> None:
    with SessionHarness(EVERY, "--read-only") as harness:
        harness.open(framing)
        harness.say(text(MESSAGES[framing]))
        if framing == "stdio":
            harness.say(
                text({"type": "signal", "name": "KILL"}) + text({"type": "eof"})
            )
        if framing in ("lines", "lsp"):
            harness.say(text(b"two\nlines"))
        assert os.read(harness.application.stdin, 1) == b""
        assert not harness.application.signals
        harness.exit()
        assert remaining_messages(harness)[1] == Closed(1000, "exit 0")
    assert harness.session.messages_in


def test_a_terminal_can_be_watched() -> None:
    with SessionHarness("--pty", "--read-only") as harness:
        harness.open("stdio")
        harness.say(text(stdin(b"rm *\r")) + text({"type": "eof"}))
        # Nothing is typed, and the input does not end.
        with pytest.raises(BlockingIOError):
            os.read(harness.application.stdin, 1)
        harness.print(b"hi")
        session, output = harness.peer.message(), harness.peer.message()
        assert (session["direction"], session["read_only"]) == ("receive", True)
        assert output["type"] == "stdout"


@pytest.mark.parametrize("options", ["", "--direction=send", "--direction=receive"])
def test_the_session_message_says_the_direction(options: str) -> None:
    with SessionHarness(*filter(None, [options])) as harness:
        harness.open("stdio")
        session = harness.peer.message()
        assert session["direction"] == options.partition("=")[2] or "both"
        assert "read_only" not in session


def test_direction_receive_answers_pings() -> None:
    with SessionHarness("--direction=receive") as harness:
        harness.open()
        harness.say(frame(PING, b"a"))
        assert harness.peer.read_frame() == (PONG, b"a")
        harness.say(frame(PONG, b"b"))
        harness.print(b"hi")
        assert harness.peer.output(2) == b"hi"


@FRAMINGS
def test_direction_receive_delivers_all_output(framing: str) -> None:
    outputs = {"lsp": b"Content-Length: 2\r\n\r\nhi", "lines": b"hi"}
    with SessionHarness(EVERY, "--direction=receive") as harness:
        harness.open(framing)
        harness.print(outputs.get(framing, b"hi\n"))
        harness.exit(3)
        messages, closed = remaining_messages(harness)
        assert closed == Closed(1011, "exit 3")
        if framing == "stdio":
            session, *messages, ended = messages
            assert (b'"session"' in session, ended) == (
                True,
                b'{"type":"exit","code":3}',
            )
        assert len(messages) == 1


@FRAMINGS
def test_direction_send_logs_output(framing: str) -> None:
    with SessionHarness(EVERY, "--direction=send") as harness:
        harness.open(framing)
        harness.say(text(MESSAGES[framing]))
        assert harness.application.read_stdin()
        harness.print(b"one\ntw")
        harness.print(b"oops\n", "stderr")
        harness.print(b"o\nthree")
        harness.exit()
        messages, closed = remaining_messages(harness)
        assert closed == Closed(1000, "exit 0")
        assert len(messages) == (2 if framing == "stdio" else 0)
    lines = [fields["line"] for fields in harness.event_log.of("stdout")]
    assert lines == [b"one", b"two", b"three"]
    assert [fields["line"] for fields in harness.event_log.of("stderr")] == [b"oops"]


def test_direction_send_reports_rejected_messages() -> None:
    with SessionHarness("--direction=send") as harness:
        harness.open()
        harness.say(text(b"not JSON"))
        assert harness.peer.message()["type"] == "error"


def test_direction_send_may_discard_stderr() -> None:
    with SessionHarness("--direction=send", "--stderr=discard") as harness:
        harness.open()
        assert not harness.application.keeps_stderr
        harness.print(b"one\n")
        harness.exit()
        assert remaining_messages(harness) == ([], Closed(1000, "exit 0"))
    assert [fields["line"] for fields in harness.event_log.of("stdout")] == [b"one"]


def test_direction_receive_may_log_stderr() -> None:
    with SessionHarness("--direction=receive", "--stderr=log") as harness:
        harness.open()
        harness.print(b"one\n", "stderr")
        harness.print(b"hi")
        assert harness.peer.output(2) == b"hi"
        harness.exit()
    assert [fields["line"] for fields in harness.event_log.of("stderr")] == [b"one"]
