"""Decides when to ping a client and when to disconnect it, without I/O or a clock.

Keepalive must not fight back-pressure:
- Any received byte counts as a sign of life.
- The interval does not run while reading is paused.
- While output is blocked, TCP decides, because a ping cannot get through.

A client is dead when a ping stays unanswered for the ping timeout. It is also dead when
TCP retransmits for as long without an acknowledgement.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class TransportInfo(Protocol):
        """TCP state of the connection, from the kernel."""

        def is_retransmitting(self) -> bool:
            """Return True while TCP retransmits without an acknowledgement."""

        def seconds_since_ack(self) -> float:
            """Return seconds since the last acknowledgement while retransmitting."""

        def unacked_bytes(self) -> int:
            """Return the number of bytes sent and not yet acknowledged."""


ALIVE, PING, DEAD = range(3)


class Keepalive:
    """Keepalive state of one connection. Times are the loop's, in seconds."""

    __slots__ = ("_checked_at", "_ping_sent", "_stalled_since", "heard")

    def __init__(self, now: float) -> None:
        self.heard = now
        self._checked_at = now
        self._ping_sent = 0.0
        self._stalled_since = 0.0

    def on_data_received(self, now: float) -> None:
        """Called when data was received, and when reading resumes."""
        self.heard = now
        self._ping_sent = 0.0
        self._stalled_since = 0.0

    def check(
        self,
        now: float,
        timings: tuple[float, float],
        transport: TransportInfo,
        *,
        reading: bool,
        blocked: bool,
    ) -> int:
        """Decide on the next step.

        Args:
            now: time of the loop, in seconds.
            timings: ping interval and ping timeout, in seconds.
            transport: queried only when needed, since each query is a system call.
            reading: reading from the client is not paused.
            blocked: output is queued in this process.

        Returns:
            ALIVE, PING (send a ping now) or DEAD.
        """
        interval, timeout = timings
        self._checked_at = now
        if blocked or not reading or self._stalled_since:
            return self._by_transport(now, timings, transport, blocked or reading)
        if not self._ping_sent:
            if now < self.heard + interval:
                return ALIVE
            self._ping_sent = now
            return PING
        if now < self._ping_sent + timeout:
            return ALIVE
        if transport.unacked_bytes() and transport.seconds_since_ack() < timeout:
            # The ping waits in the kernel behind output that a living client does not
            # read.
            return self._by_transport(now, timings, transport, True)
        return DEAD

    def _by_transport(
        self,
        now: float,
        timings: tuple[float, float],
        transport: TransportInfo,
        blocked: bool,
    ) -> int:
        if not transport.is_retransmitting():
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
        self.heard = now  # nothing was received, but TCP has to acknowledge the ping
        return PING

    def next_check(self, timings: tuple[float, float], *, by_transport: bool) -> float:
        """Return the time of the next check."""
        interval, timeout = timings
        if by_transport or self._stalled_since:
            return self._checked_at + min(interval, timeout / 4)
        if self._ping_sent:  # a pong may start the next interval earlier
            return min(self._ping_sent + timeout, self._checked_at + interval)
        return self.heard + interval
