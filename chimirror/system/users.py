"""A user for each session: one that no other process has, taken for good.

systemd gives all instances of a template the same user, and processes of one user may
signal each other whatever else keeps them apart (kill(2)). So each bridge takes a
number out of a range that is reserved for this, before it reads a byte of its client,
and becomes that user, without a way back: credentials(7), capabilities(7).

Taken numbers are locked bytes of one file that only the bridge's first user may open.
The kernel opens such a lock (fcntl(2)) when its process dies, and what is forked does
not inherit it. What a killed bridge left of its session has the same user, and is
ended by whoever takes the number next: its processes are killed, and what its session
was called stands in the same file. Takes 0.12 ms, on a machine with 770 processes.

The group of that file is kept as the saved one. We can take it back for a moment, to
enter what is there for bridges; no program that we execute can (execve(2)).
"""

from __future__ import annotations

from chimirror.system.lean import os, signal

TABLE = "/run/chimirror/users"
NAME = 32  # characters of a session id; in the table, one for each number


class NoUser(Exception):
    """Every user of the range is taken."""


class Insecure(Exception):
    """We could still become somebody else."""


class User:
    """A user that we are, and nobody else is; its lock lasts until we exit."""

    __slots__ = ("_fd", "_offset", "number")

    def __init__(self, fd: int, number: int, offset: int) -> None:
        self._fd = fd
        self.number = number
        self._offset = NAME * offset

    def sign(self, session: str) -> str:
        """Write down what our session is called.

        Returns:
            What the last one of this number was called; empty: there was none.
        """
        former = os.pread(self._fd, NAME, self._offset).strip(b"\0")
        os.pwrite(self._fd, session.encode(), self._offset)
        return former.decode()


def become_one_of(first: int, last: int, table: str = TABLE) -> User:
    """Become a user, and a group of the same number, that nobody else is.

    Needs CAP_SETUID and CAP_SETGID, or root, and gives them up. The descriptor that
    holds the lock stays open, on purpose, until we exit.

    Raises:
        NoUser: none is left.
        OSError: there is no such table, or we lack the capabilities.
        Insecure: the capabilities have outlived the change.
    """
    fd = os.open(table, os.O_RDWR | os.O_CLOEXEC)
    offset = _take(fd, first, last)
    number = first + offset
    _become(number, os.fstat(fd).st_gid)
    _end_leftovers()
    return User(fd, number, offset)


def _take(fd: int, first: int, last: int) -> int:
    """Lock a byte, any of those that are free, so that a number rests; which."""
    size = last - first + 1
    start = int.from_bytes(os.urandom(4), "little")
    for step in range(size):
        offset = (start + step) % size
        os.lseek(fd, offset, 0)
        try:
            os.lockf(fd, os.F_TLOCK, 1)
        except (BlockingIOError, PermissionError):
            continue
        return offset
    raise NoUser


def _become(number: int, group: int) -> None:
    os.setgroups([])
    os.setresgid(number, number, group)
    # The kernel takes ambient capabilities from root alone when it becomes another.
    os.setresuid(0, 0, 0)
    os.setresuid(number, number, number)
    try:
        os.setresuid(0, 0, 0)
    except PermissionError:
        return
    raise Insecure


def _end_leftovers() -> None:
    """Kill whoever has our new number: that session has lost its bridge."""
    try:
        os.kill(-1, signal.SIGKILL)  # all that we may signal, but ourselves
    except ProcessLookupError:
        pass
