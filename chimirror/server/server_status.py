"""What probes and balancers learn of the server: whether it takes new sessions.

Knows counts and no connection.
"""

from __future__ import annotations

from chimirror.metrics.agent_check import agent_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.server.limit_table import LimitTable

STARTING, STOPPING, DRAINING, FULL = "starting", "stopping", "draining", "full"


class ServerStatus:
    """The status of one server.

    Args:
        table: counts the sessions of all workers.
        capacity: the most sessions that may run at once.

    Attributes:
        is_started: a worker runs.
        is_stopping: the server has got a stop signal.
    """

    def __init__(self, table: LimitTable, capacity: int) -> None:
        self._table = table
        self._capacity = capacity
        self.is_started = False
        self.is_stopping = False

    def obstacle(self) -> str:
        """Return why a new session would be refused, "" if it would be admitted."""
        if self.is_stopping:
            return STOPPING
        if self._table.draining:
            return DRAINING
        if not self.is_started:
            return STARTING
        return FULL if self._table.total() >= self._capacity else ""

    def agent_line(self) -> bytes:
        """Return the line for the agent-check of HAProxy."""
        is_going = self.is_stopping or self._table.draining
        sessions = self._table.total() if self.is_started else self._capacity
        return agent_line(sessions, self._capacity, is_going)
