"""The control socket of a worker whose directory vanishes, is replaced or is full."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from chimirror.io.listener import ListenError
from chimirror.server import control_socket
from chimirror.server.control_socket import CHECK_INTERVAL, WorkerControlSocket
from control_requests import ControlSocketClient
from session_harness import SESSION_ID, SessionHarness


class ControlledWorker:
    """A session, and the control socket of its worker."""

    def __init__(self, harness: SessionHarness, runtime: Path) -> None:
        self.harness = harness
        self.runtime = runtime
        self.path = runtime / "servers" / "1" / "7"
        self.socket = WorkerControlSocket(
            harness.context, str(self.path.parent), number=7
        )

    def assert_answers(self) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.path))
            client = ControlSocketClient(self.harness, connection)
            assert client.ask("authorize", session=SESSION_ID) == {}
        self.harness.settle()

    def warnings(self) -> int:
        return len(self.harness.event_log.of("note"))


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[ControlledWorker]:
    with SessionHarness("--ping-interval=off") as harness:
        harness.open()
        found = ControlledWorker(harness, tmp_path / "run")
        yield found
        found.socket.close()
        harness.settle()


def test_directories_are_made(worker: ControlledWorker) -> None:
    assert worker.socket.is_reachable()
    worker.assert_answers()
    assert worker.path.stat().st_mode & 0o777 == 0o600
    assert worker.path.parent.stat().st_mode & 0o777 == 0o700
    worker.socket.close()
    assert not worker.path.exists()


def test_vanished_socket_is_made_again(worker: ControlledWorker) -> None:
    assert worker.socket.is_reachable()
    for vanishing in (worker.runtime, worker.path.parent):
        shutil.rmtree(vanishing)
        worker.harness.wait(CHECK_INTERVAL + 1)
        assert worker.socket.is_reachable()
        worker.assert_answers()
    assert worker.warnings() == 0


def test_file_in_the_place_of_the_directory(worker: ControlledWorker) -> None:
    """The warning comes once, with the cause and the cure."""
    worker.runtime.write_text("")
    for _ in range(3):
        assert not worker.socket.is_reachable()
        worker.harness.wait(CHECK_INTERVAL + 1)
    assert worker.warnings() == 1
    worker.runtime.unlink()
    assert worker.socket.is_reachable()
    worker.assert_answers()
    shutil.rmtree(worker.runtime)
    worker.runtime.write_text("")
    worker.harness.wait(CHECK_INTERVAL + 1)
    assert not worker.socket.is_reachable()
    assert worker.warnings() == 2


def test_full_file_system_is_tried_at_intervals(
    worker: ControlledWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = []

    def fail(path: str, _mode: int) -> None:
        attempts.append(path)
        raise ListenError(f"cannot listen on unix:{path}: {os.strerror(28)}")

    with monkeypatch.context() as patched:
        patched.setattr(control_socket, "open_unix", fail)
        for _ in range(100):
            assert not worker.socket.is_reachable()
        assert len(attempts) == worker.warnings() == 1
    worker.harness.wait(CHECK_INTERVAL + 1)
    assert worker.socket.is_reachable()
    worker.assert_answers()
