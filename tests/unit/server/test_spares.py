"""Spares of one worker: when they are started, taken and ended.

Processes are real, and time is not: it passes while no descriptor is ready. Spares of
whole servers are tested in tests/programs/test_spares.py.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest

from chimirror.apps import Application, SingleApplication
from chimirror.config import parser
from chimirror.io.loop import EventLoop
from chimirror.process import children
from chimirror.process.application_process import ApplicationProcess
from chimirror.process.spawner import Spawner
from chimirror.server.first_outputs import FIRST_OUTPUT_TIMEOUT
from chimirror.server.spare_table import SpareTable
from chimirror.server.spares import CHECK_INTERVAL, Spares
from loops import FakeTimeWithPoller, event_loop, subreaper, turn_until
from session_harness import RecordingEventLog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.process.spawner import SpawnClient, SpawnRequest

TICK = 1 / 32
CAT = ("cat",)


class RealEnds(FakeTimeWithPoller):
    """Clock that stands still while a process is about to end."""

    PATIENCE = 20.0  # seconds, in real time

    def __init__(self) -> None:
        super().__init__()
        self.is_ending: Callable[[], object] = lambda: False

    def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
        wait = self.PATIENCE if timeout and self.is_ending() else 0
        return self.poller.poll(wait, maxevents) or super().poll(timeout, maxevents)


class CountingSpawner(Spawner):
    """A spawner of this process, which counts its starts and can delay them."""

    starts = 0
    is_slow = False

    def __init__(self, loop: EventLoop) -> None:
        super().__init__(loop)
        self.delayed: list[tuple[SpawnClient, Callable[[], None]]] = []

    def start(self, request: SpawnRequest) -> None:
        self.starts += 1
        start = partial(super().start, request)
        if self.is_slow:
            self.delayed.append((request.client, start))
        else:
            start()

    def transfer(self, pid: int, client: SpawnClient) -> None:
        self.add_child(pid, client)


class FakeFraming:
    """A framing whose first message is none of the application."""

    sends_secret = True


class FakeSession:
    """A session up to the start of its process, and its counter of messages."""

    framing = FakeFraming()

    def __init__(self, worker: FakeWorker) -> None:
        self.application = worker.catalog.default
        self.session_id = os.urandom(16).hex()
        self.messages_out = 1
        loop, config = worker.loop, self.application.config
        spawner = cast("Any", worker.spares)
        self.process = ApplicationProcess(
            cast("Any", self), loop, spawner, config, self.session_id
        )
        worker.spares.reserve(cast("Any", self))
        worker.sessions[self.session_id] = self

    def start(self) -> int:
        """Start the process. Returns its pid."""
        app = self.application
        environment = {**app.environment, "CHIMIRROR_SESSION": self.session_id}
        self.process.start(app.program, environment, keep_stderr=True)
        return self.process.pid

    def on_application_started(self) -> None:
        """Called when the process runs."""

    def on_application_end(self, status: int) -> None:
        """Called when the process has ended."""

    def on_output(self, stream: str, chunk: bytes) -> None:
        self.messages_out += 1

    on_late_output = on_output

    def on_stdin_buffer_low(self) -> None:
        """Called when the stdin buffer is low."""


class FakeWorker:
    """A worker without connections."""

    rejects_sessions = False

    def __init__(self, loop: EventLoop, table: SpareTable, *arguments: str) -> None:
        self.loop = loop
        self.config = parser.parse_server([*arguments])
        self.catalog = SingleApplication(self.config, {"PATH": os.environ["PATH"]})
        self.records = RecordingEventLog()
        self.event_log = cast("Any", self.records)
        self.sessions: dict[str, Any] = {}
        self.accepted_at = 0.0
        self.room = 100
        self.has_memory = True
        self.ended = 0
        self.errors: list[Exception] = []
        self.spawner = CountingSpawner(loop)
        self.spares = Spares(cast("Any", self), loop, self.spawner, table, 0)
        self.spares.begin()

    def has_spare_room(self) -> bool:
        return self.spares.count < self.room and self.has_memory

    def has_free_memory(self) -> bool:
        return self.has_memory

    def on_spare_ended(self) -> None:
        self.ended += 1

    def log_internal_error(self, error: Exception, *rest: str, part: str = "") -> None:
        self.errors.append(error)

    def waiting(self) -> list[int]:
        return [int(row["application_pid"]) for row in self.spares.summarize()]

    def await_spares(self, count: int) -> list[int]:
        turn_until(self.loop, lambda: len(self.waiting()) == count)
        return self.waiting()

    def pass_time(self, seconds: float) -> None:
        end = self.loop.clock() + seconds
        turn_until(self.loop, lambda: self.loop.clock() >= end)

    def warnings(self) -> list[str]:
        return [record["text"] for record in self.records.of("note")]

    def close(self) -> None:
        """End all processes, and close their pipes."""
        self.spares.drain()
        self.spares.kill()
        for session in self.sessions.values():
            session.process.kill()


@pytest.fixture
def table() -> Iterator[SpareTable]:
    made = SpareTable(2, 1000)
    yield made
    made.close()


class Workers:
    """Makes workers in one loop and ends them."""

    def __init__(self, loop: EventLoop, time: RealEnds, table: SpareTable) -> None:
        self.loop, self.table = loop, table
        self.made: list[FakeWorker] = []
        self.killed: list[int] = []
        self.ends_by_itself = False  # so does each process
        time.is_ending = self.is_ending

    def is_ending(self) -> bool:
        left = children.list_children()
        return bool(left) and (
            self.ends_by_itself
            or bool({*left} & {*self.killed})
            or any(worker.spares.ending_configs for worker in self.made)
        )

    def kill(self, pid: int) -> None:
        self.killed.append(pid)
        os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """End all processes, and close their pipes."""
        for worker in self.made:
            worker.close()
        self.ends_by_itself = True
        turn_until(self.loop, lambda: not children.list_children())
        turn_until(self.loop, lambda: all(w.spares.is_empty for w in self.made))
        assert [worker.errors for worker in self.made] == [[] for _ in self.made]

    def __call__(self, *options: str, command: tuple[str, ...] = CAT) -> FakeWorker:
        words = [*options, "--stop-grace=0", "--kill-grace=0", "--", *command]
        self.made.append(FakeWorker(self.loop, self.table, *words))
        return self.made[-1]


@pytest.fixture
def workers(table: SpareTable) -> Iterator[Workers]:
    time = RealEnds()
    with subreaper(), event_loop(lambda: time, time) as loop:
        made = Workers(loop, time, table)
        yield made
        made.close()


# Starts


def test_each_worker_has_its_share_rounded_up(workers: Workers) -> None:
    worker = workers("--spares=5")
    assert len(worker.await_spares(3)) == 3
    worker.pass_time(1)
    assert len(worker.waiting()) == 3
    assert workers.table.total() == 3


def test_they_start_one_at_a_time(workers: Workers) -> None:
    worker, seen = workers("--spares=8"), []
    began = worker.loop.clock()
    while len(worker.waiting()) < 4:
        worker.loop.run_once()
        seen.append(worker.spawner.starts)
    assert {later - before for before, later in pairwise(seen)} <= {0, 1}
    assert worker.loop.clock() - began >= 3 * TICK


def test_none_starts_in_the_turn_of_an_accept(workers: Workers) -> None:
    worker = workers("--spares=2")
    for _ in range(10):
        worker.loop.run_once()
        worker.accepted_at = worker.loop.now + TICK  # the next turn
        worker.spares.on_timer(worker.accepted_at)
    before = worker.spawner.starts
    worker.accepted_at = worker.loop.now
    worker.spares.on_timer(worker.loop.now)
    assert worker.spawner.starts == before
    worker.await_spares(1)


def test_none_starts_before_the_first_output(workers: Workers) -> None:
    worker = workers("--spares=2")
    worker.await_spares(1)
    session = FakeSession(worker)
    session.start()
    worker.pass_time(FIRST_OUTPUT_TIMEOUT / 2)
    assert worker.spawner.starts == 1
    session.process.write([b"hello\n"])
    turn_until(worker.loop, lambda: session.messages_out > 1)
    worker.await_spares(1)
    assert worker.spawner.starts == 2


def test_a_silent_session_is_waited_for_in_vain(workers: Workers) -> None:
    worker = workers("--spares=2")
    worker.await_spares(1)
    FakeSession(worker).start()
    began = worker.loop.clock()
    worker.await_spares(1)
    assert worker.loop.clock() - began >= FIRST_OUTPUT_TIMEOUT - TICK


def test_a_session_that_has_ended_is_not_waited_for(workers: Workers) -> None:
    worker = workers("--spares=2")
    worker.await_spares(1)
    session = FakeSession(worker)
    session.start()
    del worker.sessions[session.session_id]
    began = worker.loop.clock()
    worker.await_spares(1)
    assert worker.loop.clock() - began < FIRST_OUTPUT_TIMEOUT / 2
    worker.sessions[session.session_id] = session


def test_limits_hold(workers: Workers) -> None:
    worker = workers("--spares=8")
    worker.room = 1
    worker.pass_time(3)
    assert worker.spawner.starts == 1
    worker.room = 2
    worker.await_spares(2)
    worker.has_memory = False
    worker.await_spares(1)  # the others make room
    worker.await_spares(0)
    worker.has_memory = True
    worker.await_spares(2)


def test_a_shortage_pauses_and_is_no_failure(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = workers("--spares=2")

    def fail(*_: object) -> None:
        raise BlockingIOError(11, "no process is left")

    with monkeypatch.context() as patch:
        patch.setattr("chimirror.process.spawner._spawn", fail)
        worker.pass_time(22)
        assert worker.spawner.starts == 5
    worker.await_spares(1)
    assert worker.warnings() == []


# Sessions


def test_a_taken_spare_is_counted_as_a_session_only(workers: Workers) -> None:
    worker = workers("--spares=2")
    worker.await_spares(1)
    worker.room = 0
    session = FakeSession(worker)
    assert workers.table.total() == worker.spares.count == 0
    session.start()
    assert workers.table.total() == worker.spares.count == 0


def test_a_session_takes_the_oldest(workers: Workers) -> None:
    worker = workers("--spares=4")
    first, second = worker.await_spares(2)
    ids = [row["id"] for row in worker.spares.summarize()]
    one, other = FakeSession(worker), FakeSession(worker)
    assert [one.session_id, other.session_id] == ids
    assert [one.process.session, other.process.session] == ids
    assert [one.start(), other.start()] == [first, second]
    third = FakeSession(worker)
    assert third.session_id not in ids
    assert third.start() not in (first, second)
    assert worker.spawner.starts == 3


def test_the_end_of_the_process_is_that_of_its_session(workers: Workers) -> None:
    worker = workers("--spares=2")
    worker.await_spares(1)
    session = FakeSession(worker)
    workers.kill(session.start())
    turn_until(worker.loop, lambda: session.process.status == -9)


def test_one_that_has_just_ended_is_not_taken(workers: Workers) -> None:
    """Its end has not been reported to the loop yet."""
    worker = workers("--spares=4")
    first, second = worker.await_spares(2)
    handle = os.pidfd_open(first)
    workers.kill(first)
    os.waitid(os.P_PIDFD, handle, os.WEXITED | os.WNOWAIT)
    os.close(handle)
    assert FakeSession(worker).start() == second


def test_one_that_is_not_started_is_retired(workers: Workers) -> None:
    """The session has failed between its admission and the start."""
    worker = workers("--spares=2")
    worker.await_spares(1)
    session = FakeSession(worker)
    worker.spares.on_session_ended(session.session_id)
    turn_until(worker.loop, lambda: worker.ended)
    assert worker.waiting() == []


# Retirement


def test_age(workers: Workers) -> None:
    worker = workers("--spares=2", "--spare-age=1min")
    (first,) = worker.await_spares(1)
    began = worker.loop.clock()
    turn_until(worker.loop, lambda: worker.ended)
    assert 60 <= worker.loop.clock() - began <= 61
    assert worker.await_spares(1) != [first]


def test_an_old_one_is_not_taken(workers: Workers) -> None:
    worker = workers("--spares=2", "--spare-age=1min")
    (first,) = worker.await_spares(1)
    worker.loop.now += 61
    assert FakeSession(worker).start() != first


def test_without_age_they_stay(workers: Workers) -> None:
    worker = workers("--spares=2", "--spare-age=off")
    first = worker.await_spares(1)
    worker.pass_time(3600)
    assert worker.waiting() == first


def test_a_changed_program_is_not_taken(workers: Workers, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("cat\n")
    worker = workers("--spares=2", command=("sh", str(program)))
    (first,) = worker.await_spares(1)
    program.write_text("exec cat\n")
    session = FakeSession(worker)
    assert session.start() != first
    session.process.write([b"hello\n"])
    turn_until(worker.loop, lambda: session.messages_out > 1 and worker.ended)


def test_a_program_that_changes_during_the_start(
    workers: Workers, tmp_path: Path
) -> None:
    """The spare has the former program."""
    program = tmp_path / "program"
    program.write_text("cat\n")
    worker = workers("--spares=2", command=("sh", str(program)))
    worker.spawner.is_slow = True
    turn_until(worker.loop, lambda: worker.spawner.delayed)
    ((_, start),) = worker.spawner.delayed
    program.write_text("exec cat\n")
    worker.pass_time(2 * CHECK_INTERVAL)
    start()
    assert worker.waiting() == []
    worker.spawner.is_slow = False
    turn_until(worker.loop, lambda: worker.ended)
    worker.await_spares(1)


def test_other_options_renew_and_the_same_do_not(workers: Workers) -> None:
    worker = workers("--spares=2")
    first = worker.await_spares(1)
    inherited = {"PATH": os.environ["PATH"]}
    worker.catalog.default = Application("", worker.config, inherited)
    worker.pass_time(2 * CHECK_INTERVAL)
    assert worker.waiting() == first
    worker.catalog.default = Application("", worker.config, {**inherited, "TZ": "UTC"})
    worker.pass_time(2 * CHECK_INTERVAL)  # less than their age
    assert worker.await_spares(1) != first


def test_other_limits_renew(workers: Workers) -> None:
    """A spare is in a cgroup that has the limits already."""
    worker = workers("--spares=2")
    first = worker.await_spares(1)
    words = ["--spares=2", "--session-tasks-max=9", "--stop-grace=0", "--", *CAT]
    inherited = {"PATH": os.environ["PATH"]}
    worker.catalog.default = Application("", parser.parse_server(words), inherited)
    worker.pass_time(2 * CHECK_INTERVAL)
    assert worker.await_spares(1) != first


def test_while_sessions_are_rejected_there_are_none(workers: Workers) -> None:
    worker = workers("--spares=2")
    worker.await_spares(1)
    worker.rejects_sessions = True
    worker.spares.check_soon()
    turn_until(worker.loop, lambda: worker.ended)
    worker.pass_time(3)
    assert worker.spares.is_empty
    worker.rejects_sessions = False
    worker.await_spares(1)


def test_a_drain_is_final(workers: Workers) -> None:
    worker = workers("--spares=2")
    worker.await_spares(1)
    worker.spares.drain()
    assert worker.spares.count == 1
    turn_until(worker.loop, lambda: worker.ended)
    assert worker.spares.is_empty
    assert workers.table.total() == 0
    assert FakeSession(worker).start()


def test_a_drain_ends_with_a_start_that_fails(workers: Workers) -> None:
    worker = workers("--spares=2")
    worker.spawner.is_slow = True
    turn_until(worker.loop, lambda: worker.spawner.delayed)
    worker.spares.drain()
    assert worker.spares.count == 1
    ((client, _),) = worker.spawner.delayed
    client.on_start_failed("no process is left", True)
    assert worker.spares.count == 0
    assert worker.ended, "the worker is told"


def test_an_evicted_one_is_killed(workers: Workers) -> None:
    worker = workers("--spares=2", command=("sh", "-c", "trap '' TERM; sleep 1000"))
    worker.await_spares(1)
    worker.spares.evict()
    turn_until(worker.loop, lambda: worker.ended)


def test_one_that_ends_slowly_makes_room(workers: Workers) -> None:
    worker = workers("--spares=2", command=("sh", "-c", "trap '' TERM; sleep 1000"))
    (pid,) = worker.await_spares(1)
    worker.spares.retire_all()
    worker.spares.evict()
    end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert end is not None
    assert end.si_status == signal.SIGKILL


# Spares that end by themselves


def test_back_off_and_one_warning(workers: Workers) -> None:
    workers.ends_by_itself = True
    worker = workers("--spares=2", command=("sh", "-c", "echo why >&2; exit 3"))
    times: list[float] = []
    while not worker.warnings():
        worker.loop.run_once()
        if len(times) < worker.spawner.starts:
            times.append(worker.loop.now)
    pauses = [later - before for before, later in pairwise(times)]
    assert [round(pause) for pause in pauses] == [1, 5]
    (warning,) = worker.warnings()
    assert "3 in a row ended before a client came (exit 3, why)" in warning
    worker.pass_time(3600)
    assert worker.spawner.starts == 3
    other = workers("--spares=2", command=("sh", "-c", "echo why >&2; exit 3"))
    other.pass_time(60)
    assert other.spawner.starts <= 1
    assert other.warnings() == []


def test_a_program_that_cannot_be_started(workers: Workers) -> None:
    worker = workers("--spares=2", command=("/no/such/program",))
    turn_until(worker.loop, worker.warnings)
    assert "/no/such/program" in worker.warnings()[0]
    assert worker.spawner.starts == 3


def test_a_taken_spare_ends_the_row(workers: Workers) -> None:
    worker = workers("--spares=2")
    for _ in range(3):
        for _ in range(2):
            (pid,) = worker.await_spares(1)
            workers.kill(pid)
            worker.await_spares(0)
        worker.await_spares(1)
        session = FakeSession(worker)
        session.start()
        session.messages_out += 1
    assert worker.warnings() == []


# The table


def test_counts_and_switches_are_shared(table: SpareTable) -> None:
    table.set_count(0, 3)
    table.set_count(1, 4)
    assert table.total() == 7
    assert not table.is_off(5)
    assert table.switch_off(5)
    assert table.is_off(5)
    assert not table.switch_off(5)
