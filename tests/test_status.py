"""A bridge's status: where it is looked for, when it changes, gone at the end."""

from __future__ import annotations

import json
import os
import socket
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from chimirror.status import Status
from chimirror.system import runtime
from launch import Bridge
from peers import Peer, text
from settling import until
from stage import IDENTITY, Stage


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """RUNTIME, as tmpfiles.d(5) makes it."""
    (tmp_path / "sessions").mkdir()
    monkeypatch.setattr(runtime, "SYSTEM", str(tmp_path))
    monkeypatch.setattr(runtime, "directory", lambda environ, uid: str(tmp_path))
    return tmp_path / "sessions"


def told(place: Path) -> dict[str, Any]:
    (file,) = place.iterdir()
    assert file.name == IDENTITY
    assert file.stat().st_mode & 0o777 == 0o600
    found = json.loads(file.read_text().partition("\n")[0])
    assert isinstance(found, dict)
    return found


def test_it_is_there_at_once_and_gone_at_the_end(place: Path) -> None:
    with Stage() as stage:
        stage.open()
        status = Status(stage.service, stage.session)
        stage.wait(0.1)
        found = told(place)
        assert found["peer"] == "192.0.2.7:4711"
        assert found["command"] == "program argument"
        assert (found["pid"], found["application_pid"]) == (os.getpid(), 4711)
        assert (found["id"], found["framing"]) == (IDENTITY, "json")
        assert (found["state"], found["bytes_in"]) == ("open", 0)
        assert 0 < found["updated"] - found["started"] < 1_000_000
        status.remove()
    assert not list(place.iterdir())


def test_it_follows_the_session_within_a_second(place: Path) -> None:
    with Stage() as stage:
        stage.open()
        status = Status(stage.service, stage.session)
        stage.wait(0.1)
        stage.say(text("hello"))
        stage.print(b"out")
        assert told(place)["messages_in"] == 0
        stage.wait(1.1)
        found = told(place)
        assert (found["messages_in"], found["bytes_in"]) == (1, 13)
        assert (found["messages_out"], found["bytes_out"]) == (1, 36)
        status.remove()


def test_an_idle_session_is_looked_at_ever_more_rarely(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Stage("--ping-interval=off") as stage:
        stage.open()
        status = Status(stage.service, stage.session)
        looks: list[float] = []
        look = status.on_timer

        def count(now: float) -> None:
            looks.append(now)
            look(now)

        monkeypatch.setattr(status, "on_timer", count)
        stage.wait(100)
        gaps = [round(b - a) for a, b in pairwise(looks)]
        assert gaps[:5] == [1, 2, 4, 8, 10]
        assert set(gaps[5:]) == {10}
        stage.say(text("hello"))
        stage.wait(10.1)
        assert told(place)["messages_in"] == 1
        status.remove()


def test_the_service_manager_is_told_when_something_has_changed(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with manager, Stage() as stage:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        stage.open()
        status = Status(stage.service, stage.session)
        stage.wait(0.5)
        with pytest.raises(BlockingIOError):
            manager.recv(999)
        stage.wait(2)
        assert manager.recv(999) == (
            b"STATUS=192.0.2.7:4711: program argument; in 0 bytes, 0 messages; "
            b"out 0 bytes, 0 messages"
        )
        stage.say(text("hello"))
        stage.wait(5)
        with pytest.raises(BlockingIOError):
            manager.recv(999)
        stage.wait(20)
        assert b"in 13 bytes, 1 messages" in manager.recv(999)
        stage.wait(60)
        with pytest.raises(BlockingIOError):
            manager.recv(999)
        status.remove()


def test_without_a_place_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "directory", lambda environ, uid: None)
    with Stage() as stage:
        stage.open()
        status = Status(stage.service, stage.session)
        stage.wait(3)
        status.remove()
    monkeypatch.setattr(runtime, "directory", lambda environ, uid: str(tmp_path))
    with Stage() as stage:  # it has not been set up
        stage.open()
        status = Status(stage.service, stage.session)
        stage.wait(3)
        status.remove()


def test_a_bridge_shows_itself(tmp_path: Path) -> None:
    """As another user than root does; as root where /run/chimirror is set up."""
    if os.geteuid() == 0:
        base = Path(runtime.SYSTEM)
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
            assert json.loads(file.read_text())["pid"] == bridge.pid
            until(file.with_suffix(".control").is_socket, "its control socket")
            peer.close()
            bridge.finish()
        assert not list((base / "sessions").glob(f"{identity}*"))
    finally:
        if made:
            (base / "sessions").rmdir()
            base.rmdir()
