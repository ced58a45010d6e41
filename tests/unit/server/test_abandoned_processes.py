"""Applications of a dead worker: stopped in order, and their sessions ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from chimirror.io.loop import EventLoop
from chimirror.process import children
from chimirror.process.process_table import ProcessTable
from chimirror.server.abandoned_processes import AbandonedProcesses
from chimirror.server.orphans import OrphanWatcher
from loops import event_loop, subreaper, turn_until

IDS = [f"{number:032x}" for number in range(1, 4)]


class Sweeper:
    """Keeps the sessions that have ended."""

    def __init__(self) -> None:
        self.ended: dict[str, tuple[int, bool]] = {}

    def end_session(self, pid: int, session: str, survivors: bool) -> None:
        self.ended[session] = (pid, survivors)

    def on_stray_exit(self) -> None:
        """Called when an unknown child has ended."""


class Scene:
    """The supervisor's part, and one worker that has just died."""

    def __init__(self, loop: EventLoop) -> None:
        self.loop = loop
        self.sweeper = Sweeper()
        self.orphans = OrphanWatcher(loop)
        self.orphans._sweeper = self.sweeper
        self.table = ProcessTable(workers=1, capacity=8)
        self.part = self.table.part(0)
        grace = 0.1
        self.abandoned = AbandonedProcesses(loop, self.orphans, self.table, grace)

    def add(self, session: str, script: str) -> int:
        """Start an application, once it has set its traps."""
        reader, writer = os.pipe()
        actions = [(os.POSIX_SPAWN_DUP2, writer, 1)]
        argv = ["sh", "-c", f"{script}; echo; exec 1>&-; sleep 1000 & wait; wait"]
        pid = os.posix_spawnp("sh", argv, os.environ, file_actions=actions, setpgroup=0)
        os.close(writer)
        assert os.read(reader, 1)
        os.close(reader)
        self.enter(session, pid)
        return pid

    def enter(self, session: str, pid: int) -> None:
        offset = self.part.begin(session, 1.0)
        self.part.memory[offset : offset + 4] = pid.to_bytes(4, "little")


@pytest.fixture
def scene() -> Iterator[Scene]:
    with subreaper(), event_loop() as loop:
        made = Scene(loop)
        yield made
        turn_until(loop, lambda: not children.list_children())
        made.table.close()


def test_they_get_term_and_then_kill(scene: Scene) -> None:
    obedient = scene.add(IDS[0], "trap 'kill -9 $!; exit 0' TERM")
    obstinate = scene.add(IDS[1], "trap '' TERM")
    scene.abandoned.take_over(0)
    assert scene.table.entries(0) == []
    turn_until(scene.loop, lambda: len(scene.sweeper.ended) == 2)
    assert list(scene.sweeper.ended) == [IDS[0], IDS[1]]
    assert scene.sweeper.ended[IDS[0]][0] == obedient
    assert scene.sweeper.ended[IDS[1]][0] == obstinate
    assert scene.orphans.client(obedient) is scene.orphans.client(obstinate) is None


def test_what_is_no_child_is_not_signalled(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    signalled: list[int] = []
    for name in ("kill", "kill_group"):
        monkeypatch.setattr(children, name, lambda pid, _: signalled.append(pid))
    for session, pid in zip(IDS, (0, 1, os.getpid()), strict=True):
        scene.enter(session, pid)
    scene.abandoned.take_over(0)
    assert sorted(scene.sweeper.ended) == IDS
    assert signalled == []


def test_a_suspect_is_no_orphan_any_more(scene: Scene) -> None:
    pid = scene.add(IDS[0], "trap '' TERM")
    scene.orphans.adopt_children()
    scene.abandoned.take_over(0)
    assert pid not in scene.orphans._suspects
    assert not scene.orphans.is_unknown_child(pid)
    scene.orphans.signal(pid, signal.SIGKILL)
    turn_until(scene.loop, lambda: scene.sweeper.ended)
