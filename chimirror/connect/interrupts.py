"""Which signals go to the remote process, and when one ends the client instead.

Pure: the clock is handed in. A signal is sent on, and so that the user is never
locked in, one that would end a local process ends the client when

- there is no session to send it to (any more), which is not judged here, or
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

    __slots__ = ("_times",)

    def __init__(self) -> None:
        self._times: dict[int, float] = {}

    def ends(self, number: int, now: float, *, answered: bool) -> bool:
        """Whether this signal ends the client; if not, it is to be sent on.

        Args:
            answered: the server has given a sign of life since the last one.
        """
        if number not in ENDING:
            return False
        again = now - self._times.get(number, -AGAIN) < AGAIN
        self._times[number] = now
        return again or not answered
