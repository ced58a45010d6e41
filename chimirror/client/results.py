"""Values that a session returns: output and exit. Pure."""

from __future__ import annotations

from typing import Literal, NamedTuple

from chimirror.client.close_text import is_retry_useful
from chimirror.client.errors import Error
from chimirror.text import escape_line

Stream = Literal["stdout", "stderr"]


class Output(NamedTuple):
    """Bytes that the application wrote.

    Attributes:
        stream: "stdout" or "stderr".
        data: A piece. Its ends may be inside a character.
    """

    stream: Stream
    data: bytes


class Exit(NamedTuple):
    """Exit of the application.

    Attributes:
        code: Its exit code, None if a signal ended it.
        signal: Name of that signal without SIG, or its number if it has no name
            ("40"). None after a normal exit.
        reason: Reason of the server's close frame (`exit 0`, `out of memory`), or "".
        close_code: Code of that frame, None without a close frame.
    """

    code: int | None
    signal: str | None
    reason: str = ""
    close_code: int | None = None

    @property
    def retry(self) -> bool:
        """Whether another session may succeed, as after a drain.

        An exit that is known is done: so is code 0, and so is a failure.
        """
        code = self.close_code
        return code is not None and is_retry_useful(code, self.reason)

    def check(self) -> None:
        """Raise unless the exit code is 0.

        Raises:
            ExitFailure: The application failed.
        """
        if self.code != 0:
            raise ExitFailure(self)

    def __str__(self) -> str:
        if self.code is not None:
            return f"exit {self.code}"
        text = f"signal {escape_line(self.signal, 40)}" if self.signal else ""
        return escape_line(self.reason, 256) if self.reason == "out of memory" else text


class Completed(NamedTuple):
    """The output and the exit of a finished session."""

    stdout: bytes
    stderr: bytes
    exit: Exit


def exit_from_close(code: int, reason: str) -> Exit | None:
    """Return the exit in a close frame (chimirror-protocol(7), CLOSE), if any."""
    kind, _, what = reason.partition(" ")
    if code == 1000 and reason == "exit 0":
        return Exit(0, None, reason, code)
    if code != 1011:
        return None
    if kind == "exit" and what.isascii() and what.isdigit() and int(what) < 256:
        return Exit(int(what), None, reason, code)
    if kind == "signal" and what.isascii() and what.isalnum():
        return Exit(None, what, reason, code)
    # The OOM killer of the kernel always sends SIGKILL.
    return Exit(None, "KILL", reason, code) if reason == "out of memory" else None


class ExitFailure(Error):
    """The application failed.

    Attributes:
        exit: Its exit.
    """

    def __init__(self, exit: Exit) -> None:  # noqa: A002 the name of the attribute
        super().__init__(f"the remote process ended with {exit}")
        self.exit = exit
