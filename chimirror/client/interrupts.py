"""Which signals go to the remote process, and when one ends the client instead.

Pure: the clock is handed in. A signal is sent on, and so that the user is never
locked in, one that would end a local process ends the client when

- there is no session to send it to (any more), or
- the same one came less than a second ago, or
- the server has not answered since an earlier one: a ping goes out with each.
"""

from __future__ import annotations

import signal

ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
FORWARDED = (*ENDING, signal.SIGUSR1, signal.SIGUSR2)

AGAIN = 1.0  # seconds


class Interrupts:
    """Decides signal by signal."""

    __slots__ = ("_times", "_asked", "_answered")

    def __init__(self) -> None:
        self._times: dict[int, float] = {}
        self._asked = 0
        self._answered = 0

    def ends(self, number: int, now: float, *, running: bool) -> bool:
        """Whether this signal ends the client; if not, it is to be sent on."""
        if number not in ENDING:
            return False
        again = now - self._times.get(number, -AGAIN) < AGAIN
        self._times[number] = now
        return again or not running or self._asked != self._answered

    def ping(self) -> bytes:
        """The payload of the ping that goes out with a signal."""
        self._asked += 1
        return b"signal %d" % self._asked

    def pong(self, payload: bytes) -> None:
        if payload == b"signal %d" % self._asked:
            self._answered = self._asked
