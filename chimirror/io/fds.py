"""Inherited descriptors: set close-on-exec, open missing ones, redirect them.

Afterwards descriptors 0, 1 and 2 are open, and no other inherited descriptor reaches a
program that this process starts. Knows no loop and no session.
"""

from __future__ import annotations

from chimirror.builtin_modules import DEV_NULL, os

MAX_FDS_UNLISTED = 4096  # descriptors to try if none are listed (a bare chroot)


def same_file(first: int, second: int) -> bool:
    """Return True if two descriptors are the same file, False if either is closed."""
    try:
        one, other = os.fstat(first), os.fstat(second)
    except OSError:
        return False
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def redirect_to_null(fd: int) -> None:
    """Replace `fd` by the null device."""
    null = os.open(DEV_NULL, os.O_RDWR)
    if null == fd:
        os.set_inheritable(fd, True)
    else:
        os.dup2(null, fd)
        os.close(null)


def open_missing_stdio() -> None:
    """Open the null device on each of 0, 1 and 2 that is closed.

    Otherwise the next pipe gets that number and is overwritten in the application.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            redirect_to_null(fd)


def set_cloexec_all() -> None:
    """Set close-on-exec on all descriptors from 3: no inherited one is passed on."""
    for fd in _open_fds():
        if fd > 2:
            try:
                os.set_inheritable(fd, False)
            except OSError:
                # not open, or the descriptor of the listing, which is closed again
                pass


def close_all(keep: int) -> None:
    """Close all descriptors from 3 but one.

    They are listed: without close_range(2), os.closerange() would try each number.
    """
    for fd in _open_fds():
        if fd > 2 and fd != keep:
            try:
                os.close(fd)
            except OSError:
                pass  # not open, or the descriptor of the listing


def highest() -> int:
    """Return a number that no descriptor of this process exceeds.

    It holds for later descriptors too, unless the soft limit is raised.
    """
    return max(os.sysconf("SC_OPEN_MAX"), *_open_fds())


def _open_fds() -> list[int]:
    for directory in ("/proc/self/fd", "/dev/fd"):
        try:
            return [int(name) for name in os.listdir(directory)]
        except OSError:
            pass
    return list(range(MAX_FDS_UNLISTED))
