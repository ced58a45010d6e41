"""The process half of a session where it is a terminal instead of pipes.

The master is stdin and stdout; what is printed to standard error cannot be told apart.
The end of input is typed, where the terminal is in a mode in which it can be. Who goes
hangs up instead: SIGHUP and SIGCONT once all is typed that was sent; then the ladder is
as always (`application`).
"""

from __future__ import annotations

from chimirror.system import pty
from chimirror.system.application import END_OF_INPUT, RUNNING, Application
from chimirror.system.lean import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.system.child import Pipes

LINE_ENDS = (b"\n", b"\r")
LOOK = 0.2  # seconds between two looks at a terminal that nobody has open


class Terminal(Application):
    """One application process and its terminal; see Application."""

    __slots__ = ("_hung_up", "_left", "_typed_end", "_within_line")
    _hung_up: bool
    _left: bool
    _typed_end: bool
    _within_line: bool

    def on_started(self, pid: int, pipes: Pipes) -> None:
        """See Application."""
        self._hung_up = self._left = False
        self._typed_end = self._within_line = False
        super().on_started(pid, pipes)

    def resize(self, columns: int, rows: int) -> None:
        """The window has another size."""
        if self.stdout >= 0:
            pty.resize(self.stdout, columns, rows)

    # Input

    def write(self, chunks: list[bytes]) -> None:
        """See Inlet."""
        if chunks[-1] and not self._typed_end:
            self._within_line = not chunks[-1].endswith(LINE_ENDS)
            super().write(chunks)

    def finish_input(self) -> None:
        """Type its end, or hang up; what is sent after that is dropped."""
        if self._step:
            self._hang_up()
        elif self.stdin >= 0 and not self._typed_end:
            self._type_end()
        if self.inbox is None:
            self.close_input()

    def _type_end(self) -> None:
        """Once; and before, once for a line that has begun."""
        end = pty.end_of_input(self.stdin)
        if end:
            super().write([end, end] if self._within_line else [end])
        self._typed_end = True

    # Output

    def _end_output(self, fd: int) -> None:
        """Nobody has it open; but to close the master is to hang up on who runs.

        Many a program closes its standard three just before it ends. Another may open
        /dev/tty again, of which no event tells while the hang-up lasts.
        """
        if self.phase == RUNNING:
            self._left = True
            self._loop.watch(fd, self, 0)
            if not self._step:
                self._loop.arm(self, self._loop.now + LOOK)
        else:
            super()._end_output(fd)

    # The end

    def on_exit(self, status: int, survivors: bool) -> None:
        """See Application; what was written since is in the terminal."""
        if self._left:
            self._watch_output()
        super().on_exit(status, survivors)

    def _hang_up(self) -> None:
        if self.phase == RUNNING and not self._hung_up:
            self._hung_up = True
            self._starter.signal(self.pid, signal.SIGHUP)
            self._starter.signal(self.pid, signal.SIGCONT)

    def on_timer(self, now: float) -> None:
        """See Application; one that does not read is hung up on, too."""
        if self.phase == RUNNING and not self._step:
            self._watch_output()
            return
        if self._step == END_OF_INPUT:
            self._hang_up()
        super().on_timer(now)
