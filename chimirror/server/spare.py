"""A spare: an application that has been started, and waits for its client.

Until then its pipes are neither read nor polled. Output waits in the pipe, and reaches
the client first. A spare that gets no client is retired (retired_spares). Knows no
connection.
"""

from __future__ import annotations

import os
import select
from time import time_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from chimirror.apps import Application
    from chimirror.io.loop import EventLoop
    from chimirror.process.spawner import Pipes

    class SpareOwner(Protocol):
        """Callbacks of spares."""

        def on_spare_started(self, spare: Spare) -> None: ...

        def on_spare_failed(self, spare: Spare, reason: str, shortage: bool) -> None:
            """Called when the process could not be started."""

        def on_spare_exit(self, spare: Spare, status: int, survivors: bool) -> None:
            """Called when the process has ended before its client came."""

        def on_spare_error(self, error: Exception) -> None:
            """Called on an internal error."""


NO_PIPES = (-1, -1, -1, -1)
MAX_EVIDENCE = 4096  # bytes of standard error that are looked at


class Spare:
    """Client of the start and the exit of a process that waits.

    Args:
        owner: called on every event.
        app: the application.
        session: id of the session that it will belong to.
        now: time of its start, by the clock of the event loop.
    """

    __slots__ = ("_owner", "app", "born_at", "pid", "pipes", "session")

    def __init__(
        self, owner: SpareOwner, app: Application, session: str, now: float
    ) -> None:
        self._owner = owner
        self.app = app
        self.session = session
        self.born_at = now
        self.pid = 0
        self.pipes: Pipes = NO_PIPES

    def on_started(self, pid: int, pipes: Pipes) -> None:
        """Called when the process runs."""
        self.pid, self.pipes = pid, pipes
        self._owner.on_spare_started(self)

    def on_start_failed(self, reason: str, shortage: bool) -> None:
        """Called when the process could not be started."""
        self._owner.on_spare_failed(self, reason, shortage)

    def on_signals_taken(self) -> None:
        """Never called: a spare that waits gets no signal."""

    def on_exit(self, status: int, survivors: bool) -> None:
        """Called when the process has ended."""
        self._owner.on_spare_exit(self, status, survivors)

    def on_error(self, error: Exception) -> None:
        """Called on an internal error."""
        self._owner.on_spare_error(error)

    def has_ended(self) -> bool:
        """Return True if the process has ended, but this has not been reported yet."""
        try:
            handle = os.pidfd_open(self.pid)
        except OSError:  # reaped by the zygote; or no descriptor is left
            return True
        try:
            poller = select.poll()
            poller.register(handle, select.POLLIN)
            return bool(poller.poll(0))
        finally:
            os.close(handle)

    def last_words(self) -> str:
        """Return the last line on standard error, or nothing."""
        try:
            data = os.read(self.pipes[2], MAX_EVIDENCE) if self.pipes[2] >= 0 else b""
        except OSError:
            return ""
        lines = data.decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "")

    def summarize(self, now: float) -> dict[str, str | int]:
        """Return its fields, as `session.summary` does for sessions.

        Args:
            now: time by the clock of the event loop.
        """
        wall_clock = time_ns() // 1000
        return {
            "id": self.session,
            "pid": os.getpid(),
            "application_pid": self.pid,
            "started": wall_clock - int((now - self.born_at) * 1_000_000),
            "updated": wall_clock,
            "peer": "",
            "application": self.app.name,
            "command": self.app.command,
            "framing": "",
            "state": "spare",
            "bytes_in": 0,
            "bytes_out": 0,
            "messages_in": 0,
            "messages_out": 0,
        }

    def close(self, loop: EventLoop) -> None:
        """Close the pipes of a process that has ended."""
        for fd in self.pipes:
            if fd >= 0:
                loop.close(fd)
        self.pipes = NO_PIPES
