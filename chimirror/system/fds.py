"""Descriptors that a program is born with: seal them, fill the gaps, move them.

Knows no loop and no session. After `settle`, the standard three are open and nothing
else of what was inherited reaches a program that we start.
"""

from __future__ import annotations

from chimirror.system.lean import DEV_NULL, os

UNLISTED = 4096  # descriptors to look at where none are listed (a bare chroot)


def same_file(first: int, second: int) -> bool:
    """Whether two descriptors are one file (false if either is closed)."""
    try:
        one, other = os.fstat(first), os.fstat(second)
    except OSError:
        return False
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def silence(fd: int) -> None:
    """Make `fd` the null device."""
    null = os.open(DEV_NULL, os.O_RDWR)
    if null == fd:
        os.set_inheritable(fd, True)
    else:
        os.dup2(null, fd)
        os.close(null)


def fill_standard() -> None:
    """Open the null device on each of 0, 1, 2 that is closed.

    Else the next pipe takes that number, and is overwritten in the application.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            silence(fd)


def seal() -> None:
    """Mark every descriptor from 3 up close-on-exec: no foreign one is passed on."""
    for fd in _open_ones():
        if fd > 2:
            try:
                os.set_inheritable(fd, False)
            except OSError:
                pass  # not open, or the listing's own, which is closed again


def _open_ones() -> list[int]:
    for directory in ("/proc/self/fd", "/dev/fd"):
        try:
            return [int(name) for name in os.listdir(directory)]
        except OSError:
            pass
    return list(range(UNLISTED))
