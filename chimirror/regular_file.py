"""Reads regular files that other users can have made: bounded, and without waiting.

A FIFO would make the reader wait, and opening a device can act: a watchdog starts. So
the path is opened without access first (O_PATH), and what it is decides. That file is
then opened through /proc, since the path may lead elsewhere by now. Knows nothing of
the content.
"""

from __future__ import annotations

from chimirror.builtin_modules import os, stat

_PATH = os.O_PATH | os.O_CLOEXEC
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_UNITS = ((1 << 20, "MiB"), (1 << 10, "KiB"), (1, "bytes"))


class UnusableFile(ValueError):
    """Not a regular file, or too large. The text says which."""


def read(path: str, limit: int, *, follow: bool = True) -> tuple[bytes, os.stat_result]:
    """Read a whole file.

    Args:
        path: The file.
        limit: The largest size, in bytes.
        follow: Follow a symbolic link to the file.

    Returns:
        The content, and the status of the file that was read.

    Raises:
        UnusableFile: It is not a regular file, or larger.
        OSError: It cannot be read.
    """
    fd = _open(path, limit, 0 if follow else os.O_NOFOLLOW)
    try:
        found = os.fstat(fd)
        _check(found, limit)
        return _read(fd, limit), found
    finally:
        os.close(fd)


def read_start(path: str, count: int) -> bytes:
    """Read up to `count` bytes from the start of a file, or of one that a link names.

    Raises:
        UnusableFile: It is not a regular file.
        OSError: It cannot be read.
    """
    fd = _open(path, None, 0)
    try:
        _check(os.fstat(fd), None)
        return os.read(fd, count)
    finally:
        os.close(fd)


def _open(path: str, limit: int | None, no_follow: int) -> int:
    place = os.open(path, _PATH | no_follow)
    try:
        _check(os.fstat(place), limit)
        try:
            return os.open(f"/proc/self/fd/{place}", _FLAGS)
        except FileNotFoundError:  # a chroot without /proc
            return os.open(path, _FLAGS | no_follow)
    finally:
        os.close(place)


def _check(found: os.stat_result, limit: int | None) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise UnusableFile("a symbolic link; make it a regular file")
    if not stat.S_ISREG(found.st_mode):
        raise UnusableFile("not a regular file")
    if limit is not None and found.st_size > limit:
        raise _too_large(limit)


def _read(fd: int, limit: int) -> bytes:
    """Read to the end: the size of a file in /proc is 0, and a file can grow."""
    content = b""
    while part := os.read(fd, limit + 1 - len(content)):
        content += part
        if len(content) > limit:
            raise _too_large(limit)
    return content


def _too_large(limit: int) -> UnusableFile:
    size, unit = next(each for each in _UNITS if limit % each[0] == 0)
    return UnusableFile(f"over {limit // size} {unit}")
