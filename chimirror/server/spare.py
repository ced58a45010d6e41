"""A spare: an application that has been started, and waits for its client.

Until then its pipes are neither read nor polled. Output waits in the pipe, and reaches
the client first. A spare that gets no client is retired: its input ends, and the stop
sequence of a session follows. Knows no connection.
"""

from __future__ import annotations

import os
import select

from chimirror.process.application_process import ApplicationProcess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from chimirror.apps import Application
    from chimirror.config import Config
    from chimirror.io.loop import EventLoop
    from chimirror.process.application_process import SpawnBackend
    from chimirror.process.spawner import Pipes

    class SpareOwner(Protocol):
        """Callbacks of spares."""

        def on_spare_started(self, spare: Spare) -> None: ...

        def on_spare_failed(self, spare: Spare, reason: str, shortage: bool) -> None:
            """Called when the process could not be started."""

        def on_spare_exit(self, spare: Spare, status: int, survivors: bool) -> None:
            """Called when the process has ended before its client came."""

        def on_retired(self, retired: RetiredSpare) -> None:
            """Called when a retired spare has ended."""

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

    def close(self, loop: EventLoop) -> None:
        """Close the pipes of a process that has ended."""
        for fd in self.pipes:
            if fd >= 0:
                loop.close(fd)
        self.pipes = NO_PIPES


class RetiredSpare:
    """Process handler of a spare that gets no client. Discards its output.

    Args:
        owner: called at the end.
        spare: the spare. Its process belongs to this object from now on.
        loop: event loop of this process.
        spawner: has started the process.

    Attributes:
        config: options of its application.
        process: the process, in its stop sequence.
    """

    __slots__ = ("_loop", "_owner", "config", "process")

    def __init__(
        self, owner: SpareOwner, spare: Spare, loop: EventLoop, spawner: SpawnBackend
    ) -> None:
        self._owner = owner
        self._loop = loop
        self.config: Config = spare.app.config
        kind = ApplicationProcess
        if self.config.pty:
            from chimirror.process.pty_process import PtyProcess

            kind = PtyProcess
        self.process = kind(self, loop, spawner, self.config, spare.session)

    def begin(self, pid: int, pipes: Pipes) -> None:
        """Begin the stop sequence."""
        self.process.on_started(pid, pipes)
        self.process.stop()
        self.process.end_input()

    # Callbacks of the process

    def on_application_started(self) -> None:
        """Do nothing: it has been running for some time."""

    def on_application_failed(self, reason: str, shortage: bool) -> None:
        """Never called: it has been started."""

    def on_output(self, stream: str, chunk: bytes) -> None:
        """Discard output."""

    def on_late_output(self, stream: str, chunk: bytes) -> None:
        """Discard output of the stop sequence."""

    def on_stdin_buffer_low(self) -> None:
        """Do nothing: no input follows."""

    def on_control_channel(self) -> None:
        """Called when the process writes to its control channel. Closes it."""
        self._loop.close(self.process.detach_control_fd())

    def on_application_end(self, status: int) -> None:
        """Called when the process has ended."""
        self.process.clear_handler()
        self._owner.on_retired(self)

    def on_error(self, error: Exception) -> None:
        """Called on an internal error."""
        self._owner.on_spare_error(error)
