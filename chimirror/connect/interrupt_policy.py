"""Decides which signals go to the remote process and which end the client.

Pure: the clock is passed in. Signals are forwarded. So that the user can always leave,
a signal that would end a local process ends the client in these cases:

- The session does not exist yet or any more. The caller decides this case.
- The same signal came less than a second ago.
- The server has not answered since an earlier signal. A ping goes out with each.
"""

from __future__ import annotations

import signal

ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
FORWARDED = (*ENDING, signal.SIGUSR1, signal.SIGUSR2)

REPEAT_INTERVAL = 1.0  # seconds


class InterruptPolicy:
    """Decision for each signal, from the times of earlier signals."""

    __slots__ = ("_last_times",)

    def __init__(self) -> None:
        self._last_times: dict[int, float] = {}

    def ends_client(self, number: int, now: float, *, responsive: bool) -> bool:
        """Whether this signal ends the client. Otherwise the caller forwards it.

        Args:
            number: The signal.
            now: Monotonic time in seconds.
            responsive: The server has answered since the last signal.
        """
        if number not in ENDING:
            return False
        repeated = (
            now - self._last_times.get(number, -REPEAT_INTERVAL) < REPEAT_INTERVAL
        )
        self._last_times[number] = now
        return repeated or not responsive
