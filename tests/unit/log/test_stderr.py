"""Lines of a program itself: one format, whole lines where there is room."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chimirror.log import stderr


@pytest.mark.parametrize(
    ("argv", "found"),
    [
        ("--log-format json cat", "json"),
        ("--nonsense --log-format=text cat", "text"),
        ("--log-format json=x cat", "auto"),
        ("--log-format", "auto"),
        ("-- cat --log-format json", "auto"),
    ],
)
def test_the_format_on_a_faulty_command_line(argv: str, found: str) -> None:
    assert stderr.requested_format(argv.split()) == found


PROGRAM = """
import os, sys
from chimirror.log.stderr import captured, report, report_exception, set_format
set_format(sys.argv[1])
report("listening\\n\\udc80")
os.environ.clear()
try:
    with captured():
        print("of an import", file=sys.stderr)
        os.write(2, b"and more")
        os.write(1, b"kept")
        raise ValueError("x")
except ValueError as error:
    report_exception(error, "1d" * 16)
"""


def run(wanted: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, wanted], capture_output=True, check=True
    )
    assert done.stdout == b"kept"
    return done.stderr.decode()


@pytest.mark.parametrize("wanted", ["json", "auto"])
def test_json(wanted: str) -> None:
    first, second, third, last = map(json.loads, run(wanted).splitlines())
    assert first["MESSAGE"] == "listening\n\\udc80"
    assert (second["MESSAGE"], third["MESSAGE"]) == ("of an import", "and more")
    assert last["MESSAGE"] == "internal error in session 1d1d1d1d: ValueError: x"
    assert last["CHIMIRROR_SESSION"] == "1d" * 16
    assert last["CHIMIRROR_DETAIL"].startswith("Traceback (most recent call last)")
    assert (first["PRIORITY"], last["PRIORITY"]) == ("5", "3")


def test_text() -> None:
    said = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", run("text"))
    lines = said.splitlines()
    assert lines[:3] == ["TIME listening", "    \\udc80", "of an import"]
    assert lines[3] == "and moreTIME internal error in session 1d1d1d1d: ValueError: x"
    assert lines[4] == "    Traceback (most recent call last):"


def test_the_journal_takes_text() -> None:
    read, write = os.pipe()
    status = os.fstat(write)
    env = {**os.environ, "JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
    argv = [sys.executable, "-c", PROGRAM, "auto"]
    subprocess.run(argv, stderr=write, stdout=subprocess.DEVNULL, env=env, check=True)
    os.close(write)
    with open(read) as file:
        assert file.readline() == "listening\n"


# Room


@contextmanager
def instead(fd: int) -> Iterator[None]:
    """Use another descriptor as standard error, as a journal's."""
    saved = os.dup(2)
    os.dup2(fd, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """Yield both ends of a pipe that holds two pages. Lines are plain there."""
    import fcntl

    monkeypatch.setattr(stderr, "_form", stderr.PLAIN)
    read_fd, write_fd = os.pipe()
    fcntl.fcntl(write_fd, fcntl.F_SETPIPE_SZ, 2 * stderr.PIPE_BUF)
    yield read_fd, write_fd
    os.close(read_fd)
    os.close(write_fd)


def test_a_line(pipe: tuple[int, int]) -> None:
    with instead(pipe[1]):
        stderr.report("ä\udc80")
    assert os.read(pipe[0], 100) == "ä\\udc80\n".encode()


def test_a_pipe_that_is_full(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part that fits is written. The rest is given up, and nothing blocks."""
    monkeypatch.setattr(stderr, "REPORT_TIMEOUT", 0)
    with instead(pipe[1]):
        stderr.report("x" * 3 * stderr.PIPE_BUF)
    assert os.read(pipe[0], 1 << 16) == b"x" * 2 * stderr.PIPE_BUF


def test_a_traceback(pipe: tuple[int, int]) -> None:
    with instead(pipe[1]):
        try:
            raise ValueError("a bug")
        except ValueError as error:
            stderr.report_exception(error)
    said = os.read(pipe[0], 1 << 16).decode().splitlines()
    assert said[:2] == [
        "internal error: ValueError: a bug",
        "Traceback (most recent call last):",
    ]
    assert said[-1] == "ValueError: a bug"


def test_no_standard_error() -> None:
    saved = os.dup(2)
    os.close(2)
    try:
        stderr.report("lost")
    finally:
        os.dup2(saved, 2)
        os.close(saved)
