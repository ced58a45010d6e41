"""The line that the agent-check of HAProxy reads, from the capacity that is left.

HAProxy's configuration manual, `agent-check`. The percentage is the weight of the
server. After `drain`, only `ready` brings the server back, so each other line has it.
"""

from __future__ import annotations

DRAIN = b"drain\n"  # no new sessions; those that run stay
STOPPED = b"stopped\n"  # nothing accepts here, and nothing will


def agent_line(sessions: int, capacity: int, draining: bool) -> bytes:
    """Return the line of a host that accepts sessions, or did until now.

    Args:
        sessions: Number of sessions that run.
        capacity: The most sessions that may run at once.
        draining: New sessions are refused until they are admitted again, or the service
            is stopping.
    """
    if draining:
        return DRAIN
    left = max(capacity - sessions, 0)
    # Rounded up: a server with room for one session gets it.
    percent = -(-100 * left // capacity) if left else 0
    return b"ready up %d%%\n" % percent
