"""Which process starts, signals and sweeps: the worker or the zygote."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from chimirror.process import children, fast_spawner
from chimirror.process.process_table import ProcessTable
from chimirror.process.reaper import StraySweeper
from chimirror.process.spawner import Program, SpawnRequest
from chimirror.server.worker_spawner import WorkerSpawner
from loops import event_loop, subreaper, turn_until
from spawner_fixture import PATH, Client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.io.loop import EventLoop

SESSION = f"{1:032x}"


class FakeZygoteClient:
    """Keeps what it is asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.over: list[dict[str, int]] = []
        self.full = False
        self.on_supervisor_lost: Callable[[], None] = lambda: None

    def start(self, request: SpawnRequest) -> None:
        self.calls.append(("start", request.program.user_ids))

    def signal(self, pid: int, number: int) -> bool:
        self.calls.append(("signal", pid))
        return False

    def end_session(self, pid: int, session: str, survivors: bool) -> None:
        self.calls.append(("end", session))

    def report_over(self, sessions: dict[str, int]) -> bool:
        if not self.full:
            self.over.append(dict(sessions))
        return not self.full


class Scene:
    """A worker with its spawner."""

    def __init__(self, loop: EventLoop, table: ProcessTable) -> None:
        self.loop, self.table = loop, table
        self.zygote = FakeZygoteClient()
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        client = cast("Any", self.zygote)
        self.spawner = WorkerSpawner(loop, client, table.part(0), limits)
        self.clients: list[Client] = []

    def start(self, *argv: str, user: tuple[int, ...] = ()) -> Client:
        client = Client(self.loop, cast("Any", self.spawner), SESSION)
        self.clients.append(client)
        environment = {**PATH, "CHIMIRROR_SESSION": SESSION}
        program = Program(argv, user_ids=user)
        self.spawner.start(SpawnRequest(client, program, environment, keep_stderr=True))
        return client


@pytest.fixture
def scene() -> Iterator[Scene]:
    table = ProcessTable(workers=1, capacity=4)
    with subreaper(), event_loop() as loop:
        assert fast_spawner.find_obstacle() == ""
        made = Scene(loop, table)
        yield made
        for client in made.clients:
            client.close()
        loop.close(made.spawner._sigchld.fd)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGCHLD,))
        fast_spawner.release()
    table.close()


def test_the_worker_starts_signals_and_reports(scene: Scene) -> None:
    client = scene.start("sleep", "1000")
    assert scene.table.entries(0) == [(SESSION, client.pid)]
    assert scene.spawner.signal(client.pid, 9)
    turn_until(scene.loop, lambda: scene.zygote.over)
    assert client.status == -9
    assert scene.zygote.over == [{SESSION: 0}]
    assert scene.zygote.calls == []
    assert scene.table.entries(0) == []


def test_the_zygote_starts_programs_of_users(scene: Scene) -> None:
    scene.start("sleep", "1000", user=(65534, 65534))
    assert not scene.spawner.signal(4711, 9)
    scene.spawner.end_session(4711, SESSION, survivors=False)
    assert scene.zygote.calls == [
        ("start", (65534, 65534)),
        ("signal", 4711),
        ("end", SESSION),
    ]


def test_a_failed_start_has_no_entry(scene: Scene) -> None:
    assert scene.start("no-such-program").failed
    assert scene.table.entries(0) == []


def test_reports_wait_for_a_full_link(scene: Scene) -> None:
    """Until then the supervisor finds the session in the table."""
    scene.zygote.full = True
    client = scene.start("true")
    turn_until(scene.loop, lambda: client.status is not None)
    sweeper = scene.spawner._sweeper
    sweeper.on_timer(scene.loop.now)
    assert scene.table.entries(0) == [(SESSION, client.pid)]
    scene.zygote.full = False
    turn_until(scene.loop, lambda: scene.zygote.over)
    assert scene.table.entries(0) == []


def test_without_a_supervisor_it_sweeps_here(scene: Scene) -> None:
    lost: list[bool] = []
    scene.spawner.on_supervisor_lost = lambda: lost.append(True)
    scene.zygote.full = True
    client = scene.start("true")
    turn_until(scene.loop, lambda: client.status is not None)
    scene.spawner.close()  # leaves all to the supervisor
    scene.zygote.on_supervisor_lost()
    assert lost == [True]
    sweeper = scene.spawner._fast._sweeper
    assert isinstance(sweeper, StraySweeper)
    assert SESSION.encode() in sweeper._ended
    scene.start("sleep", "1000")
    scene.spawner.close()
    assert children.list_children() == []
