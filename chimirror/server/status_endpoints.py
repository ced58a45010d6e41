"""The endpoints of --metrics and --agent, and the counters behind them.

The supervisor serves both, until its last worker has ended. It passes the events that
it knows. Only a server with one of the options loads this module.
"""

from __future__ import annotations

from chimirror.log.stderr import INFO, report
from chimirror.server import loop_lag, session_counters
from chimirror.server.agent_server import serve_agents
from chimirror.server.metrics_report import MetricsReport
from chimirror.server.metrics_server import MetricsServer
from chimirror.server.metrics_table import MetricsTable
from chimirror.server.server_observer import ServerObserver
from chimirror.server.server_status import ServerStatus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chimirror.io.listener import Listener
    from chimirror.io.loop import EventLoop
    from chimirror.metrics.exposition import Samples
    from chimirror.server.limit_table import LimitTable
    from chimirror.server.metrics_table import Region
    from chimirror.server.short_connections import ShortServer
    from chimirror.server.spare_table import SpareTable


class StatusEndpoints(ServerObserver):
    """What a server tells to Prometheus, to probes and to HAProxy.

    Args:
        loop: event loop of the supervisor.
        metrics, agent: the listeners of each endpoint. Their owner closes them.
        hosts: names that Host may hold.
        limits: counts the sessions of all workers.
        capacity: the most sessions that may run at once.
        spares: counts the spares of all workers.
        log: called with the text of a warning.
    """

    def __init__(
        self,
        loop: EventLoop,
        metrics: Sequence[Listener],
        agent: Sequence[Listener],
        hosts: Sequence[str],
        limits: LimitTable,
        capacity: int,
        spares: SpareTable,
        log: Callable[[str], object],
    ) -> None:
        self._loop = loop
        self._listeners = {"metrics": metrics, "the agent": agent}
        self._spares = spares
        self._status = status = ServerStatus(limits, capacity)
        self._table: MetricsTable | None = None
        self._report: MetricsReport | None = None
        self._lag_timer: loop_lag.LoopLagTimer | None = None
        self._servers: list[MetricsServer | ShortServer] = []
        if metrics:
            self._table = MetricsTable(spares.workers)
            self._report = MetricsReport(self._table, capacity)
            self._lag_timer = loop_lag.LoopLagTimer(loop, self._table.regions[-1])
            collect = self._collect
            self._servers.append(
                MetricsServer(loop, metrics, collect, status, hosts, log)
            )
        if agent:
            self._servers.append(serve_agents(loop, agent, status, log))

    def _collect(self) -> Samples:
        assert self._report is not None
        return self._report.samples(self._spares.total(), self._loop.clock())

    def on_started(self) -> None:
        """Report the addresses."""
        for name, listeners in self._listeners.items():
            for listener in listeners:
                report(f"serving {name} on {listener.address}", INFO)

    def region_of(self, worker: int) -> Region | None:
        """Return the counters of a worker, None without --metrics."""
        return None if self._table is None else self._table.regions[worker]

    def on_workers_changed(self, count: int) -> None:
        """Tell the probes whether any worker runs."""
        self._status.is_started = count > 0

    def on_worker_exit(self, worker: int) -> None:
        """Count the open sessions of the worker as lost."""
        if self._table is not None:
            session_counters.settle(self._table.regions[worker])
            loop_lag.forget(self._table.regions[worker])

    def on_restart(self, kind: str) -> None:
        """Count the restart of a process."""
        if self._report is not None:
            self._report.restarts[kind] += 1

    def on_stopping(self) -> None:
        """Tell probes and balancers that the server drains."""
        self._status.is_stopping = True

    def on_stopped(self) -> None:
        """Stop serving, and close all connections."""
        for server in self._servers:
            server.close()
        if self._lag_timer is not None:
            self._lag_timer.stop()

    def release_in_worker(self) -> None:
        """Close the connections in a worker, which writes its counters."""
        for server in self._servers:
            server.release_after_fork()

    def release_in_zygote(self) -> None:
        """Close the connections and release the counters: they are not for others."""
        self.release_in_worker()
        if self._table is not None:
            self._table.close()
