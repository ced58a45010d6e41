"""chimirror-server: many sessions in one service, without systemd or with it.

This is the supervisor: it opens the listeners, forks the zygote and the workers,
replaces those that die, passes the signals on and cleans up. It serves no session
itself; what becomes of applications when a zygote dies is foster's matter.
"""

from __future__ import annotations

import os
import signal
import sys

from chimirror import nursery, options, provision, service, worker
from chimirror.entrance import Seats
from chimirror.foster import Foster
from chimirror.herald import Herald
from chimirror.system import capacity, children, fds, forked, listen, runtime
from chimirror.system.admission import Table
from chimirror.system.loop import NEVER, Loop
from chimirror.system.orphans import Orphans
from chimirror.system.records import Records

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import NoReturn

    from chimirror.options import Config
    from chimirror.system.listen import Listener

SOON = 1.0  # seconds: a worker that dies sooner is replaced after a pause
GIVE_UP = 5  # workers that die soon, in a row, before any has lasted


class Hand:
    """One worker process, as its supervisor sees it."""

    __slots__ = ("_supervisor", "number", "pid", "since")

    def __init__(
        self, supervisor: Supervisor, number: int, pid: int, since: float
    ) -> None:
        self._supervisor = supervisor
        self.number = number
        self.pid = pid
        self.since = since

    def on_exit(self, status: int, survivors: bool) -> None:
        """It has ended."""
        self._supervisor.bury(self, status)

    def on_fault(self, error: Exception) -> None:
        """A bug of ours."""
        raise error


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
        self._by_name = None
        if config.apps is not None:
            self._by_name = Table(self._most, self._most, None, self._count)
        self._loop = Loop()
        self._herald = Herald(
            self._loop, os.environ, os.getpid(), self._count + 1, self._table.total
        )
        self._orphans = Orphans(self._loop)
        self._foster = Foster(
            self._loop, self._orphans, self, self._become_zygote, config.kill_grace
        )
        self._workers: set[Hand] = set()
        self._waiting: list[int] = []  # numbers to be forked after a pause
        self._early_deaths = 0
        self._stopping = False
        self._for_good = False  # with our listeners
        self._office: str | None = None  # where workers can be asked
        self.armed = 0
        self.deadline = NEVER
        self.status = os.EX_OK

    def run(self) -> int:
        """Serve until told to stop; the exit status."""
        for ending in service.endings():
            self._loop.on_signal(ending, self._stop)
        self._loop.on_signal(worker.TURN_AWAY, self._foresee)
        self._office = self._make_office()
        self._foster.start()
        provision.load(self._config)
        while not (self._foster.ready or self._stopping):
            self._loop.turn()
        if not self._stopping:
            for number in range(self._count):
                self._fork(number)
            self._announce()
        while self._workers or self._waiting:
            self._loop.turn()
        self._foster.stop()
        while self._foster.pid:
            self._loop.turn()
        children.end_all()
        self._herald.end()
        self._loop.close_all()
        if self._office is not None:
            runtime.remove(self._office)
        return self.status

    def _make_office(self) -> str | None:
        """The directory of the workers' control sockets, where there can be one."""
        try:
            return runtime.make(os.environ, os.geteuid(), os.getpid())
        except OSError as error:
            reason = f"{error.filename}: {error.strerror}"
            self._say(f"warning: chimirror-ctl cannot ask this server: {reason}")
            return None

    def _announce(self) -> None:
        for listener in self._listeners:
            self._say(f"listening on {listener.address}")
            if os.getuid() == 0 and not listener.is_local:
                self._say(
                    "warning: root serves an address that is not loopback; every "
                    "client is given a process of root: run as another user"
                )
        self._herald.ready()

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
        theirs, line = self._foster.hire()
        # A signal to a worker that still has our handlers would wake us, not it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, worker.SIGNALS)
        try:
            pid = os.fork() or self._become_worker(number, theirs)
        except OSError:
            line.link.close()
            self._foster.on_desk_closed(line)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        hand = Hand(self, number, pid, self._loop.clock())
        self._workers.add(hand)
        self._orphans.keep(pid, hand)
        self._foster.on_hired(line)

    def _become_worker(self, number: int, line: socket.socket) -> NoReturn:
        def run() -> int:
            self._loop.abandon()
            self._foster.abandon()
            worker.run(
                self._config,
                self._listeners,
                self._records,
                Seats(self._table, self._by_name, number),
                number,
                self._room,
                line,
                self._office,
                self._herald.pulse,
            )
            return os.EX_OK

        forked.live(run)

    def bury(self, hand: Hand, status: int) -> None:
        """A worker has ended."""
        self._workers.discard(hand)
        for table in (self._table, self._by_name):
            if table is not None:
                table.forget(hand.number)
        self._herald.forget(hand.number)
        if self._stopping and status == 0:
            return
        text = children.describe(status)
        who = f"worker {hand.number} (pid {hand.pid})"
        self._records.note(3, f"{who} ended: {text}", worker=hand.pid, exit=text)
        if self._stopping:
            return
        if self._loop.clock() - hand.since >= SOON:
            self._early_deaths = 0
            self._replace(hand.number)
            return
        self._early_deaths += 1
        if self._early_deaths >= GIVE_UP * self._count:
            self._records.note(2, "the workers cannot run; giving up")
            self.status = os.EX_SOFTWARE
            self._stop()
            return
        self._replace_soon(hand.number)

    # The zygote

    def _become_zygote(self, control: socket.socket) -> NoReturn:
        def run() -> int:
            self._loop.abandon()
            room, workers = self._descriptors, self._count
            return nursery.run(self._config, control, room, workers, self._herald.pulse)

        forked.live(run)

    def on_zygote_ended(self, pid: int, status: int) -> None:
        """Another takes its place; sessions go on."""
        self._herald.forget(self._count)
        if self._foster.ready:
            text = children.describe(status)
            self._records.note(3, f"the zygote (pid {pid}) ended: {text}")

    def on_zygote_missing(self, error: OSError) -> None:
        """It is tried again in a moment."""
        self._records.note(3, f"cannot start a zygote: {error}")

    def on_zygote_hopeless(self, status: int) -> None:
        """There is nobody who could start an application."""
        if self._foster.ready:
            self._records.note(2, "the zygote cannot run; giving up")
        self.status = status or os.EX_SOFTWARE
        self._stop()

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

    def _foresee(self) -> None:
        """SIGUSR2: when we stop, the listeners of systemd will be closed, too."""
        self._for_good = True

    def _stop(self) -> None:
        """SIGTERM: workers drain; a second one makes them end at once."""
        again, self._stopping = self._stopping, True
        number = worker.TURN_AWAY if self._for_good else signal.SIGTERM
        if not again:
            self._waiting = []
            for listener in self._listeners:
                listener.remove()  # else clients would wait in its queue for nobody
        for hand in self._workers:
            os.kill(hand.pid, worker.ABORT if again else number)
        if not again:  # whoever reads that we drain finds that workers were told
            self._herald.stopping()


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
        sys.exit(service.complain(str(error), error.status))
    except listen.ListenError as error:
        sys.exit(service.complain(f"chimirror-server: {error}", os.EX_UNAVAILABLE))
    try:
        fds.seal()
        service.go(config)
        descriptors = capacity.raise_descriptor_limit()
        sys.exit(Supervisor(config, listeners, Records(), descriptors).run())
    except OSError as error:
        text, status = service.explain(error)
        sys.exit(service.complain(f"chimirror-server: {text}", status))
    finally:
        for listener in listeners:
            listener.remove()


if __name__ == "__main__":
    main()
