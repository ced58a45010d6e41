"""The main function of a worker: makes its parts from what the supervisor passes.

Runs in the worker, after the fork. Knows which parts there are, not what they do.
"""

from __future__ import annotations

from chimirror import program
from chimirror.apps import cgroup_limits
from chimirror.builtin_modules import environ_dict
from chimirror.io.loop import EventLoop
from chimirror.server import capacity
from chimirror.server.session_cgroups import SessionCgroups
from chimirror.server.worker import Worker
from chimirror.server.worker_spawner import WorkerSpawner
from chimirror.spawn.client import ZygoteClient

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from chimirror.access.endpoint import Endpoint
    from chimirror.config import Config
    from chimirror.io.listener import Listener
    from chimirror.log.records import EventLog
    from chimirror.process.process_table import WorkerProcesses
    from chimirror.server.admission import WorkerAdmission
    from chimirror.server.capacity import Room
    from chimirror.server.heartbeat import HeartbeatTable
    from chimirror.server.metrics_table import Region
    from chimirror.server.spare_table import SpareTable
    from chimirror.server.stop_guard import StopDeadlines
    from chimirror.spawn.start_marks import StartMarks


def run(
    config: Config,
    listeners: list[Listener],
    event_log: EventLog,
    worker_admission: WorkerAdmission,
    number: int,
    room: Room,
    link: socket.socket,
    control_directory: str | None,
    heartbeat: HeartbeatTable | None,
    marks: StartMarks,
    stop_deadlines: StopDeadlines,
    processes: WorkerProcesses | None,
    descriptors: int,
    cgroup: str,
    spare_table: SpareTable,
    authorizer: Endpoint | None,
    region: Region | None = None,
) -> None:
    """Be worker `number` until drained.

    The zygote and the supervisor hold the other ends of this worker's links. They end
    all processes that the worker leaves behind.

    Args:
        config: the command line.
        listeners: the listeners, shared with the other workers.
        event_log: records of this worker.
        worker_admission: the limits of the whole server.
        number: number of this worker.
        room: numbers of connections that the descriptors of this process allow.
        link: socket to the supervisor. When the supervisor is gone the worker drains,
            because no process could replace or stop it.
        control_directory: directory for the control socket of this worker, or None.
        heartbeat: gets the heartbeats of this event loop, or None.
        marks: names the start that a dead zygote was performing.
        stop_deadlines: gets the time by which this worker will have ended.
        processes: gets the applications that this worker starts itself. None if the
            zygote starts all.
        descriptors: the soft descriptor limit that applications get.
        cgroup: the group to create for the sessions of this worker. Empty: none.
        spare_table: the numbers of spares of all workers.
        authorizer: is asked who clients are, or None.
        region: gets the counters of the sessions, or None.

    Raises:
        CertificateError: The certificates cannot be used any more.
    """
    loop = EventLoop()
    event_log.attach(loop)
    certificates = program.open_certificates(config)
    client = ZygoteClient(loop, link, marks, number)
    spawner: ZygoteClient | WorkerSpawner = client
    if processes is not None:
        limits = capacity.descriptor_limits(descriptors)
        spawner = WorkerSpawner(loop, client, processes, limits)
    cgroups = None
    if cgroup:
        kept = spawner.cgroups if isinstance(spawner, WorkerSpawner) else {}
        cgroups = SessionCgroups(loop, spawner, cgroup, kept)
        cgroups.enable(cgroup_limits(config))
    worker = Worker(
        config,
        loop,
        cgroups or spawner,
        event_log,
        worker_admission,
        number,
        room,
        spare_table,
        control_directory,
        lambda deadline: stop_deadlines.set(number, deadline),
        cgroups,
    )
    if certificates is not None:
        certificates.set_report(lambda text: event_log.message(3, text))
        worker.certificates = certificates
    worker.access = program.open_access(config, worker, authorizer, environ_dict())
    spawner.on_supervisor_lost = worker.drain
    client.on_faulty_packet = lambda reason: event_log.message(
        3, f"dropped a faulty packet: {reason}"
    )
    if region is not None:
        _count_sessions(worker, region)
    if heartbeat is not None:
        heartbeat.start_timer(loop, number)
    try:
        worker.serve(listeners)
    finally:
        if worker.access is not None:
            worker.access.close()
        if cgroups is not None:
            cgroups.kill()
        if isinstance(spawner, WorkerSpawner):
            spawner.close()
        if cgroups is not None:
            cgroups.remove()
        event_log.finish(config.linger_timeout)


def _count_sessions(worker: Worker, region: Region) -> None:
    from chimirror.server.loop_lag import LoopLagTimer
    from chimirror.server.session_counters import SessionCounters

    worker.metrics = metrics = SessionCounters(region)
    worker.traffic = metrics.traffic
    if worker.config.apps is None:
        metrics.add_application(worker.catalog.default.name)
    LoopLagTimer(worker.loop, region)
