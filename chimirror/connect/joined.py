"""A session joined to the local stdin, stdout, stderr and signals.

Reads as the story: one thread carries stdin there, another carries the output here,
and this one attends to signals and to whatever ends it. Back-pressure is the
library's: while local output is behind, the connection is not read; while the
connection is full, stdin is not.
"""

from __future__ import annotations

import signal
import time

from chimirror.client import Error, NotDelivered, SessionOver

from .interrupts import ENDING, FORWARDED, Interrupts
from .local import Carrier, Wake, read, write
from .texts import Failure, Killed, line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.client import Exit
    from chimirror.client.blocking import Session

STDIN, STDOUT, STDERR = 0, 1, 2


class Joined:
    """Runs once."""

    _attended: tuple[int, ...] = FORWARDED
    _line_end = "\n"

    def __init__(self, session: Session[bytes | str]) -> None:
        self._session = session
        self._wake = Wake()
        self._interrupts = Interrupts()
        self._input = Carrier("stdin", self._carry_input, self._wake)
        self._output = Carrier("stdout", self._carry_output, self._wake)

    def run(self) -> int:
        """Run to the end of the session.

        Returns:
            The status of the remote process, 128+n for one that a signal ended.

        Raises:
            Failure: it ended without one.
            Killed: stdout is broken, or the user wanted out.
        """
        with self._session:
            with self._wake.signals(self._attended):
                self._attend()
            for problem in (self._output.problem, self._input.problem):
                if problem is not None:
                    raise problem
            return _status(self._session.wait())

    def _attend(self) -> None:
        """Until either thread has a reason to end."""
        self._output.start()
        self._input.start()
        while not self._output.ended and self._input.problem is None:
            for number in self._wake.wait():
                self._signalled(number)

    def _signalled(self, number: int) -> None:
        """Send a signal on, or end the client."""
        now, answered = time.monotonic(), self._session.responsive
        ends = self._interrupts.ends(number, now, answered=answered)
        try:
            if not ends:
                self._session.signal(number)
        except SessionOver:
            ends = number in ENDING
        if ends:
            self._session.abort()
            raise Killed(number)

    # The threads.

    def _carry_input(self) -> None:
        try:
            while chunk := read(STDIN):
                self._session.send(chunk)
            self._session.end_input()
        except SessionOver:
            pass  # why, the output tells
        except OSError as error:
            raise Failure(f"cannot read standard input: {error.strerror}") from None

    def _carry_output(self) -> None:
        outputs = iter(self._session)
        deaf = False
        while True:
            try:
                output = next(outputs, None)
            except NotDelivered as notice:
                deaf = deaf or not self._tell(line(str(notice), self._line_end))
                continue
            except Error as error:
                raise Failure(str(error)) from None
            if output is None:
                return
            if output.stream == "stdout":
                self._print(output.data)
            else:
                deaf = deaf or not self._tell(output.data)

    def _print(self, data: bytes) -> None:
        try:
            self._write(STDOUT, data)
        except BrokenPipeError:
            raise Killed(signal.SIGPIPE) from None
        except OSError as error:
            text = f"cannot write standard output: {error.strerror}"
            raise Failure(text) from None

    def _tell(self, data: bytes) -> bool:
        """Write to stderr; whether it can still be written."""
        try:
            self._write(STDERR, data)
        except OSError:
            return False
        return True

    def _write(self, fd: int, data: bytes) -> None:
        write(fd, data)


def _status(exit_: Exit) -> int:
    if exit_.code is not None:
        return exit_.code
    try:
        return 128 + signal.Signals[f"SIG{exit_.signal}"]
    except KeyError:
        text = f"the remote process was ended by the {exit_}"
        raise Failure(f"{text}, which is not known here") from None
