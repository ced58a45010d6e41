"""A bridge's status: its file and notifications, when they change and end."""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from chimirror.access import Identity
from chimirror.bridge.status import StatusReporter
from chimirror.host import runtime_dir
from processes import until
from serve import Bridge
from session_harness import SESSION_ID, SessionHarness
from websocket_peer import Peer, text


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make RUNTIME as tmpfiles.d(5) does."""
    (tmp_path / "sessions").mkdir()
    monkeypatch.setattr(runtime_dir, "SYSTEM", str(tmp_path))
    monkeypatch.setattr(runtime_dir, "directory", lambda environ, uid: str(tmp_path))
    return tmp_path / "sessions"


def status_line(directory: Path) -> dict[str, Any]:
    (file,) = directory.iterdir()
    assert file.name == SESSION_ID
    assert file.stat().st_mode & 0o777 == 0o600
    found = json.loads(file.read_text().partition("\n")[0])
    assert isinstance(found, dict)
    return found


def test_file_exists_as_long_as_the_session(directory: Path) -> None:
    with SessionHarness() as harness:
        harness.open()
        status = StatusReporter(harness.context, harness.session)
        harness.wait(0.1)
        found = status_line(directory)
        assert found["peer"] == "192.0.2.7:4711"
        assert found["command"] == "program argument"
        assert "user" not in found
        assert (found["pid"], found["application_pid"]) == (os.getpid(), 4711)
        assert (found["id"], found["framing"]) == (SESSION_ID, "json")
        assert (found["state"], found["bytes_in"]) == ("open", 0)
        assert 0 < found["updated"] - found["started"] < 1_000_000
        status.remove()
    assert not list(directory.iterdir())


def test_file_follows_the_session_within_a_second(directory: Path) -> None:
    with SessionHarness() as harness:
        harness.open()
        status = StatusReporter(harness.context, harness.session)
        harness.wait(0.1)
        harness.say(text("hello"))
        harness.print(b"out")
        assert status_line(directory)["messages_in"] == 0
        harness.wait(1.1)
        found = status_line(directory)
        assert (found["messages_in"], found["bytes_in"]) == (1, 13)
        assert (found["messages_out"], found["bytes_out"]) == (1, 36)
        status.remove()


def test_interval_grows_while_the_session_is_idle(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SessionHarness("--ping-interval=off") as harness:
        harness.open()
        status = StatusReporter(harness.context, harness.session)
        looks: list[float] = []
        look = status.on_timer

        def count(now: float) -> None:
            looks.append(now)
            look(now)

        monkeypatch.setattr(status, "on_timer", count)
        harness.wait(100)
        gaps = [round(b - a) for a, b in pairwise(looks)]
        assert gaps[:5] == [1, 2, 4, 8, 10]
        assert set(gaps[5:]) == {10}
        harness.say(text("hello"))
        harness.wait(10.1)
        assert status_line(directory)["messages_in"] == 1
        status.remove()


def test_service_manager_is_notified_of_changes(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with manager, SessionHarness() as harness:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        harness.open()
        status = StatusReporter(harness.context, harness.session)
        harness.wait(0.5)
        with pytest.raises(BlockingIOError):
            manager.recv(999)
        harness.wait(2)
        assert manager.recv(999) == (
            b"STATUS=192.0.2.7:4711: program argument; in 0 bytes, 0 messages; "
            b"out 0 bytes, 0 messages"
        )
        harness.say(text("hello"))
        harness.wait(5)
        with pytest.raises(BlockingIOError):
            manager.recv(999)
        harness.wait(20)
        assert b"in 13 bytes, 1 messages" in manager.recv(999)
        harness.wait(60)
        with pytest.raises(BlockingIOError):
            manager.recv(999)
        status.remove()


def test_a_known_user_is_named(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with manager, SessionHarness() as harness:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        harness.session.identity = Identity("CORP\\ann", "Basic")
        harness.open()
        status = StatusReporter(harness.context, harness.session)
        harness.wait(2.5)
        assert status_line(directory)["user"] == r"CORP\ann"
        line = manager.recv(999)
        assert line.startswith(rb"STATUS=192.0.2.7:4711 of CORP\ann: program argument")
        status.remove()


def test_session_goes_on_without_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_dir, "directory", lambda environ, uid: None)
    with SessionHarness() as harness:
        harness.open()
        status = StatusReporter(harness.context, harness.session)
        harness.wait(3)
        status.remove()
    monkeypatch.setattr(runtime_dir, "directory", lambda environ, uid: str(tmp_path))
    with SessionHarness() as harness:  # the directory is not set up
        harness.open()
        status = StatusReporter(harness.context, harness.session)
        harness.wait(3)
        status.remove()


def test_full_file_system_leaves_no_half_status(directory: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    with SessionHarness() as harness:
        harness.open()
        status = StatusReporter(harness.context, harness.session)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))
            harness.wait(0.1)
            (file,) = directory.iterdir()
            assert file.read_text() == ""
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        harness.say(text("hello"))
        harness.wait(10.1)
        assert status_line(directory)["messages_in"] == 1
        status.remove()


def test_vanished_directory_does_not_end_the_session(directory: Path) -> None:
    with SessionHarness() as harness:
        harness.open()
        status = StatusReporter(harness.context, harness.session)
        harness.wait(0.1)
        shutil.rmtree(directory)
        harness.say(text("hello"))
        harness.wait(2)
        status.remove()
        assert not harness.event_log.of("note")
        assert harness.application.read_stdin() == b'"hello"\n'


def test_a_bridge_has_a_status_file(tmp_path: Path) -> None:
    """Runs as root where /run/chimirror is set up, and as another user elsewhere."""
    if os.geteuid() == 0:
        base = Path(runtime_dir.SYSTEM)
        made = not base.exists()
        (base / "sessions").mkdir(parents=True, exist_ok=True)
    else:
        base, made = tmp_path / "chimirror", False
        (base / "sessions").mkdir(parents=True)
    try:
        with (
            Bridge(["cat"], XDG_RUNTIME_DIR=str(tmp_path)) as bridge,
            Peer(bridge.socket) as peer,
        ):
            assert peer.open(framing="stdio").status == 101
            identity = peer.message()["id"]
            file = base / "sessions" / identity
            until(lambda: file.exists() and file.read_text(), "its first line")
            assert json.loads(file.read_text())["pid"] == bridge.serving
            until(file.with_suffix(".control").is_socket, "its control socket")
            peer.close()
            bridge.finish()
        assert not list((base / "sessions").glob(f"{identity}*"))
    finally:
        if made:
            (base / "sessions").rmdir()
            base.rmdir()
