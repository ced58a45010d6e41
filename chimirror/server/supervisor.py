"""The supervisor of chimirror-server: forks the workers and replaces those that die.

Passes stop signals on to the workers and cleans up after them: their counts in the
limit tables and their heartbeats. Serves no session and knows no connection. The zygote
and the applications of a dead zygote are the work of `zygote_manager`.
"""

from __future__ import annotations

import os
import signal
import traceback

from chimirror import program
from chimirror.host import runtime_dir
from chimirror.io.loop import NEVER, EventLoop, FatalErrorHandler
from chimirror.log.stderr import INFO, WARNING, report
from chimirror.process import children, fork, process_title
from chimirror.server import capacity, preimport, worker, worker_main, zygote
from chimirror.server.admission import WorkerAdmission
from chimirror.server.certificate_failures import CertificateFailures
from chimirror.server.limit_table import LimitTable
from chimirror.server.notifier import ServiceNotifier
from chimirror.server.orphans import OrphanWatcher
from chimirror.server.server_cgroups import ServerCgroups
from chimirror.server.server_observer import ServerObserver
from chimirror.server.spare_table import SpareTable
from chimirror.server.start_guard import ZygoteGuard
from chimirror.server.stop_guard import StopDeadlines, StopGuard
from chimirror.server.worker_process import WorkerProcess
from chimirror.server.worker_starts import WorkerStarts
from chimirror.server.zygote_manager import ZygoteManager
from chimirror.spawn.start_marks import StartMarks
from chimirror.tls.errors import CertificateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from chimirror.access.endpoint import Endpoint
    from chimirror.config import Config
    from chimirror.io.listener import Listener
    from chimirror.log.records import EventLog

MIN_LIFETIME = 1.0  # seconds: a worker that dies sooner is replaced after a pause

# per worker: deaths within MIN_LIFETIME, in a row, after which the server gives up
MAX_EARLY_DEATHS = 5


