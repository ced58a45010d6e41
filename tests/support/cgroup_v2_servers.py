"""Tests servers that are no unit, below a cgroup with all controllers of version 2.

Run in an emulated machine by test_cgroup_v2.py. The group is not the root, so it has no
processes once it has enabled a controller (cgroups(7), no internal processes).
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import processes
import websocket_peer
from chimirror.ctl.control_client import ControlClient
from chimirror.host import cgroup, cgroup_tree, runtime_dir
from processes import MARK, ended, until
from serve import LAUNCH, Service, running
from shell_sessions import SOON
from spare_programs import GRACES, started
from systemd_machine import Machine
from websocket_peer import Closed, stdin

pytestmark = pytest.mark.timeout(600)
websocket_peer.PATIENCE = processes.PATIENCE = 300.0  # seconds

BASE = Path(cgroup.ROOT, "trial")
CONTROLLERS = ("cpu", "memory", "pids")
ENTER = 'echo 0 >"$0/cgroup.procs" && exec "$@"'
# Each line that it reads is a number of bytes to eat.
EATER = """\
import sys
def main():
    held = [bytearray(b"x") * int(line) for line in sys.stdin]
"""
MAIN = "eater:main"
PROGRAM = ("/usr/bin/python3", "-c", f"{EATER}main()")
LIMITS = {"memory.max": str(64 << 20), "pids.max": "5", "cpu.weight": "50"}
OPTIONS = (
    *("--session-memory-max=64M", "--session-tasks-max=5", "--session-cpu-weight=50"),
    *("--workers=1", "--spares=1", "--ping-interval=0", "--listen=127.0.0.1:0"),
    *GRACES,
)


@pytest.fixture
def base(host: Machine) -> Iterator[Path]:
    """A group that has no process, before and after the test."""
    assert host.cgroups == "unified"
    root = Path(cgroup.ROOT, "cgroup.subtree_control")
    root.write_text(" ".join(f"+{name}" for name in CONTROLLERS))
    BASE.mkdir()
    yield BASE
    until(lambda: not cgroup_tree.is_populated(str(BASE)), "the last process", SOON)
    assert not [path for path in BASE.iterdir() if path.is_dir()]
    BASE.rmdir()


@contextmanager
def server_below(base: Path, directory: Path, *options: str) -> Iterator[Service]:
    """Run a server whose first process is the only one of a group."""
    mark = uuid.uuid4().hex
    argv = [*LAUNCH, "chimirror.server", f"--env={MARK}={mark}", *OPTIONS, *options]
    command = ["sh", "-c", ENTER, str(base), *argv]
    with running(directory, command, mark) as service:
        host, _, port = service.find(r"listening on ([^\s\"]+)").rpartition(":")
        service.address = (host, int(port))
        yield service


def group_of(pid: int) -> Path:
    """Return the group of a process."""
    _, _, path = Path(f"/proc/{pid}/cgroup").read_text().strip().partition("::")
    return Path(f"{cgroup.ROOT}{path}")


def await_spare(service: Service) -> int:
    """Wait until the worker has a spare. Returns the process.

    Asks the worker: chimirror-ctl would pass through no directory of another user, and
    the installed server owns that of the control sockets.
    """
    directory = runtime_dir.directory(os.environ, os.geteuid())
    path = Path(str(directory), "servers", str(service.pid), "0")
    until(path.exists, "its control socket")
    found: list[object] = []

    def ask() -> bool:
        with ControlClient(str(path), "worker 0") as worker:
            found[:] = [row["application_pid"] for row in worker.sessions()]
        return bool(found)

    until(ask, "a spare", SOON)
    return int(str(found[0]))


@pytest.mark.parametrize(
    "words",
    [
        ("--", *PROGRAM),
        ("--pty", "--", *PROGRAM),
        ("--user=nobody", "--directory=/", "--", *PROGRAM),
        (f"--preload={MAIN}",),
    ],
    ids=["plain", "pty", "user", "preload"],
)
def test_a_spare_has_limits(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """They hold before its client comes, and its client is told which one was met."""
    monkeypatch.chdir(tmp_path)
    tmp_path.joinpath("eater.py").write_text(EATER)
    with server_below(base, tmp_path, *words) as service:
        spare = await_spare(service)
        group = group_of(spare)
        assert group.is_relative_to(base / f"chimirror-{service.pid}")
        assert {name: (group / name).read_text().strip() for name in LIMITS} == LIMITS
        assert os.stat(f"/proc/{spare}").st_uid == (
            65534 if "nobody" in str(words) else 0
        )
        for own in (service.process.pid, service.pid):
            assert group_of(own) == base / f"chimirror-{service.pid}" / "server"
        with started(service) as peer:
            assert peer.message()["type"] == "session"
            peer.send(stdin(b"100000000\n"))
            assert ended(spare, SOON)
            assert peer.transcript().closed == Closed(1011, "out of memory")
        other = group_of(await_spare(service))
        assert "oom_kill 0\n" in (other / "memory.events").read_text()
