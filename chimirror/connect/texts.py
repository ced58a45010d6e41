"""What chimirror-connect says, and the ways in which it ends without a status."""

from __future__ import annotations

import os
import sys

PROGRAM = "chimirror-connect"
OWN_FAILURE = 255  # as ssh(1): told apart from what remote programs return


class UsageError(Exception):
    """The command line makes no sense: told on stderr, status 64."""


class Failure(Exception):
    """Our own failure, in one line that says what failed and what to do: 255."""


class Killed(Exception):
    """The client is to end as a process does that `signum` has killed."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def line(text: str, end: str = "\n") -> bytes:
    """A line of our own, for stderr.

    In the encoding of the locale: elsewhere the bytes of UTF-8 would be others'
    control characters, such as the second of U+00DB.
    """
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    return f"{PROGRAM}: {text}{end}".encode(encoding, "backslashreplace")


def say(text: str) -> None:
    """Print a line on stderr, if anybody still listens."""
    rest = line(text)
    try:
        while rest:
            rest = rest[os.write(2, rest) :]
    except OSError:
        pass  # nobody listens, and the status says it too
