"""The zygote manager: zygotes are real processes that do nothing, workers are not."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from typing import Any, NoReturn, cast

import pytest

from chimirror.io.loop import NEVER, EventLoop
from chimirror.server import zygote_manager
from chimirror.server.zygote_manager import STOP_TIMEOUT, ZygoteManager
from chimirror.spawn.messages import AdoptRequest
from loops import subreaper


class Scene:
    """A manager, and its handler and watcher."""

    def __init__(self) -> None:
        self.loop = EventLoop()
        self.killed: list[tuple[int, str]] = []
        self.adopted = 0
        fakes = cast("Any", self)
        self.manager = ZygoteManager(self.loop, fakes, fakes, self.run_zygote, 1.0)
        self.manager.start()

    def run_zygote(self, control: socket.socket) -> NoReturn:
        while True:
            signal.pause()

    def add_child(self, pid: int, handler: object) -> None:
        """The test reaps it."""

    def adopt_children(self) -> None:
        self.adopted += 1

    def purge(self, sessions: object) -> None: ...

    def on_zygote_killed(self, pid: int, reason: str) -> None:
        self.killed.append((pid, reason))

    def on_zygote_ended(self, pid: int, status: int) -> None: ...


@pytest.fixture
def scene() -> Iterator[Scene]:
    with subreaper():
        made = Scene()
        pid = made.manager.pid
        try:
            yield made
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            made.manager.release_after_fork()
            made.loop.close_all()


def test_a_live_zygote_without_a_link_to_a_worker_is_killed(scene: Scene) -> None:
    manager = scene.manager
    manager.on_claim(cast("Any", None), AdoptRequest({}, {}, 1))
    assert manager.deadline == scene.loop.now + STOP_TIMEOUT
    manager.on_timer(manager.deadline)
    reason = f"it has not ended within {STOP_TIMEOUT:.0f} s"
    assert scene.killed == [(manager.pid, reason)]


def test_a_zygote_without_claims_is_left_alone(scene: Scene) -> None:
    scene.manager.on_timer(scene.loop.now)
    assert scene.killed == []


class ShortLived(Scene):
    """Zygotes that end as soon as they have been ready."""

    def run_zygote(self, control: socket.socket) -> NoReturn:
        control.send(b'{"ready":true}')
        os._exit(70)

    def on_zygote_failed(self, status: int) -> None:
        raise AssertionError("it is given up at once")


def test_a_zygote_that_was_ready_for_a_moment_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its end may be noticed before its packet is read."""
    # On a slow machine its fork alone may take longer than an early death does.
    monkeypatch.setattr(zygote_manager, "MIN_LIFETIME", float("inf"))
    with subreaper():
        scene = ShortLived()
        pid = scene.manager.pid
        os.waitpid(pid, 0)
        scene.manager.on_exit(70, survivors=False)
        assert scene.manager.ready
        assert scene.manager.deadline != NEVER
        scene.manager.release_after_fork()
        scene.loop.close_all()
