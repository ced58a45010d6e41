"""Events of a server that its supervisor passes on.

The base class ignores them: a server without --metrics and --agent has nothing to tell.
`status_endpoints` has the class for the others. Knows no listener and no counter.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.server.metrics_table import Region


class ServerObserver:
    """Observer that ignores all events."""

    def on_started(self) -> None:
        """Called when the workers were started: the server takes sessions."""

    def on_workers_changed(self, count: int) -> None:
        """Called with the number of workers: without any, nothing takes sessions."""

    def on_worker_exit(self, worker: int) -> None:
        """Called when a worker has ended. Its open sessions are lost."""

    def on_restart(self, kind: str) -> None:
        """Called when a process is replaced after an unexpected end."""

    def on_stopping(self) -> None:
        """Called when the server drains: it takes no more sessions."""

    def on_stopped(self) -> None:
        """Called when the last worker has ended."""

    def region_of(self, worker: int) -> Region | None:
        """Return the counters of a worker, None without --metrics."""
        return None

    def release_in_worker(self) -> None:
        """Close what a worker must not hold. Its counters stay."""

    def release_in_zygote(self) -> None:
        """Close what the zygote and applications must not hold."""
