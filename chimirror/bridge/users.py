"""A user for each session: a number that no other process has, for the whole session.

systemd gives all instances of a template the same user. Processes of one user may
signal each other, even if nothing else is shared (kill(2)). So each bridge takes a
number out of a reserved range, before it reads a byte of its client. Then it becomes
that user, and cannot switch back: credentials(7), capabilities(7).

A taken number is a locked byte of one file that only the bridge's first user may open.
The kernel releases the lock (fcntl(2)) when the process dies, and forked processes do
not inherit it. Processes that a killed bridge left behind have the same user. The next
bridge with that number kills them. The file also holds the session id of each number,
for the removal of session files. All this takes 0.12 ms on a machine with 770
processes.

The group of that file is kept as the saved group. The bridge can switch to it for a
moment, to use directories that only bridges may use. A program that the bridge executes
cannot (execve(2)).
"""

from __future__ import annotations

from chimirror.builtin_modules import os, signal

TABLE = "/run/chimirror/users"
MAX_ID = 32  # characters of a session id, and bytes of the file for each number


class NoFreeUser(Exception):
    """Every user of the range is taken."""


class PrivilegesRetained(Exception):
    """The process could still switch to another user."""


class SessionUser:
    """The user of this process, and of no other, until the process exits.

    Attributes:
        fd: the table. Closing it, or another descriptor of it, would give up the lock.
        number: the user.
    """

    __slots__ = ("_offset", "fd", "number")

    def __init__(self, fd: int, number: int, offset: int) -> None:
        self.fd = fd
        self.number = number
        self._offset = MAX_ID * offset

    def record_session(self, session_id: str) -> str:
        """Record the id of this bridge's session.

        Returns:
            The id of the last session with this number, or "".
        """
        former = os.pread(self.fd, MAX_ID, self._offset).strip(b"\0")
        os.pwrite(self.fd, session_id.encode(), self._offset)
        return former.decode()


def switch_to_free_user(first: int, last: int, table: str = TABLE) -> SessionUser:
    """Switch to a user, and a group of the same number, that no other process has.

    Needs CAP_SETUID and CAP_SETGID, or root, and gives them up. The descriptor that
    holds the lock stays open until the process exits.

    Args:
        first: The first number of the range.
        last: The last number of the range.
        table: The file of locks and session ids.

    Raises:
        NoFreeUser: All numbers are taken.
        OSError: The table cannot be opened, or the capabilities are missing.
        PrivilegesRetained: The process still has the capabilities.
    """
    fd = os.open(table, os.O_RDWR | os.O_CLOEXEC)
    offset = _lock_number(fd, first, last)
    number = first + offset
    _switch_user(number, os.fstat(fd).st_gid)
    _end_leftovers()
    return SessionUser(fd, number, offset)


def _lock_number(fd: int, first: int, last: int) -> int:
    """Lock a byte that is free, at random, and return its offset.

    The choice is random so that a number rests after use.
    """
    size = last - first + 1
    start = int.from_bytes(os.urandom(4), "little")
    for step in range(size):
        offset = (start + step) % size
        if lock_byte(fd, offset):
            return offset
    raise NoFreeUser


def lock_byte(fd: int, offset: int) -> bool:
    """Lock one byte until this process exits. Returns False if another has it."""
    return _lockf(fd, os.F_TLOCK, offset)


def is_byte_free(fd: int, offset: int) -> bool:
    """Return True unless another process has locked this byte. Locks nothing."""
    return _lockf(fd, os.F_TEST, offset)


def _lockf(fd: int, command: int, offset: int) -> bool:
    os.lseek(fd, offset, 0)
    try:
        os.lockf(fd, command, 1)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _switch_user(number: int, group: int) -> None:
    os.setgroups([])
    os.setresgid(number, number, group)
    # The kernel clears ambient capabilities only if root switches to another user.
    os.setresuid(0, 0, 0)
    os.setresuid(number, number, number)
    try:
        os.setresuid(0, 0, 0)
    except PermissionError:
        return
    raise PrivilegesRetained


def _end_leftovers() -> None:
    """Kill the processes of the new number: they belong to a bridge that was killed."""
    try:
        # all processes that this one may signal, except itself
        os.kill(-1, signal.SIGKILL)
    except ProcessLookupError:
        pass
