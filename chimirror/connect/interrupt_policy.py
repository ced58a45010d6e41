"""Decides which signals go to the remote process and which end the client.

Pure: the clock is passed in. Signals are forwarded. So that the user can always leave,
a signal that would end a local process ends the client in these cases:

- The session does not exist yet or any more. The caller decides this case.
- It is SIGTERM or SIGHUP, and the same signal came before. Their senders want an end.
- It is SIGINT or SIGQUIT, and the same signal came less than a second ago. Their keys
  are ordinary ones for many programs, which must get each of them.
- The server has not answered since an earlier signal. A ping goes out with each.
"""

from __future__ import annotations

import math
import signal

ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
FORWARDED = (*ENDING, signal.SIGUSR1, signal.SIGUSR2)

# Seconds within which the same signal ends the client.
REPEAT_INTERVALS: dict[int, float] = {
    signal.SIGHUP: math.inf,
    signal.SIGINT: 1.0,
    signal.SIGQUIT: 1.0,
    signal.SIGTERM: math.inf,
}


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
        interval = REPEAT_INTERVALS.get(number)
        if interval is None:
            return False
        last = self._last_times.get(number)
        self._last_times[number] = now
        return not responsive or (last is not None and now - last < interval)
