"""What chimirror-connect says, and the ways in which it ends without a status."""

from __future__ import annotations

import os

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


def say(text: str) -> None:
    """Print a line of our own on stderr, if anybody still listens."""
    line = f"{PROGRAM}: {text}\n".encode("utf-8", "backslashreplace")
    try:
        while line:
            line = line[os.write(2, line) :]
    except OSError:
        pass  # nobody listens, and the status says it too
