"""An application's standard input: bytes into a pipe, and its end.

Knows what waits and when it may go, not why; what the pipe does not take at once is
kept in a box that exists only as long, and so is all that comes while it is paused.
Knows neither the process nor its output.
"""

from __future__ import annotations

from chimirror.system.loop import WRITE
from chimirror.system.outbox import LOW, Outbox, write_now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.system.loop import Loop

STDIN, STDOUT, STDERR = 1, 2, 4  # what can be paused, as bits


class Inlet:
    """See the module; a subclass is told of events and passes those of `stdin` on.

    Attributes:
        inbox: what the application has not yet read.
        stdin: the pipe; -1 before it is there and once it is closed.
    """

    __slots__ = ("_input_ended", "_loop", "_paused", "inbox", "stdin")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._input_ended = False
        self._paused = 0
        self.inbox: Outbox | None = None
        self.stdin = -1

    # For the subclass to define

    def on_input_room(self) -> None:
        """The application has read on, or never will: the inbox is nearly empty."""
        raise NotImplementedError

    def on_input_read(self) -> None:
        """The application has read some of what waited."""
        raise NotImplementedError

    def on_event(self, fd: int, events: int) -> None:
        """One of the pipes is ready."""
        raise NotImplementedError

    def on_fault(self, error: Exception) -> None:
        """A bug of ours."""
        raise NotImplementedError

    # Input

    @property
    def backlog(self) -> int:
        """Bytes that wait for the application to read."""
        return self.inbox.size if self.inbox else 0

    def write(self, chunks: list[bytes]) -> None:
        """Give it input; what it can no longer read is dropped."""
        if self.stdin < 0:
            return
        if self.inbox is not None:
            self.inbox.push(chunks)
            return
        if self._paused & STDIN:
            self.inbox = Outbox(b"".join(chunks))
            return
        try:
            rest = write_now(self.stdin, chunks)
        except OSError:
            self.close_input()
            return
        if rest:
            self.inbox = Outbox(rest)
            self._loop.watch(self.stdin, self, WRITE)

    def flush_input(self) -> None:
        """Write what waits, as far as the pipe takes it."""
        inbox = self.inbox
        if inbox is None:
            return
        before = inbox.size
        try:
            empty = inbox.flush(self.stdin)
        except OSError:
            self.close_input()
            return
        if inbox.size < before:
            self.on_input_read()
        if empty:
            self.inbox = None
            self._loop.watch(self.stdin, self, 0)
            if self._input_ended:
                self.finish_input()
        if inbox.size <= LOW:
            self.on_input_room()

    def _pause_input(self) -> None:
        """Write nothing until `_resume_input`, and do not end it either."""
        self._paused |= STDIN
        if self.inbox is not None:
            self._loop.watch(self.stdin, self, 0)

    def _resume_input(self) -> None:
        """Write on, in the order in which it came."""
        self._paused &= ~STDIN
        if self.inbox is not None:
            self._loop.watch(self.stdin, self, WRITE)
        elif self._input_ended:
            self.finish_input()

    def end_input(self) -> None:
        """Close stdin once everything before is written."""
        self._input_ended = True
        if self.inbox is None and not self._paused & STDIN:
            self.finish_input()

    def finish_input(self) -> None:
        """Everything is written: nothing else is left to do for a pipe."""
        self.close_input()

    def close_input(self) -> None:
        """Forget stdin: it has ended, or nobody reads it any more."""
        if self.stdin < 0:
            return
        self._loop.close(self.stdin)
        self.stdin = -1
        if self.inbox is not None:
            self.inbox = None
            self.on_input_room()
