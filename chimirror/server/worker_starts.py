"""Starts by workers, as the supervisor sees them: which, and what to do if one dies.

There are none if applications are preloaded, or if the extension cannot be used. Then
the zygote starts all applications. Knows no links.
"""

from __future__ import annotations

from chimirror.process import fast_spawner
from chimirror.process.process_table import ProcessTable
from chimirror.server.abandoned_processes import AbandonedProcesses
from chimirror.server.start_guard import WorkerGuard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from chimirror.config import Config
    from chimirror.io.loop import EventLoop
    from chimirror.process.process_table import WorkerProcesses
    from chimirror.server.orphans import OrphanWatcher
    from chimirror.server.worker_process import WorkerProcess

ENDING = 1024  # sessions of a worker that have ended, and count no more


class WorkerStarts:
    """The applications that workers start themselves.

    Is created before the zygote and the workers are forked.

    Args:
        loop: event loop of the supervisor.
        orphans: watches the children of the supervisor.
        config: the command line.
        count: number of workers.
        capacity: number of sessions and spares of one worker.
        workers: the workers that have not ended.
        log: called when a process had to be killed.
    """

    def __init__(
        self,
        loop: EventLoop,
        orphans: OrphanWatcher,
        config: Config,
        count: int,
        capacity: int,
        workers: Collection[WorkerProcess],
        log: Callable[[str], object],
    ) -> None:
        self._table: ProcessTable | None = None
        if config.preload is None and not fast_spawner.find_obstacle():
            self._table = table = ProcessTable(count, capacity + ENDING)
            grace = config.kill_grace
            self._abandoned = AbandonedProcesses(loop, orphans, table, grace)
            self._guard = WorkerGuard(loop, table, workers, log)

    @property
    def are_possible(self) -> bool:
        """Whether workers start applications."""
        return self._table is not None

    def part(self, worker: int) -> WorkerProcesses | None:
        """Return what a worker needs to start applications, or None."""
        return None if self._table is None else self._table.part(worker)

    def sessions(self) -> set[bytes]:
        """Return the sessions whose applications were started by workers."""
        return set() if self._table is None else self._table.sessions()

    def enable_guard(self) -> None:
        """Begin to look for starts that hang."""
        if self._table is not None:
            self._guard.enable()

    def disable_guard(self) -> None:
        """Look for starts no more."""
        if self._table is not None:
            self._guard.disable()

    def on_worker_exit(self, worker: int) -> None:
        """Called when a worker has ended. Ends the applications that it has left."""
        if self._table is not None:
            self._abandoned.take_over(worker)

    def close(self) -> None:
        """Release memory and descriptors in this process only."""
        if self._table is not None:
            self._table.close()
            fast_spawner.release()
