"""Pseudo-terminals: making one, its size, and what ends its input. pty(7), tty(4).

Knows descriptors, no process and no session. What is typed is written to the master,
what is printed is read from it; the modes of the slave can be seen from both.
"""

from __future__ import annotations

import fcntl
import struct
import termios

from chimirror.system.lean import os

COLUMNS, ROWS = 80, 24  # until somebody says
KIND = "xterm-256color"  # of terminal, as terminfo(5) names it


def make(ours: dict[int, int], theirs: dict[int, int]) -> None:
    """A new terminal: its master, to write and to read, is ours, its slave theirs.

    Each under the number that it stands for; what is there is in them, whatever fails.
    """
    master, theirs[0] = os.openpty()
    ours[0] = master
    ours[1] = os.dup(master)
    os.set_blocking(master, False)
    resize(master, COLUMNS, ROWS)


def resize(fd: int, columns: int, rows: int) -> None:
    """Set the size of the window; who has it in the foreground gets SIGWINCH."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def end_of_input(fd: int) -> bytes:
    """What to type for an end of file; nothing where no character means that."""
    modes = termios.tcgetattr(fd)
    flags, characters = modes[3], modes[6]
    if not flags & termios.ICANON:
        return b""
    character: bytes = characters[termios.VEOF]
    return character if character != b"\0" else b""  # _POSIX_VDISABLE
