"""Tests that nothing is left when a program that serves is killed.

No cgroup ends the rest here, so the guardian does. Processes are really killed.
Each application writes `up` when its preparations are complete.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from processes import ended, marked, name_of, only_child, parent_of, read, until
from serve import PROGRAMS, ROOT, SERVICES, Bridge
from websocket_peer import Closed, Peer

GRACES = ("--stop-grace=50ms", "--kill-grace=100ms")
SOON = 30.0
OBSTINATE = "trap '' TERM HUP INT PIPE; echo up; while :; do sleep 1000; done"


def hiding(file: Path) -> str:
    """Return a command whose double fork has neither session nor environment."""
    inner = f'trap "" TERM; echo $$ >{file}; exec sleep 1000'
    return f"(env -i setsid sh -c '{inner}' >/dev/null 2>&1 &)"


def hidden(file: Path) -> int:
    """Return the pid of that process, once it has written it."""
    until(lambda: read(str(file)).endswith(b"\n"), "it hides")
    return int(read(str(file)))


def opened(bridge: Bridge) -> Peer:
    peer = Peer(bridge.socket)
    assert peer.open().status == 101
    assert peer.output(3) == b"up\n"
    return peer


def test_nothing_is_left_of_a_killed_bridge(tmp_path: Path) -> None:
    """One process ignores the end of its input and TERM, another one hides."""
    file = tmp_path / "pid"
    program = ["bash", "-c", f"{hiding(file)}; {OBSTINATE}"]
    with Bridge(program, *GRACES) as bridge, opened(bridge) as peer:
        pid, serving = hidden(file), bridge.serving
        os.kill(serving, signal.SIGKILL)
        assert peer.stream.read() == b"", "the connection is closed"
        assert ended(bridge.pid, SOON)
        assert marked(bridge.mark) == []
        assert ended(pid, 0)
        status, said = bridge.finish()
        assert status == -signal.SIGKILL
        assert f"chimirror-bridge (pid {serving}) ended: signal KILL".encode() in said


def test_an_application_of_a_killed_bridge_may_obey(tmp_path: Path) -> None:
    said = tmp_path / "said"
    program = f"trap '' PIPE HUP; trap 'echo TERM >{said}; exit' TERM; echo up"
    program += "; while :; do sleep 1; done"
    with Bridge(["bash", "-c", program], "--kill-grace=20s") as bridge, opened(bridge):
        os.kill(bridge.serving, signal.SIGKILL)
        assert ended(bridge.pid, SOON)
    assert said.read_text() == "TERM\n"


def test_a_second_signal_ends_the_grace(tmp_path: Path) -> None:
    program = ["bash", "-c", OBSTINATE]
    with Bridge(program, "--kill-grace=1h") as bridge, opened(bridge):
        os.kill(bridge.serving, signal.SIGKILL)
        until(lambda: b"signal KILL" in os.read(stderr_of(bridge), 4096), "it sweeps")
        bridge.process.terminate()
        assert ended(bridge.pid, SOON)


def stderr_of(bridge: Bridge) -> int:
    assert bridge.process.stderr is not None
    return bridge.process.stderr.fileno()


def test_a_killed_guardian_ends_the_session_in_order(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    program = ["bash", "-c", f"{hiding(file)}; {OBSTINATE}"]
    with Bridge(program, *GRACES) as bridge, opened(bridge) as peer:
        pid, serving = hidden(file), bridge.serving
        bridge.process.kill()
        assert peer.transcript().closed == Closed(1001, "drain")
        assert ended(serving, SOON)
        assert ended(pid, SOON)
        assert marked(bridge.mark) == []


def test_a_guardian_has_nothing_of_the_connection() -> None:
    with Bridge(["bash", "-c", OBSTINATE], *GRACES) as bridge, opened(bridge):
        directory = f"/proc/{bridge.pid}/fd"
        kinds = [os.readlink(f"{directory}/{fd}") for fd in os.listdir(directory)]
        assert sorted(kind.partition(":")[0] for kind in kinds) == [
            "/dev/null",
            "/dev/null",
            "pipe",  # standard error
            "pipe",
        ]


@pytest.mark.parametrize("kind", ["socat", "socat-pipes", "xinetd", "activate"])
def test_behind(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    program = ["bash", "-c", f"{hiding(file)}; {OBSTINATE}"]
    with SERVICES[kind](tmp_path, program, *GRACES) as service:
        with Peer(service.connect()) as peer:
            assert peer.open().status == 101
            assert peer.output(3) == b"up\n"
            pid = hidden(file)
            (application,) = [
                one for one in service.applications() if name_of(one).startswith("bash")
            ]
            bridge = parent_of(application)
            assert PROGRAMS.search(name_of(bridge))
            os.kill(bridge, signal.SIGKILL)
            assert ended(application, SOON)
            assert ended(pid, SOON)
        until(lambda: not service.applications(), "nothing is left", SOON)


def test_a_unit_has_no_guardian() -> None:
    """Its main process is the bridge. The cgroup ends the rest."""
    program = 'SYSTEMD_EXEC_PID=$$ exec "$0" -P -m chimirror.bridge cat'
    env = os.environ | {"PYTHONPATH": ROOT}
    peer_end, bridge_end = socket.socketpair()
    with bridge_end:
        argv = ["sh", "-c", program, sys.executable]
        fd = bridge_end.fileno()
        process = subprocess.Popen(argv, stdin=fd, stdout=fd, env=env)
    with process, Peer(peer_end) as peer:
        assert peer.open().status == 101
        assert name_of(only_child(process.pid)) == "cat"
        peer.close()
