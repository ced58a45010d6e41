"""The process of a session with a terminal instead of pipes.

The master is stdin and stdout, and standard error cannot be told apart. The end of
input is typed, if the mode of the terminal allows that. A client that disconnects
causes a hang-up instead: SIGHUP and SIGCONT once all its input is typed. Then the stop
sequence follows as in `application_process`.

A key such as Ctrl-C has an effect on the screen only after all output that is on its
way. So little output is queued, and a client can limit the output with a window. This
is the number of bytes since the start that are read. The exit lifts it.
"""

from __future__ import annotations

from chimirror.builtin_modules import signal
from chimirror.io.write_buffer import HIGH, LOW
from chimirror.process import pty
from chimirror.process.application_process import (
    END_OF_INPUT,
    RUNNING,
    ApplicationProcess,
)
from chimirror.process.pipes import READ_SIZE, WINDOW

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
        "_is_window_lifted",
        "_new_size",
        "_output_size",
        "_slave_closed",
        "_window",
    )
    max_queued = LOW
    _hangup_sent: bool
    _slave_closed: bool
    _eof_typed: bool
    _line_unfinished: bool
    _new_size: tuple[int, int] | None
    _is_window_lifted: bool
    _output_size: int  # bytes of output so far
    _window: int  # the same, of the output that may be read. -1 without a limit

    def on_started(self, pid: int, pipes: Pipes) -> None:
        """Called when the process runs."""
        self._hangup_sent = self._slave_closed = False
        self._eof_typed = self._line_unfinished = False
        self._new_size = None
        self._is_window_lifted = False
        self._output_size = 0
        self._window = -1
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
            if self.queued_input > HIGH:
                self._lift_window()

    def on_stdin_buffer_low(self) -> None:
        """Called when the stdin buffer is low. The window holds again."""
        self._is_window_lifted = False
        self._apply_window()
        super().on_stdin_buffer_low()

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

    def set_window(self, size: int) -> bool:
        """Limit the output to this number of bytes since the start."""
        if size < self._window:
            return False
        if self.phase == RUNNING:
            self._window = size
            self._apply_window()
        return True

    def _lift_window(self) -> None:
        """Ignore the window until the stdin buffer is low.

        The client is not read until then, so that no new window can arrive. Without the
        echo of its input, the terminal would take no more input.
        """
        self._is_window_lifted = True
        self._apply_window()

    @property
    def _room(self) -> int:
        """Bytes of output that may be read now."""
        if self._window < 0 or self._is_window_lifted or self._step:
            return READ_SIZE
        return self._window - self._output_size

    def _apply_window(self) -> None:
        if self._room > 0:
            self._resume(WINDOW)
        else:
            self._pause(WINDOW)

    def _read(self, fd: int, size: int = READ_SIZE) -> bool:
        """Read once, within the window. Returns True if there was data."""
        room = self._room
        return room > 0 and super()._read(fd, min(size, room))

    def on_chunk(self, stream: str, chunk: bytes) -> None:
        """Called with output. Stops reading at the end of the window."""
        self._output_size += len(chunk)
        super().on_chunk(stream, chunk)
        if self._window >= 0:
            self._apply_window()

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
        """Called when the process is reaped. Reads the output written since.

        The kernel keeps at most some KiB of it, which no window holds back.
        """
        self._window = -1
        self._apply_window()
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
