"""Answers the agent-check of HAProxy: one line for each connection.

The line is sent at once. What the client sends is ignored. `metrics.agent_check` has
the form of the line.
"""

from __future__ import annotations

from chimirror.server.short_connections import ShortConnection, ShortServer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chimirror.io.listener import Listener
    from chimirror.io.loop import EventLoop
    from chimirror.server.server_status import ServerStatus


class AgentConnection(ShortConnection):
    """One check.

    Args:
        server, loop, fd: as for ShortConnection.
        status: knows the line.
    """

    __slots__ = ("_status",)

    def __init__(
        self, server: ShortServer, loop: EventLoop, fd: int, status: ServerStatus
    ) -> None:
        super().__init__(server, loop, fd)
        self._status = status

    def begin(self) -> None:
        """Send the line."""
        self.answer(self._status.agent_line())


def serve_agents(
    loop: EventLoop,
    listeners: Sequence[Listener],
    status: ServerStatus,
    log: Callable[[str], object],
) -> ShortServer:
    """Return a server of agent checks.

    Args:
        loop: reports readiness.
        listeners: their owner closes them.
        status: knows the line.
        log: called with the text of a warning.
    """

    def connect(server: ShortServer, loop: EventLoop, fd: int) -> ShortConnection:
        return AgentConnection(server, loop, fd, status)

    return ShortServer(loop, listeners, connect, log)
