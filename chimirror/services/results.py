"""The exit of a target. Pure."""

from __future__ import annotations

from signal import Signals
from typing import NamedTuple

from chimirror.services.errors import Error


class Exit(NamedTuple):
    """Exit of the target.

    Attributes:
        code: Its exit code, None if a signal ended it.
        signal: Name of that signal without SIG, None after a normal exit.
    """

    code: int | None
    signal: str | None

    def check(self) -> None:
        """Raise unless the exit code is 0.

        Raises:
            ExitFailure: The target failed.
        """
        if self.code != 0:
            raise ExitFailure(self)

    def __str__(self) -> str:
        return f"signal {self.signal}" if self.code is None else f"exit {self.code}"


class ExitFailure(Error):
    """The target failed.

    Attributes:
        exit: Its exit.
    """

    def __init__(self, exit: Exit) -> None:  # noqa: A002 the name of the attribute
        super().__init__(f"the target ended with {exit}")
        self.exit = exit


def exit_from_status(status: int) -> Exit:
    """Return the exit for a status of subprocess, which is negative for a signal."""
    if status >= 0:
        return Exit(status, None)
    try:
        return Exit(None, Signals(-status).name.removeprefix("SIG"))
    except ValueError:  # a real-time signal without a name
        return Exit(None, str(-status))
