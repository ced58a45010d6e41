"""Joins a session to the local stdin, stdout, stderr and signals.

One thread copies stdin to the session, another one copies output to stdout and stderr.
The main thread handles signals and waits for the end. The client library applies
back-pressure. While local output blocks, the connection is not read. While the
connection is full, stdin is not read.

A remote process with a terminal may ignore the end of its input: a pager takes Ctrl-D
for a key. So its terminal is hung up when the session has been quiet since then.
"""

from __future__ import annotations

import signal
import time

from chimirror.client import Error, NotDelivered, SessionOver
from chimirror.connect.errors import (
    ConnectError,
    KilledBySignal,
    error_line,
)
from chimirror.connect.interrupt_policy import ENDING, FORWARDED, InterruptPolicy
from chimirror.connect.local_io import RelayThread, SignalPipe, read, write
from chimirror.connect.quiet_timer import QuietTimer
from chimirror.connect.terminal_modes import TerminalModes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from chimirror.client import Exit, Output
    from chimirror.client.blocking import Session

STDIN, STDOUT, STDERR = 0, 1, 2

TERMINAL_NOTE = (
    "the remote process has a terminal, but standard input and output here are not "
    "both one (--no-pty omits this line)"
)


class StdioRelay:
    """Relay between a session and the local streams. Runs once.

    Args:
        session: The session.
        linger: Seconds of quiet after the end of input that end a session whose process
            has a terminal. None for no limit.
        notes_terminal: Say on stderr that the process has a terminal, and this side
            does not join it.
    """

    _watched_signals: tuple[int, ...] = FORWARDED
    _line_end = "\n"

    def __init__(
        self,
        session: Session[Any],
        linger: float | None = None,
        *,
        notes_terminal: bool = False,
    ) -> None:
        self._session = session
        self._notes_terminal = notes_terminal
        self._quiet = QuietTimer(linger)
        self._is_writing = False  # to a local stream that may block
        self._screen = TerminalModes(lambda: 24)  # of a process with a terminal
        self._is_hung_up = False
        self._wake = SignalPipe()
        self._interrupt_policy = InterruptPolicy()
        self._input = RelayThread("stdin", self._relay_input, self._wake)
        self._output = RelayThread("stdout", self._relay_output, self._wake)

    def run(self) -> int:
        """Run to the end of the session.

        Returns:
            The status of the remote process, 128+n if signal n ended it.

        Raises:
            ConnectError: The session ended without an exit status.
            KilledBySignal: stdout is closed, or a signal ended the client.
        """
        with self._session:
            with self._wake.signals(self._watched_signals):
                self._wait_for_end()
            for error in (self._output.error, self._input.error):
                if error is not None:
                    raise error
            return self._status()

    def _status(self) -> int:
        return _exit_status(self._session.wait())

    def _wait_for_end(self) -> None:
        """Handle signals until one of the threads has a reason to end."""
        self._output.start()
        self._input.start()
        while not self._output.ended and self._input.error is None:
            for number in self._wake.wait(self._quiet_time_left()):
                self._on_signal(number)
            if self._quiet_time_left() == 0:
                self._quiet.start(time.monotonic())
                if self._lingers:
                    self._on_quiet()

    # End of input.

    @property
    def _lingers(self) -> bool:
        """Whether quiet after the end of input ends this session."""
        return self._session.pty and self._session.direction != "receive"

    def _quiet_time_left(self) -> float | None:
        """Return the seconds until the session has been quiet for too long."""
        now = time.monotonic()
        if self._is_writing or self._session.unsent:
            self._quiet.restart(now)
        # Before the first message it is unknown whether the process has a terminal.
        lingers = self._lingers or not self._session.id
        return self._quiet.left(now) if lingers else None

    def _on_quiet(self) -> None:
        """Called when a process with a terminal has been quiet after its input."""
        if self._is_hung_up:
            self._session.abort()
            raise ConnectError(
                "the remote process goes on after its input and a hang-up"
            )
        self._is_hung_up = True
        self._session.signal("HUP")
        self._write_stderr(
            error_line("hung up: quiet since the end of input (--linger)")
        )

    def _on_signal(self, number: int) -> None:
        """Forward a signal to the remote process, or end the client."""
        now, responsive = time.monotonic(), self._session.responsive
        ends = self._interrupt_policy.ends_client(number, now, responsive=responsive)
        try:
            if self._session.read_only:  # the server ignores signals
                ends = number in ENDING
            elif not ends:
                self._session.signal(number)
        except SessionOver:
            ends = number in ENDING
        if ends:
            self._session.abort()
            raise KilledBySignal(number)

    # The threads.

    def _relay_input(self) -> None:
        try:
            while chunk := read(STDIN):
                if self._session.direction == "receive":
                    return  # as a local process that does not read its input
                self._session.send(chunk)
            self._session.end_input()
            self._quiet.start(time.monotonic())
        except SessionOver:
            pass  # the output thread reports the cause
        except OSError as error:
            raise ConnectError(
                f"cannot read standard input: {error.strerror}"
            ) from None

    def _relay_output(self) -> None:
        outputs = iter(self._session)
        stderr_closed = False
        while True:
            try:
                output = next(outputs, None)
            except NotDelivered as error:
                stderr_closed = stderr_closed or not self._write_stderr(
                    error_line(str(error), self._line_end)
                )
                continue
            except Error as error:
                self._on_lost(error)
                return
            if output is None:
                return
            self._on_output(output)
            if output.stream == "stdout":
                self._write_stdout(output.data)
            else:
                stderr_closed = stderr_closed or not self._write_stderr(output.data)

    def _on_lost(self, error: Error) -> None:
        """Called when the session ends without an exit status."""
        raise ConnectError(str(error)) from None

    def _on_output(self, output: Output) -> None:
        """Called before output is written."""
        if self._session.pty:
            self._screen.feed(output.data)
            if self._notes_terminal:
                self._notes_terminal = False
                self._write_stderr(error_line(TERMINAL_NOTE))

    def _write_stdout(self, data: bytes) -> None:
        try:
            self._write(STDOUT, data)
        except BrokenPipeError:
            raise KilledBySignal(signal.SIGPIPE) from None
        except OSError as error:
            text = f"cannot write standard output: {error.strerror}"
            raise ConnectError(text) from None

    def _write_stderr(self, data: bytes) -> bool:
        """Write to stderr. Returns False if stderr cannot be written any more."""
        try:
            self._write(STDERR, data)
        except OSError:
            return False
        return True

    def _write(self, fd: int, data: bytes) -> None:
        self._is_writing = True
        write(fd, data)
        self._is_writing = False
        if not self._screen.full_screen:  # of which redrawing is no progress
            self._quiet.restart(time.monotonic())


def _exit_status(exit_: Exit) -> int:
    if exit_.code is not None:
        return exit_.code
    number = _signal_number(exit_.signal or "")
    if not number:
        text = f"the remote process was ended by the {exit_}"
        raise ConnectError(f"{text}, which is unknown on this system")
    return 128 + number


def _signal_number(name: str) -> int:
    """Return the number of a signal, 0 if it is unknown. Some are named by a number."""
    if name.isascii() and name.isdigit() and len(name) < 3:
        number = int(name)
        return number if number < signal.NSIG else 0
    known = signal.Signals.__members__.get(f"SIG{name}")
    return 0 if known is None else int(known)
