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
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from processes import ended, marked, name_of, only_child, parent_of, read, until
from serve import PROGRAMS, ROOT, SERVICES, Bridge, Service, pure_server, server
from websocket_peer import Closed, Peer

GRACES = ("--stop-grace=50ms", "--kill-grace=100ms")
SOON = 200.0
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
            # a child of bash has its name until it executes sleep(1)
            (application,) = [
                one
                for one in service.applications()
                if name_of(one).startswith("bash")
                and PROGRAMS.search(name_of(parent_of(one)))
            ]
            bridge = parent_of(application)
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


# Any program

ORPHAN = """
import os
from chimirror.process.guardian import guard
guard("program", 1.0)
ask, _ = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        os.read(ask, 1)
    os._exit(0)
os.wait()
input()
"""


def test_an_orphan_is_reaped_at_once() -> None:
    """The first process of a container adopts those that others leave there."""
    argv, pipe = [sys.executable, "-c", ORPHAN], subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, cwd=ROOT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        orphan = int(process.stdout.readline())
        until(lambda: parent_of(orphan) == process.pid, "it is adopted")
        os.kill(orphan, signal.SIGKILL)
        until(lambda: not read(f"/proc/{orphan}/stat"), "it is reaped")
        process.stdin.write(b"\n")
        process.stdin.close()
        assert process.wait(SOON) == 0


def test_the_status_is_known_if_sigchld_was_ignored() -> None:
    program = "import os; from chimirror.process.guardian import guard; guard('p', 1.0)"
    shell = "trap '' CHLD; exec \"$@\""
    argv = ["sh", "-c", shell, "sh", sys.executable, "-c", f"{program}; os._exit(7)"]
    assert subprocess.run(argv, cwd=ROOT, timeout=SOON).returncode == 7


# A server


def hiding_server(directory: Path, *options: str) -> AbstractContextManager[Service]:
    """A server whose obstinate application has a descendant that hides."""
    program = f"{hiding(directory / 'pid')}; {OBSTINATE}"
    return server(directory, ["bash", "-c", program], *GRACES, *options)


def joined(service: Service) -> Peer:
    peer = Peer(service.connect())
    assert peer.open().status == 101
    assert peer.output(3) == b"up\n"
    return peer


def test_nothing_is_left_of_a_killed_supervisor(tmp_path: Path) -> None:
    """The workers drain before. A descendant that hides has been adopted."""
    options = ("--workers=2", "--drain-timeout=0")
    with hiding_server(tmp_path, *options) as service, joined(service) as peer:
        pid = hidden(tmp_path / "pid")
        until(lambda: parent_of(pid) == service.pid, "it is adopted")
        service.kill_supervisor()
        assert peer.transcript().closed == Closed(1001, "drain")
        assert service.process.wait(SOON) == -signal.SIGKILL
        assert ended(pid, 0)
        assert marked(service.mark) == []


def test_a_worker_that_is_killed_after_the_supervisor(tmp_path: Path) -> None:
    options = ("--workers=1", "--drain-timeout=1h")
    with hiding_server(tmp_path, *options) as service, joined(service):
        pid, (worker,) = hidden(tmp_path / "pid"), service.workers()
        service.kill_supervisor()
        os.kill(worker, signal.SIGKILL)
        assert service.process.wait(SOON) == -signal.SIGKILL
        assert ended(pid, 0)
        assert marked(service.mark) == []


def test_supervisor_and_zygote_at_once(tmp_path: Path) -> None:
    """The applications are children of the zygote here."""
    file = tmp_path / "pid"
    program = ["bash", "-c", f"{hiding(file)}; {OBSTINATE}"]
    options = ("--drain-timeout=1h", "--workers=1", *GRACES)
    with pure_server(tmp_path, program, *options) as service, joined(service):
        pid, (zygote,) = hidden(file), service.zygotes()
        for victim in (service.pid, zygote):
            os.kill(victim, signal.SIGSTOP)
        for victim in (service.pid, zygote):
            os.kill(victim, signal.SIGKILL)
        assert service.process.wait(SOON) == -signal.SIGKILL
        assert ended(pid, 0)
        assert marked(service.mark) == []


def test_a_stop_signal_after_the_supervisor_is_killed(tmp_path: Path) -> None:
    options = ("--workers=2", "--drain-timeout=1h")
    with hiding_server(tmp_path, *options) as service, joined(service):
        pid = hidden(tmp_path / "pid")
        service.kill_supervisor()
        service.find(rf"chimirror-server \(pid {service.pid}\) ended: signal KILL")
        service.process.terminate()
        assert service.process.wait(SOON) == -signal.SIGKILL
        assert ended(pid, 0)
        assert marked(service.mark) == []


def test_a_server_stops_in_order_when_its_guardian_is_killed(tmp_path: Path) -> None:
    options = ("--workers=2", "--drain-timeout=0")
    with hiding_server(tmp_path, *options) as service, joined(service) as peer:
        pid, supervisor = hidden(tmp_path / "pid"), service.pid
        service.process.kill()
        assert peer.transcript().closed == Closed(1001, "drain")
        assert ended(supervisor, SOON)
        assert ended(pid, 0)
        assert marked(service.mark) == []


def test_all_at_once_ends_applications_that_obey_the_death_signal(
    tmp_path: Path,
) -> None:
    """They ignore the end of input. No process is left to kill them."""
    program = ["sh", "-c", "trap '' HUP PIPE; echo up; exec sleep 1000"]
    options = ("--workers=2", *GRACES)
    with server(tmp_path, program, *options) as service, joined(service):
        service.kill_all()
        until(lambda: not marked(service.mark), "the application ends", SOON)
