"""Windows of a terminal: its output is read as far as the client permits.

The terminal is two pipes, so that each byte is accounted for. Real terminals are in
tests/programs/test_windows.py.
"""

from __future__ import annotations

import pytest

from chimirror.io.write_buffer import HIGH, LOW
from chimirror.process.pipes import STDOUT
from loops import fill
from session_harness import SessionHarness
from websocket_peer import CLOSE, Closed, frame, payload_of, stdin, text

LARGEST = 2**53 - 1
CLOSE_FRAME = frame(CLOSE, b"\x03\xe8")


def window(size: object) -> dict[str, object]:
    return {"type": "window", "bytes": size}


def opened(harness: SessionHarness) -> SessionHarness:
    harness.open("stdio")
    harness.peer.message()
    return harness


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--pty"], True),
        (["--pty", "--read-only"], True),
        ([], None),
    ],
)
def test_the_session_message_says_whether_windows_are_known(
    options: list[str], expected: bool | None
) -> None:
    with SessionHarness(*options) as harness:
        harness.open("stdio")
        assert harness.peer.message().get("window") is expected
        harness.exit()


@pytest.mark.parametrize("options", [(), ("--read-only",)])
def test_output_ends_at_the_window(options: tuple[str, ...]) -> None:
    with SessionHarness("--pty", *options) as harness:
        opened(harness).say(text(window(10)))
        harness.print(b"0123456789abcdef")
        assert harness.peer.output(10) == b"0123456789"
        sent = harness.session.bytes_out
        harness.wait(100)
        assert harness.session.bytes_out == sent
        harness.say(text(window(10)) + text(window(13)))
        assert harness.peer.output(3) == b"abc"
        harness.say(text(window(LARGEST)))
        assert harness.peer.output(3) == b"def"
        harness.exit()


def test_output_before_the_first_window_counts() -> None:
    with SessionHarness("--pty") as harness:
        opened(harness).print(bytes(1000))
        harness.say(text(window(999)))
        harness.print(b"later")
        assert harness.peer.output(1000) == bytes(1000)
        harness.say(text(window(1001)))
        assert harness.peer.output(1) == b"l"
        harness.say(text(window(1005)))
        assert harness.peer.output(4) == b"ater"
        harness.exit()


def test_the_exit_delivers_all_output() -> None:
    with SessionHarness("--pty") as harness:
        opened(harness).say(text(window(0)))
        harness.print(b"last words")
        harness.exit(3)
        told = harness.peer.transcript(wait=False)
        assert (told.stdout, told.closed) == (b"last words", Closed(1011, "exit 3"))


def test_a_client_ends_a_session_with_a_full_window() -> None:
    with SessionHarness("--pty") as harness:
        opened(harness).say(text(window(0)))
        fill(harness.application.stdout)
        harness.say(CLOSE_FRAME)
        harness.exit()
        told = harness.peer.transcript(wait=False)
        assert (told.stdout, told.closed) == (b"", Closed(1000, ""))


def test_much_input_lifts_the_window() -> None:
    """The client is not read then, and the echo must not block the terminal."""
    with SessionHarness("--pty") as harness:
        opened(harness).say(text(window(4)))
        harness.print(b"0123456789")
        assert harness.peer.output(4) == b"0123"
        harness.client.setblocking(False)
        data, typed = text(stdin(bytes(HIGH // 2))), 0
        while harness.session.process.queued_input <= HIGH:
            harness.say(data)
            typed += HIGH // 2
        assert payload_of(harness.peer.message()) == b"456789"
        harness.print(b"echo")
        assert harness.peer.output(4) == b"echo"
        while harness.session.process.queued_input > LOW:
            typed -= len(harness.application.read_stdin())
            harness.settle()
        harness.print(b"not yet")
        harness.say(text(window(14 + 3)))
        assert harness.peer.output(3) == b"not"
        while typed:
            typed -= len(harness.application.read_stdin())
            harness.settle()
        harness.exit()


def test_windows_and_pauses_are_independent() -> None:
    with SessionHarness("--pty") as harness:
        opened(harness).say(text(window(2)))
        harness.session.process.pause(STDOUT)
        harness.print(b"0123456789")
        harness.say(text(window(4)))
        harness.session.process.resume(STDOUT)
        harness.settle()
        assert harness.peer.output(4) == b"0123"
        harness.session.process.pause(STDOUT)
        harness.say(text(window(8)))
        sent = harness.session.bytes_out
        harness.wait(100)
        assert harness.session.bytes_out == sent
        harness.session.process.resume(STDOUT)
        harness.settle()
        assert harness.peer.output(4) == b"4567"
        harness.exit()


BAD_SIZE = "bytes is not an integer from 0 to 9007199254740991: found "


@pytest.mark.parametrize(
    ("size", "found"),
    [
        (-1, "-1"),
        (1.5, "1.5"),
        (7.0, "7.0"),
        (True, "true"),
        (None, "nothing"),
        ("7", '"7"'),
        ([7], "an array"),
        (2**53, "9007199254740992"),
    ],
)
def test_no_window_but_an_integer_is_accepted(size: object, found: str) -> None:
    with SessionHarness("--pty") as harness:
        opened(harness).say(text(window(size)) + text({"type": "window"}))
        told = [payload_of(harness.peer.message()).decode() for _ in range(2)]
        assert told == [BAD_SIZE + found, BAD_SIZE + "nothing"]
        harness.print(b"no limit")
        assert harness.peer.output(8) == b"no limit"
        harness.exit()


def test_a_window_never_shrinks() -> None:
    with SessionHarness("--pty") as harness:
        opened(harness).say(text(window(7)) + text(window(6)))
        told = harness.peer.message()
        assert payload_of(told) == b"bytes is less than before: found 6"
        harness.print(b"01234567")
        assert harness.peer.output(7) == b"0123456"
        harness.exit()


def test_pipes_have_no_window() -> None:
    with SessionHarness() as harness:
        opened(harness).say(text(window(0)))
        complaint = b"there is no terminal with a window"
        assert payload_of(harness.peer.message()) == complaint
        harness.print(b"no limit")
        assert harness.peer.output(8) == b"no limit"
        harness.exit()


def test_little_output_of_a_terminal_is_queued() -> None:
    """The client does not read."""
    with SessionHarness("--pty") as harness:
        opened(harness)
        connection = harness.session.connection
        while fill(harness.application.stdout):
            harness.settle()
        assert LOW < connection.queued_bytes < HIGH
        harness.client.close()
        harness.exit()
