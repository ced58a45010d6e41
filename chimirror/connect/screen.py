"""A session joined to the local terminal, whose size and keys are the remote one's.

What is typed passes as it is, Ctrl-C and Ctrl-Z too; whoever stops us from outside
finds the terminal as it was.
"""

from __future__ import annotations

import signal

from chimirror.client import SessionOver

from .interrupts import FORWARDED
from .joined import Joined
from .terminal import WATCHED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.client.blocking import Session

    from .terminal import Terminal


class Screen(Joined):
    """Runs once; see Joined."""

    _attended = (*FORWARDED, *WATCHED)
    _line_end = "\r\n"

    def __init__(self, session: Session[bytes | str], terminal: Terminal) -> None:
        super().__init__(session)
        self._terminal = terminal

    def _attend(self) -> None:
        with self._terminal:
            self._resize()
            super()._attend()

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
