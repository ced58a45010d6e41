"""What a session tells its client: output, and how it ended.  Pure values."""

from __future__ import annotations

from typing import Literal, NamedTuple

from .errors import ExitFailure
from .texts import safe

Stream = Literal["stdout", "stderr"]


class Output(NamedTuple):
    """Bytes that the application wrote.

    Attributes:
        stream: which of its streams they are of.
        data: a piece that begins and ends anywhere, also inside a character.
    """

    stream: Stream
    data: bytes


class Exit(NamedTuple):
    """How the application ended.

    Attributes:
        code: its exit code, None if a signal ended it.
        signal: that signal's name without SIG, None if it exited by itself.
        reason: of the server's close frame: `exit 0`, `out of memory`; else "".
        close_code: of that frame, None if there was none.
    """

    code: int | None
    signal: str | None
    reason: str = ""
    close_code: int | None = None

    def check(self) -> None:
        """Raise unless it ended with exit code 0.

        Raises:
            ExitFailure: it did not.
        """
        if self.code != 0:
            raise ExitFailure(self)

    def __str__(self) -> str:
        if self.code is not None:
            return f"exit {self.code}"
        text = f"signal {safe(self.signal, 40)}" if self.signal else ""
        return safe(self.reason, 256) if self.reason == "out of memory" else text


class Completed(NamedTuple):
    """A session that is over, and all that it wrote."""

    stdout: bytes
    stderr: bytes
    exit: Exit


def exit_of_close(code: int, reason: str) -> Exit | None:
    """The exit that a close frame tells of (chimirror-protocol(7), CLOSE)."""
    kind, _, what = reason.partition(" ")
    if code == 1000 and reason == "exit 0":
        return Exit(0, None, reason, code)
    if code != 1011:
        return None
    if kind == "exit" and what.isascii() and what.isdigit() and int(what) < 256:
        return Exit(int(what), None, reason, code)
    if kind == "signal" and what.isascii() and what.isalnum():
        return Exit(None, what, reason, code)
    # The signal is the kernel's, and always the same.
    return Exit(None, "KILL", reason, code) if reason == "out of memory" else None
