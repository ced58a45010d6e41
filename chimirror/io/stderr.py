"""Lines of a program itself on standard error, before and beside its records.

They are few: the addresses of a server, the failure of a start, an internal error that
ends a process. Knows no record and no session.
"""

from __future__ import annotations

import select
import traceback

from chimirror.builtin_modules import os

PIPE_BUF = 4096  # a pipe that is ready takes as much without blocking (pipe(7))
REPORT_TIMEOUT = 1.0  # seconds for a full standard error to take more


def report(text: str) -> None:
    """Print a line on standard error, unless it cannot be written in time.

    A log on a full disk, or a pipe without a reader, neither ends a program nor changes
    its exit status.
    """
    rest = f"{text}\n".encode(errors="backslashreplace")
    room = select.poll()
    room.register(2, select.POLLOUT)
    try:
        while rest and room.poll(REPORT_TIMEOUT * 1000):
            rest = rest[os.write(2, rest[:PIPE_BUF]) :]
    except OSError:
        pass  # closed, full or without a reader


def report_exception(error: BaseException) -> None:
    """Print the traceback of an internal error, as `report` prints a line."""
    report("".join(traceback.format_exception(error)).removesuffix("\n"))
