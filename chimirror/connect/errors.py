"""Exceptions of chimirror-connect, and its messages on stderr.

Each exception here stands for an end without the exit status of the remote process.
"""

from __future__ import annotations

import os
import sys

PROGRAM = "chimirror-connect"
EXIT_FAILURE = 255  # as ssh(1): differs from the usual statuses of remote programs


class UsageError(Exception):
    """Wrong command line: reported on stderr, exit status 64."""


class ConnectError(Exception):
    """Failure of the client, exit status 255. The text names the cure."""


class NameMissing(Exception):
    """The URL names no application: exit status 64. The text lists the names."""


class KilledBySignal(Exception):
    """The client must end as if `signum` had killed it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def error_line(text: str, end: str = "\n") -> bytes:
    """Encode a message for stderr.

    Uses the encoding of the locale. In other encodings, bytes of UTF-8 can be control
    characters, such as the second byte of U+00DB.
    """
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    return f"{PROGRAM}: {text}{end}".encode(encoding, "backslashreplace")


def print_error(text: str) -> None:
    """Print a message on stderr, and ignore a closed stderr."""
    rest = error_line(text)
    try:
        while rest:
            rest = rest[os.write(2, rest) :]
    except OSError:
        pass  # stderr is closed, and the exit status reports the failure too
