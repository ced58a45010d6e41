"""chimirror-server: many sessions in one service, without systemd or with it.

This is the supervisor: it opens the listeners, forks the workers, replaces one that
dies, passes the signals on and cleans up. It serves no session itself.
"""

from __future__ import annotations

import os
import signal
import sys

from chimirror import options, service, worker
from chimirror.system import capacity, children, fds, listen
from chimirror.system.admission import Table
from chimirror.system.loop import NEVER, Loop
from chimirror.system.prctl import become_subreaper
from chimirror.system.records import Records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from chimirror.options import Config
    from chimirror.system.listen import Listener

SOON = 1.0  # seconds: a worker that dies sooner is replaced after a pause
GIVE_UP = 5  # workers that die soon, in a row, before any has lasted


class Supervisor:
    """The parent of the workers.

    Args:
        descriptors: the soft limit that we were started with.
    """

    def __init__(
        self,
        config: Config,
        listeners: list[Listener],
        records: Records,
        descriptors: int,
    ) -> None:
        self._config = config
        self._listeners = listeners
        self._records = records
        self._descriptors = descriptors
        layout = capacity.plan(config.workers, config.max_sessions)
        self._count, self._most, self._room = layout
        self._table = Table(
            self._most, config.max_sessions_per_source, config.max_rate, self._count
        )
        self._lifeline = os.pipe()
        self._loop = Loop()
        self._workers: dict[int, tuple[int, float]] = {}  # pid: number, since when
        self._waiting: list[int] = []  # numbers to be forked after a pause
        self._early_deaths = 0
        self._stopping = False
        self.armed = 0
        self.deadline = NEVER
        self.status = os.EX_OK

    def run(self) -> int:
        """Serve until told to stop; the exit status."""
        become_subreaper()
        worker.preload()
        self._loop.on_signal(signal.SIGCHLD, self._reap)
        for ending in service.endings():
            self._loop.on_signal(ending, self._stop)
        for number in range(self._count):
            self._fork(number)
        self._announce()
        while self._workers or self._waiting:
            self._loop.turn()
        children.end_all()
        self._loop.close_all()
        return self.status

    def _announce(self) -> None:
        for listener in self._listeners:
            self._say(f"listening on {listener.address}")
            if os.getuid() == 0 and not listener.is_local:
                self._say(
                    "warning: root serves an address that is not loopback; every "
                    "client is given a process of root: run as another user"
                )
        _notify("READY=1")

    def _say(self, text: str) -> None:
        os.write(2, f"{text}\n".encode())

    # Workers

    def _replace(self, number: int) -> None:
        """Fork a worker for one that has died, at the latest when there is room."""
        try:
            self._fork(number)
        except OSError as error:
            self._records.note(3, f"cannot start worker {number}: {error}")
            self._replace_soon(number)

    def _replace_soon(self, number: int) -> None:
        self._waiting.append(number)
        self._loop.arm(self, self._loop.now + SOON)

    def _fork(self, number: int) -> None:
        # A signal to a worker that still has our handlers would wake us, not it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, worker.SIGNALS)
        try:
            pid = os.fork() or self._become_worker(number)
            self._workers[pid] = (number, self._loop.clock())
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _become_worker(self, number: int) -> NoReturn:
        status = os.EX_SOFTWARE
        try:
            self._loop.abandon()
            os.close(self._lifeline[1])
            worker.run(
                self._config,
                self._listeners,
                self._records,
                self._table,
                number,
                self._room,
                self._lifeline[0],
                self._descriptors,
            )
            status = os.EX_OK
        except BaseException:  # noqa: BLE001 (told, and the process ends)
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)

    def _reap(self) -> None:
        """A child has ended: a worker, or an application that one left behind."""
        while (found := children.next_ended()) is not None:
            pid, status = found
            if pid in self._workers:
                self._bury(pid, status)
        children.end_all(keep=self._workers)

    def _bury(self, pid: int, status: int) -> None:
        number, since = self._workers.pop(pid)
        self._table.forget(number)
        if self._stopping and status == 0:
            return
        text = children.describe(status)
        self._records.note(3, f"worker {number} (pid {pid}) ended: {text}")
        if self._stopping:
            return
        if self._loop.clock() - since >= SOON:
            self._early_deaths = 0
            self._replace(number)
            return
        self._early_deaths += 1
        if self._early_deaths >= GIVE_UP * self._count:
            self._records.note(2, "the workers cannot run; giving up")
            self.status = os.EX_SOFTWARE
            self._stop()
            return
        self._replace_soon(number)

    def on_timer(self, now: float) -> None:
        """The pause is over: fork the workers that wait."""
        waiting, self._waiting = self._waiting, []
        for number in waiting:
            self._replace(number)

    def on_event(self, fd: int, events: int) -> None:
        """We watch no descriptor."""

    def on_fault(self, error: Exception) -> None:
        """A bug of ours in the supervisor."""
        raise error

    # The end

    def _stop(self) -> None:
        """SIGTERM: workers drain; a second one makes them end at once."""
        number = worker.ABORT if self._stopping else signal.SIGTERM
        if not self._stopping:
            self._stopping = True
            self._waiting = []
            for listener in self._listeners:
                listener.remove()  # else clients would wait in its queue for nobody
            _notify("STOPPING=1")
        for pid in self._workers:
            os.kill(pid, number)


def _notify(state: str) -> None:
    """Tell systemd, if it waits for that (sd_notify(3))."""
    if "NOTIFY_SOCKET" in os.environ:
        import sdnotify

        sdnotify.SystemdNotifier().notify(state)


def _open(config: Config) -> list[Listener]:
    """The listeners: what was asked for, else systemd's, else the default."""
    inherited = listen.inherited(os.environ)
    if inherited and config.listen:
        raise listen.ListenError(
            "sockets came from systemd and --listen was given too: use one of them"
        )
    if inherited:
        return inherited
    addresses = config.listen or (options.DEFAULT_LISTEN,)
    return listen.open_all(addresses, config.socket_mode)


def main() -> None:
    """Run the program; exit statuses are sysexits."""
    try:
        config = options.server(sys.argv[1:])
        fds.fill_standard()
        listeners = _open(config)
    except options.UsageError as error:
        sys.exit(_complain(str(error), error.status))
    except listen.ListenError as error:
        sys.exit(_complain(f"chimirror-server: {error}", os.EX_UNAVAILABLE))
    try:
        fds.seal()
        if config.directory is not None:
            os.chdir(config.directory)
        descriptors = capacity.raise_descriptor_limit()
        sys.exit(Supervisor(config, listeners, Records(), descriptors).run())
    except OSError as error:
        text, status = service.explain(error)
        sys.exit(_complain(f"chimirror-server: {text}", status))
    finally:
        for listener in listeners:
            listener.remove()


def _complain(text: str, status: int) -> int:
    os.write(2, f"{text}\n".encode(errors="backslashreplace"))
    return status


if __name__ == "__main__":
    main()
