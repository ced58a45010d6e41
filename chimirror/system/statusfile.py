"""A small file that says how something is, for whoever looks (tmpfs, one line).

Whoever reads it may find half of two states: a line that does not parse is read again.
The descriptor is kept, so that a process that has given up its privileges can still
write. Knows no session.
"""

from __future__ import annotations

from chimirror.system.lean import os


class StatusFile:
    """One file, made anew.

    Args:
        path: its directory is there, and ours to write to.

    Raises:
        OSError: it cannot be made.
    """

    __slots__ = ("_fd", "_path")

    def __init__(self, path: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o600)
        self._path = path

    def write(self, line: bytes) -> None:
        """Replace what it says."""
        try:
            os.pwrite(self._fd, line, 0)
            os.ftruncate(self._fd, len(line))
        except OSError:
            pass  # no room: nobody's session depends on it

    def remove(self) -> None:
        """Take it away."""
        os.close(self._fd)
        try:
            os.unlink(self._path)
        except OSError:
            pass  # somebody has tidied up
