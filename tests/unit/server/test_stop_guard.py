"""The last resort of a stop: which workers are killed, and when. Time is injected."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chimirror.io.loop import TICKS, EventLoop
from chimirror.process import children
from chimirror.server.stop_guard import KILL_MARGIN, StopDeadlines, StopGuard
from chimirror.server.worker_process import WorkerProcess
from session_harness import FakeClock

SLACK = 2 / TICKS


class Scene:
    """A guard with workers 0 and 1, whose pids are 100 and 101."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = FakeClock()
        self.loop = EventLoop(self.clock, self.clock)
        self.killed: list[tuple[int, str]] = []
        self.signalled: list[int] = []
        self.workers = {
            WorkerProcess(number, 100 + number, 0.0, lambda process, status: None)
            for number in range(2)
        }
        self.deadlines = StopDeadlines(2)
        self.guard = StopGuard(self.loop, self.workers, self.deadlines, self.on_killed)
        monkeypatch.setattr(children, "kill", self.kill)

    def kill(self, pid: int) -> bool:
        self.signalled.append(pid)
        return True

    def on_killed(self, process: WorkerProcess, reason: str) -> None:
        self.killed.append((process.pid, reason))

    def wait(self, seconds: float) -> None:
        self.clock.limit = self.clock.now + seconds
        while self.clock.now < self.clock.limit:
            self.loop.run_once()


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    made = Scene(monkeypatch)
    yield made
    made.loop.close_all()


def test_workers_that_do_not_end_are_killed(scene: Scene) -> None:
    scene.guard.begin(30.0, final=False)
    scene.wait(30.0 + KILL_MARGIN - SLACK)
    assert scene.killed == []
    scene.wait(2 * SLACK)
    assert sorted(scene.signalled) == [100, 101]
    assert dict(scene.killed)[100] == "it has not ended within 35 s"


def test_a_worker_with_longer_timeouts_gets_them(scene: Scene) -> None:
    scene.deadlines.set(1, scene.loop.now + 100.0)
    scene.guard.begin(30.0, final=False)
    scene.wait(30.0 + KILL_MARGIN + SLACK)
    assert scene.signalled == [100]
    scene.workers -= {process for process in scene.workers if process.number == 0}
    scene.wait(100.0 - 30.0)
    assert scene.signalled == [100, 101]


def test_a_second_signal_leaves_no_more_time(scene: Scene) -> None:
    scene.deadlines.set(1, scene.loop.now + 100.0)
    scene.guard.begin(30.0, final=False)
    scene.guard.begin(1.0, final=True)
    scene.wait(1.0 + KILL_MARGIN + SLACK)
    assert sorted(scene.signalled) == [100, 101]


def test_a_worker_that_has_ended_is_not_killed(scene: Scene) -> None:
    scene.guard.begin(1.0, final=True)
    scene.workers.clear()
    scene.wait(10.0)
    assert scene.signalled == []
