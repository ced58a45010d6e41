"""Tests the messages of a server to the service manager (sd_notify(3))."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from chimirror.io.loop import WRITE, EventLoop
from chimirror.server.heartbeat import HeartbeatTable
from chimirror.server.notifier import ServiceNotifier
from processes import until
from serve import server
from session_harness import FakeClock
from websocket_peer import Closed, Peer


class Manager:
    """The socket of the service manager."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(30)
        self.heard: list[str] = []

    def words(self) -> list[str]:
        """Return the messages since the last call."""
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
    """A notifier on an event loop with an injected clock."""

    def __init__(self, **environ: str) -> None:
        self.clock = FakeClock()
        self.loop = EventLoop(self.clock, self.clock)
        self.sessions = 0
        self.draining = False
        self.notifier = ServiceNotifier(
            self.loop,
            environ,
            7,
            2,
            lambda: self.sessions,
            lambda: self.draining,
        )

    def wait(self, seconds: float) -> None:
        self.clock.limit = self.clock.now + seconds
        self.loop.run_once()
        while self.clock.now < self.clock.limit:
            self.loop.run_once()

    def close(self) -> None:
        self.notifier.close()
        self.loop.close_all()


def test_status_is_sent_at_most_every_ten_seconds(manager: Manager) -> None:
    scene = Scene(NOTIFY_SOCKET="x")
    scene.notifier.ready()
    assert manager.words() == ["READY=1", "STATUS=0 live sessions"]
    scene.sessions = 1
    scene.wait(9)
    assert manager.words() == []
    scene.wait(2)
    assert manager.words() == ["STATUS=1 live session"]
    scene.wait(100)
    assert manager.words() == []
    scene.close()


def test_a_drain_of_an_operator_is_shown(manager: Manager) -> None:
    scene = Scene(NOTIFY_SOCKET="x")
    scene.draining = True
    scene.notifier.ready()
    assert manager.words() == ["READY=1", "STATUS=draining: 0 live sessions"]
    scene.draining = False
    scene.wait(11)
    assert manager.words() == ["STATUS=0 live sessions"]
    scene.close()


def test_a_drain_gets_the_time_that_it_takes(manager: Manager) -> None:
    scene = Scene(NOTIFY_SOCKET="x")
    scene.sessions = 2
    scene.notifier.stopping()
    more = "EXTEND_TIMEOUT_USEC=20000000"
    assert manager.words() == ["STOPPING=1", more, "STATUS=draining: 2 live sessions"]
    scene.wait(35)
    assert manager.words() == [more] * 3
    scene.close()


def test_the_watchdog_hears_while_every_loop_turns(manager: Manager) -> None:
    scene = Scene(NOTIFY_SOCKET="x", WATCHDOG_USEC="4000000", WATCHDOG_PID="7")
    table = scene.notifier.heartbeat
    assert table is not None
    table.start_timer(scene.loop, 0)
    scene.notifier.ready()
    scene.wait(21)
    assert manager.words().count("WATCHDOG=1") >= 10  # twice per interval
    table.beat(1, scene.clock.now)  # and never again
    scene.wait(3.5)
    assert "WATCHDOG=1" in manager.words()
    scene.wait(20)
    assert "WATCHDOG=1" not in manager.words()
    scene.notifier.clear_heartbeat(1)  # the process has ended
    scene.wait(3)
    assert "WATCHDOG=1" in manager.words()
    scene.close()


def test_a_long_turn_that_makes_progress_is_not_stuck(manager: Manager) -> None:
    """Many handlers of half an interval each: only one that hangs is stuck."""
    scene = Scene(NOTIFY_SOCKET="x", WATCHDOG_USEC="4000000", WATCHDOG_PID="7")
    table = scene.notifier.heartbeat
    assert table is not None
    find_stale = table.stale
    stale: list[list[int]] = []

    class Slow:
        """Handler of a descriptor that is ready."""

        def __init__(self, seconds: float) -> None:
            self.seconds = seconds

        def on_event(self, fd: int, events: int) -> None:
            scene.clock.now += self.seconds
            stale.append(find_stale(scene.clock.now))
            scene.loop.watch(fd, self, 0)

        def on_error(self, error: Exception) -> None:
            raise error

    table.start_timer(scene.loop, 0)
    fds = [os.dup(manager.socket.fileno()) for _ in range(6)]
    for fd in fds:
        scene.loop.watch(fd, Slow(2.0), WRITE)
    scene.loop.run_once()
    assert stale == [[]] * 6
    scene.loop.watch(fds[0], Slow(9.0), WRITE)
    scene.loop.run_once()
    assert stale[6:] == [[0]]
    for fd in fds:
        os.close(fd)
    scene.close()


@pytest.mark.parametrize(
    "environ",
    [{}, {"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "8"}, {"WATCHDOG_USEC": "x"}],
)
def test_watchdog_of_another_process_is_ignored(environ: dict[str, str]) -> None:
    scene = Scene(**environ)
    assert scene.notifier.heartbeat is None
    scene.close()


def test_without_a_service_manager() -> None:
    scene = Scene()
    scene.notifier.ready()
    assert scene.notifier.armed == 0
    scene.close()


def test_heartbeats_are_shared_between_processes() -> None:
    table = HeartbeatTable(2, 1.0)
    pid = os.fork()
    if pid == 0:
        table.beat(1, 100.0)
        os._exit(0)
    os.waitpid(pid, 0)
    assert table.stale(100.5) == []
    assert table.stale(101.5) == [1]


def test_server_notifies_systemd(
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
        assert peer.transcript()[-1] == Closed(1001, "drain")
        peer.close()
    assert "EXTEND_TIMEOUT_USEC=20000000" in manager.heard
