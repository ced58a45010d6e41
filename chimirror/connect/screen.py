"""A session joined to the local terminal, whose size and keys are the remote one's.

What is typed passes as it is, Ctrl-C and Ctrl-Z too; whoever stops us from outside
finds the terminal as it was. What the remote program has switched on in it and not off
again, because the connection was lost in its midst, is switched off at the end.
"""

from __future__ import annotations

import os
import signal
import threading

from chimirror.client import SessionOver

from .emulator import Emulator
from .interrupts import FORWARDED
from .joined import STDERR, STDOUT, Joined
from .local import takes, write
from .terminal import WATCHED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.client.blocking import Session

    from .terminal import Terminal


PATIENCE = 1.0  # seconds, for a terminal that takes no more


class Screen(Joined):
    """Runs once; see Joined."""

    _attended = (*FORWARDED, *WATCHED)
    _line_end = "\r\n"

    def __init__(self, session: Session[bytes | str], terminal: Terminal) -> None:
        super().__init__(session)
        self._terminal = terminal
        self._emulator = Emulator(lambda: terminal.size[1])
        self._shown = [fd for fd in (STDOUT, STDERR) if os.isatty(fd)]
        self._writing = threading.Lock()
        self._left = False

    def _attend(self) -> None:
        with self._terminal:
            try:
                self._resize()
                super()._attend()
            finally:
                self._leave()

    def _write(self, fd: int, data: bytes) -> None:
        with self._writing:
            if not self._left:
                if fd in self._shown:
                    self._emulator.feed(data)
                super()._write(fd, data)

    def _leave(self) -> None:
        """Nothing of the session is shown any more, and its traces are undone.

        Whoever waits for a terminal that takes nothing is still let go.
        """
        self._left = True
        if self._session.exit is None:
            self._terminal.drop_input()
        if self._writing.acquire(timeout=PATIENCE):
            undo = self._emulator.undo()
            try:
                if undo and takes(self._shown[0], PATIENCE):
                    write(self._shown[0], undo)
            except OSError:
                pass  # it has gone

    def _signalled(self, number: int) -> None:
        if number == signal.SIGTSTP:
            self._terminal.stop()
        elif number == signal.SIGCONT:
            self._terminal.resume()
        if number in WATCHED:
            self._resize()
        else:
            super()._signalled(number)

    def _resize(self) -> None:
        try:
            self._session.resize(*self._terminal.size)
        except (OSError, SessionOver):
            pass  # whichever has gone, the threads tell