class Supervisor(FatalErrorHandler):
    """The parent of the zygote and of the workers.

    Args:
        config: the command line.
        listeners: the listeners, which the workers share.
        event_log: records of the supervisor and, after the fork, of the workers.
        descriptors: the soft descriptor limit at the start, which applications get.
        guardian: the pid of the guardian, or 0 without one.
        authorizer: is asked who clients are, or None.
        metrics: the listeners of --metrics.
        agent: the listeners of --agent.
    """

    def __init__(
        self,
        config: Config,
        listeners: list[Listener],
        event_log: EventLog,
        descriptors: int,
        guardian: int = 0,
        authorizer: Endpoint | None = None,
        metrics: Sequence[Listener] = (),
        agent: Sequence[Listener] = (),
    ) -> None:
        self._authorizer = authorizer
        self._config = config
        self._listeners = listeners
        self._event_log = event_log
        self._descriptors = descriptors
        count, total, self._room_per_worker = capacity.plan_workers(config)
        self._worker_count = count
        per_source, rate = config.max_sessions_per_source, config.max_rate
        self._table = LimitTable(total, per_source, rate, count)
        self._by_name = None
        if config.apps is not None:
            self._by_name = LimitTable(total, total, None, count)
        self._by_user = None
        if config.max_sessions_per_user is not None:
            per_user = config.max_sessions_per_user
            self._by_user = LimitTable(total, per_user, None, count)
        self._spare_table = SpareTable(count, capacity.processes())
        self._loop = EventLoop()
        event_log.attach(self._loop)
        self._notifier = ServiceNotifier(
            self._loop,
            os.environ,
            os.getpid(),
            count + 1,
            self._table.total,
            lambda: self._table.draining,
        )
        self._marks = StartMarks(count)
        self._stop_deadlines = StopDeadlines(count)
        self._orphan_watcher = OrphanWatcher(self._loop)
        self._workers: set[WorkerProcess] = set()
        self._worker_starts = WorkerStarts(
            self._loop,
            self._orphan_watcher,
            config,
            count,
            self._room_per_worker.sessions,  # spares take the room of sessions
            self._workers,
            lambda text: event_log.message(3, text),
        )
        self._cgroups = ServerCgroups(self._loop, config, guardian)
        self._zygote_manager = ZygoteManager(
            self._loop,
            self._orphan_watcher,
            self,
            self._run_zygote,
            config.kill_grace,
            self._worker_starts.sessions,
        )
        self._zygote_guard = ZygoteGuard(
            self._loop, self._marks, self._zygote_manager.kill
        )
        # numbers of workers to be forked after a pause
        self._delayed_workers: list[int] = []
        self._stop_guard = StopGuard(
            self._loop, self._workers, self._stop_deadlines, self._on_worker_killed
        )
        self._certificate_failures = CertificateFailures(config)
        self._observer = ServerObserver()
        if metrics or agent:
            self._observer = self._open_endpoints(metrics, agent, total)
        self._early_deaths = 0
        self._stopping = False
        self._drain_signal: int = signal.SIGTERM
        self._control_directory: str | None = None  # of the workers' control sockets
        self._control_warning = ""  # the last reason for none
        self.armed = 0
        self.deadline = NEVER
        self.status = os.EX_OK

    def _open_endpoints(
        self, metrics: Sequence[Listener], agent: Sequence[Listener], capacity: int
    ) -> ServerObserver:
        from chimirror.server.status_endpoints import StatusEndpoints

        return StatusEndpoints(
            self._loop,
            metrics,
            agent,
            self._config.hosts,
            self._table,
            capacity,
            self._spare_table,
            lambda text: self._event_log.message(4, text),
        )

    def run(self) -> int:
        """Serve until a stop signal. Returns the exit status.

        Raises:
            CgroupError: --session-cgroup is on, and sessions cannot have cgroups.
        """
        # a zygote executes programs by fork(2) instead of posix_spawn(3) into a cgroup
        is_cheap = self._worker_starts.are_possible or self._config.preload is not None
        self._cgroups.open(is_cheap=is_cheap)
        for ending in program.termination_signals():
            self._loop.add_signal_handler(ending, self._stop)
        self._loop.add_signal_handler(
            worker.DRAIN_AND_REJECT, self._on_sockets_stopping
        )
        self._make_control_directory(lambda text: report(text, WARNING))
        self._event_log.server_started()  # before the zygote loads any application
        self._zygote_manager.start()
        preimport.preimport(self._config)
        while not (self._zygote_manager.ready or self._stopping):
            self._loop.run_once()
        self._zygote_guard.enable()
        self._worker_starts.enable_guard()
        if not self._stopping:
            for number in range(self._worker_count):
                self._fork(number)
            self._log_listening()
        while self._workers or self._delayed_workers:
            self._loop.run_once()
        self._zygote_guard.disable()
        self._worker_starts.disable_guard()
        self._zygote_manager.stop()
        while self._zygote_manager.pid:
            self._loop.run_once()
        self._cgroups.kill()
        left = children.end_all()
        self._cgroups.close()
        if left:
            pids = ", ".join(map(str, left))
            self._event_log.message(3, f"processes that cannot be killed: {pids}")
        self._notifier.close()
        self._observer.on_stopped()
        self._event_log.message(5, "stopped")
        self._event_log.finish(self._config.linger_timeout)
        self._loop.close_all()
        if self._control_directory is not None:
            runtime_dir.remove(self._control_directory)
        return self.status

    def _make_control_directory(self, log: Callable[[str], object]) -> None:
        """Make the directory of the workers' control sockets, if it is missing.

        Without it the server works without control. Warns once about each reason.
        """
        uid, reason = os.geteuid(), ""
        path = runtime_dir.server_directory(os.environ, uid, os.getpid())
        try:
            if path is not None:
                runtime_dir.make_server_directory(path, uid)
                runtime_dir.remove_dead_servers(path)
        except OSError as error:
            reason = f"{error.filename}: {error.strerror}"
            path = None
        self._control_directory = path
        if reason not in ("", self._control_warning):
            log(f"warning: chimirror-ctl cannot ask this server: {reason}")
        self._control_warning = reason

    def _log_listening(self) -> None:
        for listener in self._listeners:
            report(f"listening on {listener.address}", INFO)
            as_root = os.getuid() == 0 and self._config.user is None
            if as_root and not listener.is_local:
                report(
                    "warning: root serves an address that is not loopback; every "
                    "client is given a process of root: write --user",
                    WARNING,
                )
        self._observer.on_started()
        self._notifier.ready()

    # Workers

    def _replace(self, number: int) -> None:
        """Fork a worker in place of a dead one, or try again later if fork(2) fails."""
        self._make_control_directory(lambda text: self._event_log.message(4, text))
        try:
            self._fork(number)
        except OSError as error:
            self._event_log.message(3, f"cannot start worker {number}: {error}")
            self._replace_soon(number)

    def _replace_soon(self, number: int) -> None:
        self._delayed_workers.append(number)
        self._loop.set_timer(self, self._loop.now + MIN_LIFETIME)

    def _fork(self, number: int) -> None:
        worker_end, worker_link = self._zygote_manager.create_worker_link(number)
        # Until the child installs its own handlers, a signal to it would wake the event
        # loop of the supervisor, which shares the wake-up pipe.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, worker.SIGNALS)
        self._certificate_failures.on_try(number)
        try:
            pid = os.fork() or self._run_worker(number, worker_end)
        except OSError:
            worker_link.link.close()
            self._zygote_manager.on_link_closed(worker_link)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            worker_end.close()
        self._event_log.worker_started(number, pid)
        process = WorkerProcess(number, pid, self._loop.clock(), self.on_worker_exit)
        self._workers.add(process)
        self._observer.on_workers_changed(len(self._workers))
        self._orphan_watcher.add_child(pid, process)
        self._zygote_manager.on_worker_started(worker_link)

    def _run_worker(self, number: int, worker_link: socket.socket) -> NoReturn:
        def run() -> int:
            process_title.show_as(f"chimirror-server: worker {number}")
            self._loop.release_after_fork()
            self._zygote_manager.release_after_fork()
            self._observer.release_in_worker()
            try:
                worker_main.run(
                    self._config,
                    self._listeners,
                    self._event_log,
                    WorkerAdmission(self._table, self._by_name, self._by_user, number),
                    number,
                    self._room_per_worker,
                    worker_link,
                    self._control_directory,
                    self._notifier.heartbeat,
                    self._marks,
                    self._stop_deadlines,
                    self._worker_starts.part(number),
                    self._descriptors,
                    self._cgroups.worker_path(os.getpid()),
                    self._spare_table,
                    self._authorizer,
                    self._observer.region_of(number),
                )
            except CertificateError as error:
                if not self._certificate_failures.is_known(number):
                    text = f"{error}; worker {number} waits for it"
                    self._event_log.message(3, text)
                    self._event_log.finish(self._config.linger_timeout)
                return os.EX_CONFIG
            return os.EX_OK

        fork.run_child(run)

    def on_worker_exit(self, process: WorkerProcess, status: int) -> None:
        """Called when a worker has ended. Releases its sessions and replaces it."""
        self._workers.discard(process)
        self._worker_starts.on_worker_exit(process.number)
        self._cgroups.on_worker_exit(process.pid)
        for table in (self._table, self._by_name, self._by_user):
            if table is not None:
                table.release_worker(process.number)
        self._spare_table.set_count(process.number, 0)
        self._observer.on_workers_changed(len(self._workers))
        self._observer.on_worker_exit(process.number)
        self._notifier.clear_heartbeat(process.number)
        failed = status == os.EX_CONFIG
        self._certificate_failures.on_worker_exit(process.number, failed=failed)
        if self._stopping and status == 0:
            return
        if failed and not self._stopping:
            self._replace_soon(process.number)  # until its certificates are mended
            return
        text = children.describe(status)
        label = f"worker {process.number} (pid {process.pid})"
        self._event_log.message(
            3, f"{label} ended: {text}", worker=process.pid, exit=text
        )
        if self._stopping:
            return
        self._observer.on_restart("worker")
        if self._loop.clock() - process.started_at >= MIN_LIFETIME:
            self._early_deaths = 0
            self._replace(process.number)
            return
        self._early_deaths += 1
        if self._early_deaths >= MAX_EARLY_DEATHS * self._worker_count:
            self._event_log.message(2, "the workers cannot run; giving up")
            self.status = os.EX_SOFTWARE
            self._stop()
            return
        self._replace_soon(process.number)

    def _on_worker_killed(self, process: WorkerProcess, reason: str) -> None:
        """Called when a worker had to be killed during the stop."""
        label = f"worker {process.number} (pid {process.pid})"
        self._event_log.message(3, f"killed {label}: {reason}", worker=process.pid)

    # The zygote

    def _run_zygote(self, control: socket.socket) -> NoReturn:
        def run() -> int:
            self._loop.release_after_fork()
            self._observer.release_in_zygote()
            limits = self._table, self._by_name, self._by_user
            tables = self._stop_deadlines, self._spare_table
            for shared in (*limits, *tables, self._worker_starts):
                if shared is not None:
                    shared.close()
            descriptors, workers = self._descriptors, self._worker_count
            heartbeat, marks = self._notifier.heartbeat, self._marks
            return zygote.run(
                self._config, control, descriptors, workers, heartbeat, marks
            )

        fork.run_child(run)

    def on_zygote_ended(self, pid: int, status: int) -> None:
        """Called when a zygote has ended. The manager forks the next one."""
        self._marks.reset()
        self._notifier.clear_heartbeat(self._worker_count)
        if self._zygote_manager.ready:
            text = children.describe(status)
            self._event_log.message(3, f"the zygote (pid {pid}) ended: {text}")
            self._observer.on_restart("zygote")

    def on_zygote_start_failed(self, error: OSError) -> None:
        """Called when a zygote cannot be forked. The manager tries again."""
        self._event_log.message(3, f"cannot start a zygote: {error}")

    def on_zygote_failed(self, status: int) -> None:
        """Called when no zygote can run. Stops, as no application can be started."""
        if self._zygote_manager.ready:
            self._event_log.message(2, "the zygote cannot run; giving up")
        self.status = status or os.EX_SOFTWARE
        self._stop()

    def on_zygote_killed(self, pid: int, reason: str) -> None:
        """Called when a zygote had to be killed."""
        self._event_log.message(3, f"killed the zygote (pid {pid}): {reason}")

    def is_in_use(self) -> bool:
        """Return True if there is any session."""
        return self._table.total() > 0

    # Links

    def on_faulty_packet(self, reason: str) -> None:
        """Called when a packet of the zygote or of a worker cannot be used."""
        self._event_log.message(3, f"dropped a faulty packet: {reason}")

    def on_link_error(self, error: Exception) -> None:
        """Called on an error that ends the link to one worker."""
        text = "".join(traceback.format_exception(error))
        message = "error on the link to a worker, which drains"
        self._event_log.message(3, message, detail=text)

    def on_timer(self, now: float) -> None:
        """Called when the pause after an early death is over. Forks the workers."""
        numbers, self._delayed_workers = self._delayed_workers, []
        for number in numbers:
            self._replace(number)

    # Stop

    def _on_sockets_stopping(self) -> None:
        """Called on SIGUSR2: systemd will close the listeners when the server stops."""
        self._drain_signal = worker.DRAIN_AND_REJECT

    def _stop(self) -> None:
        """Called on SIGTERM. Drains the workers. The second SIGTERM aborts them.

        Workers that do not end are killed.
        """
        is_repeated, self._stopping = self._stopping, True
        self._observer.on_stopping()
        limit = None if is_repeated else self._config.drain_timeout
        count = self._table.total()
        text = program.describe_stop("draining", count, "session", limit)
        self._event_log.message(5, text)
        if not is_repeated:
            self._delayed_workers = []
            for listener in self._listeners:
                listener.remove()  # else clients would wait in the accept queue in vain
        number = worker.ABORT if is_repeated else self._drain_signal
        for process in self._workers:
            os.kill(process.pid, number)
        timeout = worker.CLOSE_TIMEOUT
        if not is_repeated:
            config = self._config
            timeout += config.drain_timeout + worker.STOP_MARGIN
            timeout += config.stop_grace + config.kill_grace
        self._stop_guard.begin(timeout, final=is_repeated)
        if not is_repeated:  # last: on STOPPING=1, all workers have been signalled
            self._notifier.stopping()
