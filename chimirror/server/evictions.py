"""Closes the connections of a worker that give way to newer ones, and warns.

`io.pending_connections` chooses them. Knows nothing of limits and of accepting.
"""

from __future__ import annotations

from chimirror.session.connection import CLOSED
from chimirror.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from chimirror.log.records import EventLog
    from chimirror.session import ServedConnection

    class InternalErrorLog(Protocol):
        """Writes an internal error to the log."""

        def __call__(self, error: Exception, *, part: str) -> None: ...


WARNING_INTERVAL = 10.0  # seconds between two warnings


class Evictions:
    """Handler of connections that give way.

    Args:
        event_log: gets the warnings.
        log_internal_error: called with an error of the connection that gives way. The
            newer one does not pay for it.
    """

    def __init__(
        self, event_log: EventLog, log_internal_error: InternalErrorLog
    ) -> None:
        self._event_log = event_log
        self._log_internal_error = log_internal_error
        self._warnings = event_log.limit(1, WARNING_INTERVAL, self._report)

    def on_handshake(self, entry: ServedConnection) -> None:
        """Called when a handshake gives way to a newer one. Warns now and then."""
        try:
            entry.give_way()
        except Exception as error:  # noqa: BLE001 (the newer one does not pay for it)
            self._log_internal_error(error, part="a handshake")
        if entry.connection.state != CLOSED:
            return  # its request has arrived
        source = entry.peer.address or entry.peer.text
        if not self._warnings.allows(source):
            return
        self._event_log.message(
            4,
            f"too many connections without a request, the most from {source}; "
            "their oldest are closed: see --max-handshakes",
        )

    def _report(self, source: str, count: int) -> None:
        """Called at the end of a WARNING_INTERVAL with the closes not warned about."""
        connections = counted(count, "more connection")
        self._event_log.message(
            4,
            f"closed {connections} without a request from {source} within "
            f"{WARNING_INTERVAL:g} s",
            suppressed=count,
        )

    def on_response(self, entry: ServedConnection) -> None:
        """Called when a connection that ends gives way to a newer one."""
        try:
            entry.connection.abort()
        except Exception as error:  # noqa: BLE001 (the newer one does not pay for it)
            self._log_internal_error(error, part="a response")
