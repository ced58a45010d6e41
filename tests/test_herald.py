"""What the service manager hears of a server (sd_notify(3))."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from chimirror.herald import Herald
from chimirror.system.loop import Loop
from chimirror.system.pulse import Pulse
from launch import server
from peers import Closed, Peer
from settling import until
from stage import Hourglass


class Manager:
    """The receiving end."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(30)
        self.heard: list[str] = []

    def words(self) -> list[str]:
        """What it has been told since the last time."""
        self.socket.setblocking(False)
        words: list[str] = []
        try:
            while True:
                words += self.socket.recv(4096).decode().split("\n")
        except BlockingIOError:
            return words

    def hears(self, word: str) -> bool:
        self.heard += self.words()
        return word in self.heard


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    path = tmp_path / "notify"
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    found = Manager(path)
    yield found
    found.socket.close()


class Scene:
    """A herald on a loop in which time passes by itself."""

    def __init__(self, **environ: str) -> None:
        self.clock = Hourglass()
        self.loop = Loop(self.clock, self.clock)
        self.sessions = 0
        self.herald = Herald(self.loop, environ, 7, 2, lambda: self.sessions)

    def wait(self, seconds: float) -> None:
        self.clock.limit = self.clock.now + seconds
        self.loop.turn()
        while self.clock.now < self.clock.limit:
            self.loop.turn()

    def close(self) -> None:
        self.herald.end()
        self.loop.close_all()


def test_what_has_changed_is_told_at_most_every_ten_seconds(manager: Manager) -> None:
    scene = Scene(NOTIFY_SOCKET="x")
    scene.herald.ready()
    assert manager.words() == ["READY=1", "STATUS=0 live sessions"]
    scene.sessions = 1
    scene.wait(9)
    assert manager.words() == []
    scene.wait(2)
    assert manager.words() == ["STATUS=1 live session"]
    scene.wait(100)
    assert manager.words() == []
    scene.close()


def test_a_drain_gets_the_time_that_it_takes(manager: Manager) -> None:
    scene = Scene(NOTIFY_SOCKET="x")
    scene.sessions = 2
    scene.herald.stopping()
    more = "EXTEND_TIMEOUT_USEC=20000000"
    assert manager.words() == ["STOPPING=1", more, "STATUS=draining: 2 live sessions"]
    scene.wait(35)
    assert manager.words() == [more] * 3
    scene.close()


def test_the_watchdog_hears_while_every_loop_turns(manager: Manager) -> None:
    scene = Scene(NOTIFY_SOCKET="x", WATCHDOG_USEC="4000000", WATCHDOG_PID="7")
    pulse = scene.herald.pulse
    assert pulse is not None
    pulse.keep(scene.loop, 0)
    scene.herald.ready()
    scene.wait(21)
    assert manager.words().count("WATCHDOG=1") >= 10  # twice per interval
    pulse.beat(1, scene.clock.now)  # and never again
    scene.wait(3.5)
    assert "WATCHDOG=1" in manager.words()
    scene.wait(20)
    assert "WATCHDOG=1" not in manager.words()
    scene.herald.forget(1)  # it has ended, and is to be replaced
    scene.wait(3)
    assert "WATCHDOG=1" in manager.words()
    scene.close()


@pytest.mark.parametrize(
    "environ",
    [{}, {"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "8"}, {"WATCHDOG_USEC": "x"}],
)
def test_no_watchdog_of_ours(environ: dict[str, str]) -> None:
    scene = Scene(**environ)
    assert scene.herald.pulse is None
    scene.close()


def test_nobody_listens() -> None:
    scene = Scene()
    scene.herald.ready()
    assert scene.herald.armed == 0
    scene.close()


def test_a_pulse_is_seen_in_another_process() -> None:
    pulse = Pulse(2, 1.0)
    pid = os.fork()
    if pid == 0:
        pulse.beat(1, 100.0)
        os._exit(0)
    os.waitpid(pid, 0)
    assert pulse.stuck(100.5) == []
    assert pulse.stuck(101.5) == [1]


def test_a_server_tells_its_life(
    tmp_path: Path, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    with server(tmp_path, ["cat"], "--workers=2", "--drain-timeout=1ms") as service:
        until(lambda: manager.hears("READY=1"), "its readiness")
        until(lambda: manager.hears("WATCHDOG=1"), "its watchdog")
        peer = Peer(service.connect())
        assert peer.open().status == 101
        until(lambda: manager.hears("STATUS=1 live session"), "its status")
        service.process.terminate()
        until(lambda: manager.hears("STOPPING=1"), "its end")
        assert peer.story()[-1] == Closed(1001, "drain")
        peer.close()
    assert "EXTEND_TIMEOUT_USEC=20000000" in manager.heard
