"""Pseudo-terminals: create, resize, end of input. pty(7), tty(4).

Knows descriptors, no process and no session. Input is written to the master, output is
read from it. The modes of the slave are visible from both sides.
"""

from __future__ import annotations

import fcntl
import struct
import termios

from chimirror.builtin_modules import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

COLUMNS, ROWS = 80, 24  # until a client sets the size
TERM = "xterm-256color"  # terminal type (terminfo(5))


def open_pty(
    parent_fds: dict[int, int],
    child_fds: dict[int, int],
    size: Sequence[int] | None = None,
) -> None:
    """Create a terminal. The parent gets the master twice, the child the slave.

    Args:
        parent_fds, child_fds: get the descriptors.
        size: columns and rows. None for the default.

    Each descriptor is stored under the stdio number that it stands for. The
    dictionaries hold all open descriptors even if this function raises.
    """
    master, child_fds[0] = os.openpty()
    parent_fds[0] = master
    parent_fds[1] = os.dup(master)
    os.set_blocking(master, False)
    columns, rows = size or (COLUMNS, ROWS)
    resize(master, columns, rows)


def resize(fd: int, columns: int, rows: int) -> None:
    """Set the window size. The foreground process group gets SIGWINCH."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def eof_sequence(fd: int) -> bytes:
    """Return the bytes to type for an end of file, or nothing in a raw mode."""
    modes = termios.tcgetattr(fd)
    flags, characters = modes[3], modes[6]
    if not flags & termios.ICANON:
        return b""
    character: bytes = characters[termios.VEOF]
    return character if character != b"\0" else b""  # _POSIX_VDISABLE
