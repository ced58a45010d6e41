"""Spares of one worker: starts processes early, and gives them to sessions.

Has the methods of a spawner. A session gets a spare of its application if one waits,
and otherwise a process that is started now. Each process serves one session at most.
Spares are started one at a time, not in a turn with an accept, and not before recent
sessions have had their first output. Knows sessions by their ids and counters only.
"""

from __future__ import annotations

from chimirror.io.loop import NEVER, FatalErrorHandler
from chimirror.process.children import describe
from chimirror.process.reaper import SESSION_VARIABLE
from chimirror.process.spawner import SpawnRequest
from chimirror.server.first_outputs import FirstOutputs
from chimirror.server.retired_spares import RetiredSpares
from chimirror.server.spare import Spare
from chimirror.server.spare_pool import MAX_FAILURES, SparePool
from chimirror.session import new_session_id
from chimirror.text import escape_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Protocol

    from chimirror.apps import Application, Catalog
    from chimirror.config import Config
    from chimirror.io.loop import EventLoop
    from chimirror.log.records import EventLog
    from chimirror.server.retired_spares import RetiredSpare, TransferringSpawner
    from chimirror.server.spare_table import SpareTable
    from chimirror.session import SessionEntry

    class SpareHost(Protocol):
        """The worker."""

        accepted_at: float
        catalog: Catalog
        config: Config
        sessions: dict[str, SessionEntry]

        @property
        def event_log(self) -> EventLog: ...

        @property
        def rejects_sessions(self) -> bool: ...

        def has_spare_room(self) -> bool:
            """Return True if one more spare is within the limits of this worker."""

        def has_free_memory(self) -> bool:
            """Return True if there is memory for one more spare."""

        def on_spare_ended(self) -> None:
            """Called when a retired spare has ended, or a start has failed."""

        def log_internal_error(
            self, error: Exception, session: str = "", *, part: str = ""
        ) -> None: ...


CHECK_INTERVAL = 1.0  # seconds between two looks at files and limits


