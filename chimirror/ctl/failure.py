"""What is said when something cannot be done: one line, and an exit status.

sysexits(3). Knows nothing of what was to be done.
"""

from __future__ import annotations

import os

from chimirror.system.escape import printable

PROGRAM = "chimirror-ctl"


class Failure(Exception):
    """What was asked for cannot be done.

    Attributes:
        status: to exit with.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def say(text: str) -> None:
    """A line of our own on standard error, if anybody still listens."""
    line = printable(f"{PROGRAM}: {text}", "\n") + "\n"
    try:
        os.write(2, line.encode("utf-8", "backslashreplace"))
    except OSError:
        pass  # and the status says it too
