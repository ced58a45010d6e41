"""Lines on standard error: whole where there is room, given up where there is none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chimirror.io import stderr


@contextmanager
def instead(fd: int) -> Iterator[None]:
    """Use another descriptor as standard error."""
    saved = os.dup(2)
    os.dup2(fd, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Yield both ends of a pipe that holds two pages."""
    import fcntl

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
    assert (said[0], said[-1]) == (
        "Traceback (most recent call last):",
        "ValueError: a bug",
    )


def test_no_standard_error() -> None:
    saved = os.dup(2)
    os.close(2)
    try:
        stderr.report("lost")
    finally:
        os.dup2(saved, 2)
        os.close(saved)