class Spares(FatalErrorHandler):
    """Spawner of a worker that keeps spares.

    Args:
        host: the worker.
        loop: event loop of this worker.
        spawner: starts the processes.
        table: the numbers of spares of all workers.
        number: the number of this worker.
    """

    def __init__(
        self,
        host: SpareHost,
        loop: EventLoop,
        spawner: TransferringSpawner,
        table: SpareTable,
        number: int,
    ) -> None:
        self._host = host
        self._loop = loop
        self._spawner = spawner
        self._table = table
        self._number = number
        self._pools: dict[str, SparePool] = {}  # by the name of the application
        self._unread: Iterator[Application] = iter(())  # at the start of the worker
        self._is_reading = False
        self._starting: SparePool | None = None
        self._reserved: dict[str, Spare] = {}  # by session, until its start
        self._retired = RetiredSpares(self, loop, spawner)
        self._first_outputs = FirstOutputs(host, loop)
        self._is_draining = False
        self._next_check = 0.0
        self.signal = spawner.signal
        self.end_session = spawner.end_session
        self.armed = 0
        self.deadline = NEVER

    def begin(self) -> None:
        """Called when the worker begins to serve. Starts spares from now on."""
        config = self._host.config
        if config.apps is None and not config.spares:
            return
        self._unread, self._is_reading = iter(self._host.catalog.all()), True
        self._loop.set_timer(self, self._loop.now)

    # Sessions

    def reserve(self, session: SessionEntry) -> None:
        """Called with an admitted session. Gives it the id of a spare, if one waits.

        Its start then gets that spare.
        """
        app, now = session.application, self._loop.now
        pool = self._pools.get(app.name)
        if pool is None or pool.app is not app:
            if pool is None and not app.config.spares:
                return
            pool = self._renew(app.name, app)
            if pool is None:
                return
        spare = self._take(pool)
        if spare is not None:
            pool.on_taken()
            self._reserved[spare.session] = spare
            session.session_id = session.process.session = spare.session
            self._count()
        self._first_outputs.add(session)
        self._loop.set_timer(self, now)

    def _take(self, pool: SparePool) -> Spare | None:
        """Take the oldest spare that runs and is neither too old nor of other files."""
        if not pool.ready or self._host.rejects_sessions:
            return None
        if pool.have_files_changed():
            self._replace(pool)
            return None
        while pool.ready:
            is_expired = pool.expires_at() <= self._loop.now
            spare = pool.ready.popleft()
            if not is_expired and not spare.has_ended():
                return spare
            self._retire(spare)
        return None

    def start(self, request: SpawnRequest) -> None:
        """Start a program, or take the spare that is reserved for this session."""
        client, size = request.client, request.size
        spare = self._reserved.pop(client.session, None)
        if spare is None:
            self._spawner.start(request)
            return
        self._spawner.transfer(spare.pid, client)
        if size is not None and request.program.pty:
            from chimirror.process import pty

            pty.resize(spare.pipes[1], size[0], size[1])
        client.on_started(spare.pid, spare.pipes)

    def on_session_ended(self, session_id: str) -> None:
        """Called at the end of a session. Retires a spare that it has not started."""
        spare = self._reserved.pop(session_id, None)
        if spare is not None:
            self._retire(spare)

    # Pools

    def _renew(self, name: str, app: Application) -> SparePool | None:
        """Return the pool of an application whose options may have changed.

        Args:
            name: of the application.
            app: the application, or the one that refuses the requests for this name.
        """
        pool = self._pools.get(name)
        is_wanted = app.unavailable is None and app.config.spares > 0
        if pool is not None:
            if is_wanted and pool.matches(app):
                pool.app = app
                return pool
            del self._pools[name]
            self._retire_all(pool)
        if not is_wanted or self._is_draining:
            return None
        pool = self._pools[name] = SparePool(app, self._table)
        return pool

    def _replace(self, pool: SparePool) -> SparePool:
        """Begin a new pool, because the files of the program have changed.

        A spare that is starting has the former files, and will not be in the new pool.
        """
        self._retire_all(pool)
        new = self._pools[pool.app.name] = SparePool(pool.app, self._table)
        return new

    def on_timer(self, now: float) -> None:
        """Called at ticks at which there is something to do."""
        if self._is_reading:
            self._read_next()
        if now >= self._next_check:
            self._next_check = now + CHECK_INTERVAL
            self._check()
        self._expire(now)
        due = self._refill(now)
        if self._is_reading:
            due = now
        if self._pools:
            due = min(due, self._next_check, *self._expiries())
        if due != NEVER:
            self._loop.set_timer(self, due)

    def _read_next(self) -> None:
        """Read one more application, until all are known."""
        try:
            app = next(self._unread, None)
        except OSError:  # the directory of application files is missing
            app = None
        if app is None:
            self._is_reading = False
        elif app.unavailable is None:
            self._renew(app.name, app)

    def _check(self) -> None:
        """Retire the spares that may serve no more."""
        if self._is_draining or self._host.rejects_sessions:
            self.retire_all()
            return
        for name, pool in list(self._pools.items()):
            app = self._host.catalog.get(name)
            if app is not pool.app and self._renew(name, app) is not pool:
                continue
            current = self._replace(pool) if pool.have_files_changed() else pool
            if not current.is_off and self._table.is_off(current.key):
                current.is_off = True
                self._retire_all(current)
        if self.count and not self._host.has_free_memory():
            self.evict()

    def _expiries(self) -> Iterable[float]:
        return [pool.expires_at() for pool in self._pools.values()]

    def _expire(self, now: float) -> None:
        """Retire spares by age, one at a time so that others are left."""
        for pool in self._pools.values():
            if pool.expires_at() <= now:
                self._retire(pool.ready.popleft())

    def _refill(self, now: float) -> float:
        """Start one spare if that is possible now. Returns the time of the next try."""
        is_awaited = self._first_outputs.are_awaited()
        lacking = [pool for pool in self._pools.values() if pool.lacks_spares]
        if not lacking or self._starting is not None:
            return NEVER  # on_spare_started sets the timer
        if self._is_draining or self._host.rejects_sessions:
            return NEVER
        due = min(pool.next_start for pool in lacking)
        if due > now:
            return due
        if is_awaited or self._host.accepted_at == now:
            return now
        if not self._host.has_spare_room():
            return NEVER  # until the next check
        ready = [pool for pool in lacking if pool.next_start <= now]
        self._start(min(ready, key=lambda pool: len(pool.ready) / pool.size))
        return now

    def _start(self, pool: SparePool) -> None:
        app = pool.app
        spare = Spare(self, app, new_session_id(), self._loop.now)
        self._starting = pool
        self._count()
        environment = {**app.environment, SESSION_VARIABLE: spare.session}
        self._spawner.start(
            SpawnRequest(spare, app.program, environment, keep_stderr=pool.keeps_stderr)
        )

    # Callbacks of spares

    def on_spare_started(self, spare: Spare) -> None:
        """Called when a spare runs."""
        pool, self._starting = self._starting, None
        is_current = self._pools.get(spare.app.name) is pool
        if pool is None or not is_current or not pool.lacks_spares:
            self._retire(spare)  # it has become unwanted meanwhile
            return
        pool.ready.append(spare)
        self._loop.set_timer(self, self._loop.now)

    def on_spare_failed(self, spare: Spare, reason: str, shortage: bool) -> None:
        """Called when a spare could not be started."""
        pool, self._starting = self._starting, None
        self._count()
        self._spawner.end_session(0, spare.session, survivors=False)
        if pool is not None and shortage:
            pool.on_shortage(self._loop.now)
        elif pool is not None:
            self._on_failure(pool, reason)
        self._loop.set_timer(self, self._loop.now)
        self._host.on_spare_ended()

    def on_spare_exit(self, spare: Spare, status: int, survivors: bool) -> None:
        """Called when a spare has ended before its client came."""
        pool = self._pools[spare.app.name]
        pool.ready.remove(spare)
        evidence = ", ".join(filter(None, (describe(status), spare.last_words())))
        spare.close(self._loop)
        self._spawner.end_session(spare.pid, spare.session, survivors)
        self._count()
        self._on_failure(pool, evidence)
        self._loop.set_timer(self, self._loop.now)

    def _on_failure(self, pool: SparePool, evidence: str) -> None:
        if pool.is_off or not pool.on_failure(self._loop.now):
            return
        pool.is_off = True
        self._retire_all(pool)
        if self._table.switch_off(pool.key):
            name = pool.app.name or pool.app.command
            self._host.event_log.message(
                4,
                f"no more spares of {escape_line(name)}: {MAX_FAILURES} in a row ended "
                f"before a client came ({escape_line(evidence)}); write --spares 0, or "
                "let it wait for its input",
            )

    def on_retired(self, retired: RetiredSpare) -> None:
        """Called when a retired spare has ended."""
        self._count()
        self._host.on_spare_ended()

    def on_spare_error(self, error: Exception) -> None:
        """Called on an internal error. Writes it to the log."""
        self._host.log_internal_error(error, part="a spare")

    # Retirement

    def _retire(self, spare: Spare) -> RetiredSpare:
        """Begin the stop sequence of a spare that gets no client."""
        retired = self._retired.add(spare)
        self._count()
        return retired

    def _retire_all(self, pool: SparePool) -> None:
        while pool.ready:
            self._retire(pool.ready.popleft())

    def retire_all(self) -> None:
        """Retire the spares of all applications."""
        for pool in self._pools.values():
            self._retire_all(pool)

    def evict(self) -> None:
        """Kill one spare, of the application that has the most: a limit is reached.

        If none waits, those that end already are killed.
        """
        pool = max(self._pools.values(), key=lambda pool: len(pool.ready), default=None)
        if pool is not None and pool.ready:
            self._retire(pool.ready.pop()).process.kill()
        else:
            self._retired.kill()

    def check_soon(self) -> None:
        """Called when sessions are rejected, or admitted again."""
        self._next_check = 0.0
        if self._pools:
            self._loop.set_timer(self, self._loop.now)

    def drain(self) -> None:
        """Called when the worker accepts no more clients. Retires all spares."""
        self._is_draining = True
        self._unread, self._is_reading = iter(()), False
        self.retire_all()
        self._pools.clear()

    def kill(self) -> None:
        """Kill the retired spares at once."""
        self._retired.kill()

    # Numbers

    @property
    def is_empty(self) -> bool:
        """Whether no spare is left, not even one that ends."""
        return not self.count

    @property
    def count(self) -> int:
        """Number of spares: those that wait, start or end.

        One that is reserved counts as its session, which is admitted already.
        """
        waiting = sum([len(pool.ready) for pool in self._pools.values()])
        return waiting + len(self._retired) + (self._starting is not None)

    def _count(self) -> None:
        """Tell the other workers how many spares this one has."""
        self._table.set_count(self._number, self.count)

    @property
    def ending_configs(self) -> list[Config]:
        """The options of the spares that end."""
        return self._retired.configs

    def summarize(self) -> list[dict[str, str | int]]:
        """Return the fields of the spares that wait, as `session.summary` does."""
        now = self._loop.now
        pools = self._pools.values()
        return [spare.summarize(now) for pool in pools for spare in pool.ready]
