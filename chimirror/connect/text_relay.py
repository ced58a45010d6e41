"""Joins a session without messages of its own to the local streams: text framings.

Such a session carries neither the end of input nor signals. So quiet after the end of
input ends the session, and a signal that would end a local process ends the client.
The exit status is that in the reason of the close frame. Other servers than chimirror
send no such reason: a normal close is status 0.
"""

from __future__ import annotations

import os
import time

from chimirror.client import Error, SessionLost, SessionOver
from chimirror.client.session import END_OF_STREAM
from chimirror.connect.errors import ConnectError, KilledBySignal, print_error
from chimirror.connect.interrupt_policy import ENDING
from chimirror.connect.local_io import read
from chimirror.connect.stdio_relay import STDIN, StdioRelay
from chimirror.connect.text_framings import InputError, create_input

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from chimirror.client.blocking import Session
    from chimirror.client.framing import Framing

NORMAL_CLOSES = (1000, 1005)  # 1005 stands for a close frame without a code


class TextRelay(StdioRelay):
    """Relay between a session and the local streams. Runs once.

    Args:
        session: The session.
        framing: Its framing.
        linger: Seconds of quiet after the end of input that end the session. None for
            no limit.
    """

    _watched_signals = ENDING

    def __init__(
        self, session: Session[Any], framing: Framing, linger: float | None
    ) -> None:
        super().__init__(session, linger)
        self._text_input = create_input(framing, print_error)
        self._is_done = False  # the session has ended well, without an exit status

    @property
    def _lingers(self) -> bool:
        return True

    def _wait_for_end(self) -> None:
        try:
            super()._wait_for_end()
        except _Quiet:
            self._is_done = True

    def _on_quiet(self) -> None:
        raise _Quiet

    def _on_signal(self, number: int) -> None:
        self._session.abort()
        raise KilledBySignal(number)

    def _relay_input(self) -> None:
        try:
            while chunk := read(STDIN):
                for message in self._text_input.feed(chunk):
                    self._session.send(message)
            for message in self._text_input.end():
                self._session.send(message)
            self._quiet.start(time.monotonic())
        except SessionOver:
            pass  # the output thread reports the cause
        except InputError as error:
            raise ConnectError(str(error)) from None
        except OSError as error:
            raise ConnectError(
                f"cannot read standard input: {error.strerror}"
            ) from None

    def _on_lost(self, error: Error) -> None:
        self._is_done = isinstance(error, SessionLost) and self._is_normal(error)
        if not self._is_done:
            super()._on_lost(error)

    def _is_normal(self, error: SessionLost) -> bool:
        """Whether a session without an exit status has ended as intended.

        websocketd ends the stream at the end of its process, without a close frame.
        """
        ended = error.close_code == 1006 and error.reason == END_OF_STREAM
        foreign = not self._session.subprotocol
        return error.close_code in NORMAL_CLOSES or (ended and foreign)

    def _status(self) -> int:
        return os.EX_OK if self._is_done else super()._status()


class _Quiet(Exception):
    """The session has been quiet for too long after the end of input."""
