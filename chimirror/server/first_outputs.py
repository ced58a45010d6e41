"""Recent sessions that have had no output yet.

Their clients wait, so no spare is started meanwhile. Knows sessions by their ids and
counters only.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from chimirror.io.loop import EventLoop
    from chimirror.session import SessionEntry

    class SessionHost(Protocol):
        """Has the admitted sessions: the worker."""

        sessions: dict[str, SessionEntry]


# Seconds: an application that waits for input has no output until its client writes.
FIRST_OUTPUT_TIMEOUT = 1.0


class FirstOutputs:
    """The sessions whose first output is awaited, each for FIRST_OUTPUT_TIMEOUT.

    Args:
        host: has the sessions that are not over.
        loop: has the time.
    """

    def __init__(self, host: SessionHost, loop: EventLoop) -> None:
        self._host = host
        self._loop = loop
        self._silent: list[tuple[SessionEntry, float]] = []  # until this time

    def add(self, session: SessionEntry) -> None:
        """Await the first output of a session."""
        self._silent.append((session, self._loop.now + FIRST_OUTPUT_TIMEOUT))

    def are_awaited(self) -> bool:
        """Return True if any is awaited now."""
        self._silent = [each for each in self._silent if self._is_silent(*each)]
        return bool(self._silent)

    def _is_silent(self, session: SessionEntry, until: float) -> bool:
        first_messages = 1 if session.framing.sends_secret else 0
        return (
            until > self._loop.now
            and session.session_id in self._host.sessions
            and session.messages_out <= first_messages
        )
