"""The process of a session with a terminal instead of pipes.

The master is stdin and stdout, and standard error cannot be told apart. The end of
input is typed, if the mode of the terminal allows that. A client that disconnects
causes a hang-up instead: SIGHUP and SIGCONT once all its input is typed. Then the stop
sequence follows as in `application_process`.
"""

from __future__ import annotations

from chimirror.builtin_modules import signal
from chimirror.process import pty
from chimirror.process.application_process import (
    END_OF_INPUT,
    RUNNING,
    ApplicationProcess,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.process.spawner import Pipes

LINE_ENDS = (b"\n", b"\r")
POLL_INTERVAL = 0.2  # seconds between two checks of a terminal that no process has open


class PtyProcess(ApplicationProcess):
    """One application process and its terminal."""

    __slots__ = (
        "_eof_typed",
        "_hangup_sent",
        "_line_unfinished",
        "_new_size",
        "_slave_closed",
    )
    _hangup_sent: bool
    _slave_closed: bool
    _eof_typed: bool
    _line_unfinished: bool
    _new_size: tuple[int, int] | None

    def on_started(self, pid: int, pipes: Pipes) -> None:
        """Called when the process runs."""
        self._hangup_sent = self._slave_closed = False
        self._eof_typed = self._line_unfinished = False
        self._new_size = None
        super().on_started(pid, pipes)

    def resize(self, columns: int, rows: int) -> None:
        """Set the window size, before the next input or at the end of this turn.

        Of several sizes only the last one counts. Each would send a SIGWINCH.
        """
        if self.stdout < 0:
            return
        if self._new_size is None:
            self._loop.call_after_turn(self._apply_size)
        self._new_size = (columns, rows)

    def _apply_size(self) -> None:
        size, self._new_size = self._new_size, None
        if size is not None and self.stdout >= 0:
            try:
                pty.resize(self.stdout, *size)
            except OSError as error:
                self.on_error(error)

    # Input

    def write(self, chunks: list[bytes]) -> None:
        """Type input. It is discarded after the end of input."""
        if chunks[-1] and not self._eof_typed:
            self._apply_size()
            self._line_unfinished = not chunks[-1].endswith(LINE_ENDS)
            super().write(chunks)

    def finish_input(self) -> None:
        """Type the end of input, or hang up. Later input is discarded."""
        if self._step:
            self._hang_up()
        elif self.stdin >= 0 and not self._eof_typed:
            self._apply_size()
            self._type_eof()
        if self.stdin_buffer is None:
            self.close_input()

    def _type_eof(self) -> None:
        """Type the end-of-file character, twice within an unfinished line."""
        eof = pty.eof_sequence(self.stdin)
        if eof:
            super().write([eof, eof] if self._line_unfinished else [eof])
        self._eof_typed = True

    # Output

    def _end_output(self, fd: int) -> None:
        """Called when no process has the terminal open.

        Closing the master now would hang up a process that still runs. Many programs
        close stdio just before they exit. Another may open /dev/tty again, which no
        event reports while the hang-up lasts. So the terminal is checked at intervals.
        """
        if self.phase == RUNNING:
            self._slave_closed = True
            self._loop.watch(fd, self, 0)
            if not self._step:
                self._loop.set_timer(self, self._loop.now + POLL_INTERVAL)
        else:
            super()._end_output(fd)

    # The end

    def on_exit(self, status: int, survivors: bool) -> None:
        """Called when the process is reaped. Reads the output written since."""
        if self._slave_closed:
            self._watch_output()
        super().on_exit(status, survivors)

    def _hang_up(self) -> None:
        if self.phase == RUNNING and not self._hangup_sent:
            self._hangup_sent = True
            self._spawner.signal(self.pid, signal.SIGHUP)
            self._spawner.signal(self.pid, signal.SIGCONT)

    def on_timer(self, now: float) -> None:
        """Called when a timeout is over. Hangs up on a process that does not read."""
        if self.phase == RUNNING and not self._step:
            self._watch_output()
            return
        if self._step == END_OF_INPUT:
            self._hang_up()
        super().on_timer(now)
