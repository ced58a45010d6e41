"""Inherited descriptors, each case in a child process."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable

import pytest

from chimirror.io import fds


def in_child(check: Callable[[], bool]) -> bool:
    """Return the result of `check` in a child, which may change its descriptors."""
    pid = os.fork()
    if pid == 0:
        status = 2
        try:
            status = 0 if check() else 1
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1] == 0


def is_null(fd: int) -> bool:
    return os.readlink(f"/proc/self/fd/{fd}") == os.devnull and os.get_inheritable(fd)


def test_one_file_by_two_numbers() -> None:
    reader, writer = os.pipe()
    other, another = os.pipe()
    copy = os.dup(reader)
    assert fds.same_file(reader, copy)
    assert not fds.same_file(reader, other)
    for fd in (reader, writer, other, another, copy):
        os.close(fd)
    assert not fds.same_file(reader, copy)
    assert not fds.same_file(0, copy)


@pytest.mark.parametrize("closed", [(), (0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)])
def test_only_missing_stdio_is_opened(closed: tuple[int, ...]) -> None:
    def check() -> bool:
        before = {fd: os.fstat(fd).st_ino for fd in (0, 1, 2)}
        count = len(os.listdir("/proc/self/fd"))
        for fd in closed:
            os.close(fd)
        fds.open_missing_stdio()
        kept = [fd for fd in before if fd not in closed]
        return (
            all(is_null(fd) for fd in closed)
            and all(os.fstat(fd).st_ino == before[fd] for fd in kept)
            and len(os.listdir("/proc/self/fd")) == count
        )

    assert in_child(check)


def test_all_are_closed_but_one() -> None:
    def check() -> bool:
        keep = max(os.pipe())
        os.dup2(keep, 200)
        fds.close_all(keep=keep)
        os.listdir("/")  # the listing itself has the lowest number
        left = [fd for fd in range(300) if os.path.exists(f"/proc/self/fd/{fd}")]
        return left == [0, 1, 2, keep]

    assert in_child(check)


def test_redirect_to_null_replaces_a_descriptor() -> None:
    def check() -> bool:
        reader, writer = os.pipe()
        os.dup2(writer, 2)
        os.close(writer)
        fds.redirect_to_null(2)
        return is_null(2) and os.read(reader, 1) == b""

    assert in_child(check)


def test_cloexec_is_not_set_on_stdio() -> None:
    def check() -> bool:
        foreign = os.dup(0)
        os.set_inheritable(foreign, True)
        os.dup2(foreign, 200)
        fds.set_cloexec_all()
        return [
            fd
            for fd in map(int, os.listdir("/proc/self/fd"))
            if fd < 300 and os.path.exists(f"/proc/self/fd/{fd}")
            if os.get_inheritable(fd)
        ] == [0, 1, 2]

    assert in_child(check)


@pytest.mark.parametrize("listed", [["/dev/fd"], []])
def test_cloexec_without_proc(
    listed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another system, and a bare chroot."""

    def listdir(path: str) -> list[str]:
        if path not in listed:
            raise FileNotFoundError(path)
        return os.listdir("/proc/self/fd")

    class Posix:
        set_inheritable = staticmethod(os.set_inheritable)

    Posix.listdir = staticmethod(listdir)  # type: ignore[attr-defined]
    monkeypatch.setattr(fds, "os", Posix)
    foreign = os.dup(0)
    os.set_inheritable(foreign, True)
    fds.set_cloexec_all()
    assert not os.get_inheritable(foreign)
    os.close(foreign)


def test_no_descriptor_is_above_the_highest() -> None:
    """One was opened before the limit was lowered."""

    def check() -> bool:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
        before = fds.highest()
        os.dup2(0, 299)
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
        after = fds.highest()
        os.close(299)
        return (before, after, fds.highest()) == (300, 299, 100)

    assert in_child(check)
