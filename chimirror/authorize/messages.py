"""Lines of chimirror-authorize on standard error, and errors that end it.

No line holds a password, a token or a hash.
"""

from __future__ import annotations

import os

from chimirror.text import printable

PROGRAM = "chimirror-authorize"


class StartError(Exception):
    """A start that failed, with its message.

    Attributes:
        status: The exit status, of sysexits(3).
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class FileFault(Exception):
    """A file with an error. str() names the file, the line and the cure."""


def warn(text: str) -> None:
    """Write one line to standard error. A closed standard error is ignored."""
    line = printable(f"{PROGRAM}: {text}", "\n") + "\n"
    try:
        os.write(2, line.encode("utf-8", "backslashreplace"))
    except OSError:
        pass  # the answers go on


def warn_internal(error: Exception) -> None:
    """Write a line about an internal error, without its values: one may be secret."""
    import traceback

    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{place.filename}, line {place.lineno}"
    warn(f"internal error: {type(error).__name__} in {where}")
