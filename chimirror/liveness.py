"""Whether the client still lives: a judgement, without descriptors or clock.

Pings must not fight back-pressure: any byte received is life; the clock stands still
while we do not read; and while output is blocked, TCP is the judge, because a ping
cannot arrive. A ping that stays unanswered, or a transport that repeats itself without
an acknowledgement, for the ping timeout, is the end.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Transport(Protocol):
        """What the kernel knows of the connection."""

        def stalled(self) -> bool:
            """TCP repeats itself without an answer so far."""

        def unanswered_for(self) -> float:
            """Seconds without an acknowledgement while it does."""

        def unsent(self) -> int:
            """Bytes on their way."""


ALIVE, PING, DEAD = range(3)


class Liveness:
    """The books of one connection; times are the loop's, in seconds."""

    __slots__ = ("_judged", "_ping_sent", "_stalled_since", "heard")

    def __init__(self, now: float) -> None:
        self.heard = now
        self._judged = now
        self._ping_sent = 0.0
        self._stalled_since = 0.0

    def hear(self, now: float) -> None:
        """Something was received, or we begin to read again."""
        self.heard = now
        self._ping_sent = 0.0
        self._stalled_since = 0.0

    def judge(
        self,
        now: float,
        timings: tuple[float, float],
        transport: Transport,
        *,
        reading: bool,
        blocked: bool,
    ) -> int:
        """ALIVE, PING (send one now) or DEAD.

        Args:
            now: the loop's time.
            timings: ping interval and ping timeout, seconds.
            transport: asked only when it matters.
            reading: we read from the client.
            blocked: output waits in our own queue.
        """
        interval, timeout = timings
        self._judged = now
        if blocked or not reading or self._stalled_since:
            return self._by_transport(now, timings, transport, blocked or reading)
        if not self._ping_sent:
            if now < self.heard + interval:
                return ALIVE
            self._ping_sent = now
            return PING
        if now < self._ping_sent + timeout:
            return ALIVE
        if transport.unsent() and transport.unanswered_for() < timeout:
            # The ping waits in the kernel behind output that the client does not read,
            # as long as it lives.
            return self._by_transport(now, timings, transport, True)
        return DEAD

    def _by_transport(
        self,
        now: float,
        timings: tuple[float, float],
        transport: Transport,
        blocked: bool,
    ) -> int:
        if not transport.stalled():
            self._stalled_since = 0.0
        elif not self._stalled_since:
            self._stalled_since = now
        elif now >= self._stalled_since + timings[1]:
            return DEAD
        if blocked:
            self.heard = now
            self._ping_sent = 0.0
            return ALIVE
        if now < self.heard + timings[0]:
            return ALIVE
        self.heard = now  # not heard, but asked: TCP has to acknowledge it
        return PING

    def next_check(self, timings: tuple[float, float], *, by_transport: bool) -> float:
        """When to judge again."""
        interval, timeout = timings
        if by_transport or self._stalled_since:
            return self._judged + min(interval, timeout / 4)
        if self._ping_sent:  # its answer may come, and the next interval begin, before
            return min(self._ping_sent + timeout, self._judged + interval)
        return self.heard + interval
