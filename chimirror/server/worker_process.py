"""A worker process, as the supervisor knows it. Knows nothing of its sessions."""

from __future__ import annotations

from chimirror.io.loop import FatalErrorHandler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class WorkerProcess(FatalErrorHandler):
    """Child handler of one worker process.

    Args:
        number: number of the worker within the server.
        pid: its process id.
        started_at: time of its fork, by the clock of the event loop.
        on_worker_exit: called with this object and the exit status when the worker
            has ended.
    """

    __slots__ = ("_on_worker_exit", "number", "pid", "started_at")

    def __init__(
        self,
        number: int,
        pid: int,
        started_at: float,
        on_worker_exit: Callable[[WorkerProcess, int], None],
    ) -> None:
        self._on_worker_exit = on_worker_exit
        self.number = number
        self.pid = pid
        self.started_at = started_at

    def on_exit(self, status: int, survivors: bool) -> None:
        """Called when the worker has ended."""
        self._on_worker_exit(self, status)
