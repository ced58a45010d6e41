"""Starts applications in the worker itself, and those of other users by the zygote.

Knows no session object. The pid of each application is in shared memory, so that the
supervisor finds the applications of a dead worker.
"""

from __future__ import annotations

from chimirror.io.loop import NEVER, FatalErrorHandler
from chimirror.process import children
from chimirror.process.fast_spawner import FastSpawner
from chimirror.process.sigchld import SigchldReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from chimirror.io.loop import EventLoop
    from chimirror.process.process_table import WorkerProcesses
    from chimirror.process.spawner import SpawnClient, SpawnRequest
    from chimirror.spawn.client import ZygoteClient


class SupervisorSweeper(FatalErrorHandler):
    """Sweeper that tells the supervisor which sessions of this worker are over.

    The supervisor is the child subreaper, and has few other children. A worker would
    have to look through all its applications at each tick in which a session ends.

    Args:
        loop: event loop of this worker.
        client: has the link to the supervisor.
        processes: the part of this worker in the table of all applications.
    """

    def __init__(
        self, loop: EventLoop, client: ZygoteClient, processes: WorkerProcesses
    ) -> None:
        self._loop = loop
        self._client = client
        self._processes = processes
        self._over: dict[str, int] = {}
        self.armed = 0
        self.deadline = NEVER

    def end_session(self, pid: int, session: str, survivors: bool) -> None:
        """Report to the supervisor, at the next tick, that a session has ended."""
        self._over[session] = pid if survivors else 0
        self._loop.set_timer(self, self._loop.now)

    def on_stray_exit(self) -> None:
        """Never called: this process adopts no processes."""

    def on_timer(self, now: float) -> None:
        """Called at the next tick. Sends the sessions, which wait for a full link."""
        if self._client.report_over(self._over):
            self.take()
        else:
            self._loop.set_timer(self, now)

    def take(self) -> dict[str, int]:
        """Return the sessions that are not reported, and forget them.

        Returns:
            The process group that has outlived each application, or 0.
        """
        over, self._over = self._over, {}
        self._loop.cancel_timer(self)
        self._processes.release(over)
        return over


class WorkerSpawner:
    """Spawner of a worker that can start applications itself.

    Args:
        loop: event loop of this worker.
        client: asks the zygote, and has the link to the supervisor.
        processes: the part of this worker in the table of all applications.
        limits: the descriptor limits of applications, soft and hard.

    Attributes:
        on_supervisor_lost: called when the supervisor is gone.
    """

    def __init__(
        self,
        loop: EventLoop,
        client: ZygoteClient,
        processes: WorkerProcesses,
        limits: tuple[int, int],
    ) -> None:
        self._client = client
        self._processes = processes
        self._sweeper = SupervisorSweeper(loop, client, processes)
        self._fast = FastSpawner(loop, processes, limits, self._sweeper)
        self._sigchld = SigchldReader(loop, self._fast)
        self._is_alone = False  # the supervisor is gone
        self.on_supervisor_lost: Callable[[], None] = lambda: None
        client.on_supervisor_lost = self._on_supervisor_lost

    def start(self, request: SpawnRequest) -> None:
        """Start a program. The result comes at once, except for another user."""
        spawner = self._client if request.program.user_ids else self._fast
        spawner.start(request)

    @property
    def cgroups(self) -> dict[str, int]:
        """Descriptors of directories of cgroups that need not be opened, by path."""
        return self._fast.cgroups

    def transfer(self, pid: int, client: SpawnClient) -> None:
        """Report the end of a running application to another client."""
        if self._fast.client(pid) is not None:
            self._fast.add_child(pid, client)
        else:
            self._client.transfer(pid, client)

    def signal(self, pid: int, number: int) -> bool:
        """Signal the process group of a running application.

        Returns:
            False if the same signal still waits for the zygote.
        """
        if self._fast.client(pid) is not None:
            return self._fast.signal(pid, number)
        return self._client.signal(pid, number)

    def end_session(self, pid: int, session: str, survivors: bool) -> None:
        """End the strays of a session."""
        if session in self._processes:
            self._fast.end_session(pid, session, survivors)
        else:
            self._client.end_session(pid, session, survivors)

    def _on_supervisor_lost(self) -> None:
        """Called when the supervisor is gone. Ends strays in this process."""
        self._is_alone = True
        self._fast.sweep_here()
        for session, group in self._sweeper.take().items():
            self._fast.end_session(group, session, survivors=group > 0)
        self.on_supervisor_lost()

    def close(self) -> None:
        """Called at the end of this worker. Leaves no process without a supervisor."""
        if self._is_alone:
            self._fast.finish_sweep()
            children.end_all()
