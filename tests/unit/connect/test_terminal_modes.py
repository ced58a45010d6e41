"""Modes that a program leaves set in a terminal, and their reset sequence.

Guarantees: the result is independent of the cuts in the output. The reset sequence
resets all modes. It is empty after real programs that reset their modes.
test_connect_pty.py checks it with a real terminal emulator.
"""

from __future__ import annotations

import os
import subprocess
import termios
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.connect.terminal_modes import TerminalModes


def reset_sequence_after(*output: bytes, rows: int = 24) -> bytes:
    modes = TerminalModes(lambda: rows)
    for data in output:
        modes.feed(data)
    return modes.reset_sequence()


RESETS = [
    (b"\x1b[?1049h", b"\x1b[?1049l"),
    (b"\x1b[?47h", b"\x1b[?47l"),
    (b"\x1b[?1h\x1b=", b"\x1b[?1l\x1b>"),
    (b"\x1b[?66h", b"\x1b>"),
    (b"\x1b[?25l", b"\x1b[?25h"),
    (b"\x1b[?7l", b"\x1b[?7h"),
    (b"\x1b[?1000;1006;2004;1004h", b"\x1b[?1000l\x1b[?1004l\x1b[?1006l\x1b[?2004l"),
    (b"\x1b[?1002h\x1b[?1003h", b"\x1b[?1002l\x1b[?1003l"),
    (b"\x1b[?2026h", b"\x1b[?2026l"),
    (b"\x1b[4h\x1b[20h", b"\x1b[4l\x1b[20l"),
    (b"\x1b[1m", b"\x1b[m"),
    (b"\x1b[0;1m", b"\x1b[m"),
    (b"\x1b[38;5;0m", b"\x1b[m"),
    (b"\x1b[38;2;1;2;0m", b"\x1b[m"),
    (b"\x1b[48:2::1:2:0m", b"\x1b[m"),
    (b"\x1b[4:3m", b"\x1b[m"),
    (b"\x1b[1;31m\x1b[39m", b"\x1b[m"),
    (b"\x1b[2;10r", b"\x1b7\x1b[r\x1b8"),
    (b"\x1b[1;23r", b"\x1b7\x1b[r\x1b8"),
    (b"\x1b[?1049h\x1b[1;23r", b"\x1b[r\x1b[?1049l"),
    (b"\x1b(0", b"\x1b(B"),
    (b"\x1b)0\x0e", b"\x1b)B\x0f"),
    (b"\x1b[>4;2m", b"\x1b[>4m"),
    (b"\x1b[>1u\x1b[?1049h\x1b[>3u", b"\x1b[<1u\x1b[?1049l\x1b[<1u"),
    (b"\x1b[>1u\x1b[?1049h\x1b[>3u\x1b[?1049l", b"\x1b[<1u"),
    (b"\x1b[5 q", b"\x1b[0 q"),
    (b"\x1b]0;half a tit", b"\x18"),
    (b"\x1b[?10", b"\x18"),
    (b"\x1bP+q\x07", b"\x18"),
]
CLEAN = [
    b"",
    b"plain \xff\x9b\n",
    b"\x1b[?1049h\x1b[?1049l",
    b"\x1b[?1049h\x1b[?47l",
    b"\x1b[?1h\x1b=\x1b[?1l\x1b>",
    b"\x1b[?25l\x1b[?12;25h",
    b"\x1b[?1000h\x1b[?1006h\x1b[?1006;1000l",
    b"\x1b[1;31mred\x1b[0m",
    b"\x1b[1;31mred\x1b[m",
    b"\x1b[1;31;45mred\x1b[39;49;22m",
    b"\x1b[4mone\x1b[4:0m",
    b"\x1b[38;5;1;0m",
    b"\x1b[2;10r\x1b[r",
    b"\x1b[2;10r\x1b[1;24r",
    b"\x1b(0qqq\x1b(B\x0e\x0f",
    b"\x1b[>4;2m\x1b[>4;m",
    b"\x1b[>4;2m\x1b[>4m",
    b"\x1b[>1u\x1b[<u",
    b"\x1b[5 q\x1b[ q",
    b"\x1b[?1049h\x1b[?25l\x1b[1m\x1bc",
    b"\x1b[?25l\x1b[1m\x1b[2;3r\x1b[!p",
    b"\x1b]0;title\x07\x1b]0;title\x1b\\\x1bPq\x1b\\",
    b"\x1b]0;half\x18",
    b"\x1b[?1034h\x1b[22;0;0t\x1b[c\x1b[6n\x1b[?u\x1b[>q\x1b7\x1b8\x1b[H\x1b[2J",
    b"\x1b[" + b"9" * 5000 + b"m\x1b[>" + b"9" * 90 + b";1m",
]


@pytest.mark.parametrize(("output", "undo"), RESETS)
def test_modes_are_reset(output: bytes, undo: bytes) -> None:
    assert reset_sequence_after(output) == undo


@pytest.mark.parametrize("output", CLEAN)
def test_no_reset_is_needed(output: bytes) -> None:
    assert reset_sequence_after(output) == b""


SEQUENCES = st.sampled_from([output for output, _ in RESETS] + CLEAN)
OUTPUT = st.lists(SEQUENCES | st.binary(max_size=9)).map(b"".join)


@given(OUTPUT, st.integers(1, 9))
def test_cuts_make_no_difference(output: bytes, size: int) -> None:
    pieces = [output[at : at + size] for at in range(0, len(output), size)]
    assert reset_sequence_after(*pieces) == reset_sequence_after(output)


@given(OUTPUT)
def test_the_reset_is_complete(output: bytes) -> None:
    assert reset_sequence_after(output, reset_sequence_after(output)) == b""


def test_memory_is_bounded() -> None:
    modes = TerminalModes(lambda: 24)
    for number in range(10_000):
        modes.feed(b"\x1b[?%dh\x1b[%dm\x1b[>%d;1m\x1b[" % ((number,) * 3))
    assert len(modes.reset_sequence()) < 500
    modes.feed(b"\x1b[" + b"1;" * 100_000)
    modes.feed(b"\x1b]" + b"x" * 100_000)
    assert len(modes._incomplete) < 200


PROGRAMS = {
    "vim": (["vim", "-Nu", "NONE", "-i", "NONE", "-n", "+set mouse=a"], b":q!\r"),
    "htop": (["htop", "-p", "1"], b"q"),
    "less": (["less", __file__], b"q"),
    "bash": (["bash", "--norc", "-i"], b"exit\r"),
}


@contextmanager
def run_in_pty(argv: list[str], home: Path) -> Iterator[int]:
    """Run a program in a new terminal. Yields the master side."""
    with ExitStack() as stack:
        master, slave = os.openpty()
        stack.callback(os.close, master)
        termios.tcsetwinsize(slave, (24, 80))
        environment = {**os.environ, "TERM": "xterm-256color", "HOME": str(home)}
        process = subprocess.Popen(
            ["setsid", "--ctty", *argv],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
        )
        os.close(slave)
        stack.enter_context(process)
        stack.callback(process.kill)
        yield master


@pytest.mark.parametrize("name", PROGRAMS)
def test_real_programs_leave_nothing(name: str, tmp_path: Path) -> None:
    argv, keys = PROGRAMS[name]
    modes = TerminalModes(lambda: 24)
    with run_in_pty(argv, tmp_path) as master:
        while not modes.reset_sequence():
            modes.feed(os.read(master, 1000))
        os.write(master, keys)
        with suppress(OSError):  # EIO: the program has ended
            while True:
                modes.feed(os.read(master, 1000))
        assert modes.reset_sequence() == b""
