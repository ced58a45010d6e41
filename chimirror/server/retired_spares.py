"""Spares that get no client: each ends by the stop sequence of a session.

Their input ends at once. Signals follow, and their output is discarded. Knows no
connection.
"""

from __future__ import annotations

from chimirror.process.application_process import ApplicationProcess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from chimirror.config import Config
    from chimirror.io.loop import EventLoop
    from chimirror.process.application_process import SpawnBackend
    from chimirror.process.spawner import Pipes, SpawnClient
    from chimirror.server.spare import Spare

    class TransferringSpawner(SpawnBackend, Protocol):
        """Spawner whose applications can get another client."""

        def transfer(self, pid: int, client: SpawnClient) -> None:
            """Report the end of a running application to another client."""

    class RetiredOwner(Protocol):
        """Callbacks of a retired spare."""

        def on_retired(self, retired: RetiredSpare) -> None:
            """Called when it has ended."""

        def on_spare_error(self, error: Exception) -> None:
            """Called on an internal error."""


class RetiredSpares:
    """The retired spares of one worker that have not ended yet.

    Args:
        owner: called at the end of each.
        loop: event loop of this process.
        spawner: has started the processes.
    """

    def __init__(
        self, owner: RetiredOwner, loop: EventLoop, spawner: TransferringSpawner
    ) -> None:
        self._owner = owner
        self._loop = loop
        self._spawner = spawner
        self._members: set[RetiredSpare] = set()

    def __len__(self) -> int:
        """Return the number of spares that have not ended."""
        return len(self._members)

    @property
    def configs(self) -> list[Config]:
        """The options of these spares."""
        return [member.config for member in self._members]

    def add(self, spare: Spare) -> RetiredSpare:
        """Begin the stop sequence of a spare."""
        retired = RetiredSpare(self, spare, self._loop, self._spawner)
        self._members.add(retired)
        self._spawner.transfer(spare.pid, retired.process)
        retired.begin(spare.pid, spare.pipes)
        return retired

    def kill(self) -> None:
        """Kill all of them at once."""
        for member in list(self._members):
            member.process.kill()

    def on_retired(self, retired: RetiredSpare) -> None:
        """Called when a spare has ended."""
        self._members.discard(retired)
        self._owner.on_retired(retired)

    def on_spare_error(self, error: Exception) -> None:
        """Called on an internal error. Passes it to the owner."""
        self._owner.on_spare_error(error)


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
        self, owner: RetiredOwner, spare: Spare, loop: EventLoop, spawner: SpawnBackend
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
