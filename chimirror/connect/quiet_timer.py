"""Tells when a session whose input has ended has been quiet for too long.

For sessions in which the end of input cannot be sent, or need not end the remote
process. Pure: the clock is passed in.
"""

from __future__ import annotations


class QuietTimer:
    """Time since the end of input or the last output, whichever is later.

    Args:
        limit: Seconds of quiet, None for no limit.
    """

    __slots__ = ("_limit", "_since")

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self._since: float | None = None  # None while there is input

    def start(self, now: float) -> None:
        """Called at the end of input."""
        self._since = now

    def restart(self, now: float) -> None:
        """Called when the session has not been quiet."""
        if self._since is not None:
            self._since = now

    def left(self, now: float) -> float | None:
        """Return the seconds that are left, at least 0. None before the end of input.

        Args:
            now: Monotonic time in seconds.
        """
        if self._since is None or self._limit is None:
            return None
        return max(self._since + self._limit - now, 0.0)
