"""Tests that need cgroup v2, run in an emulated machine by test_cgroup_v2.py.

Figures and messages of chimirror are compared with those of systemd and the kernel. In
the emulated machine a command takes seconds, so there are few commands. The fixture
does not reset the machine: each test leaves the machine as it was, except the last two,
which set lasting limits.
"""

from __future__ import annotations

import errno
from contextlib import ExitStack
from pathlib import Path

import pytest

import processes
import websocket_peer
from cpu_quota import SPINNER, TOLERANCE, enforced
from ctl_on_machine import ctl, ctl_json
from machine_sessions import (
    SERVER,
    SERVER_PORT,
    echo,
    only_session,
    open_session,
    serve_many,
)
from processes import until
from systemd_machine import Machine
from websocket_peer import Closed

pytestmark = pytest.mark.timeout(600)
websocket_peer.PATIENCE = processes.PATIENCE = 300.0  # seconds

SERVER_SOCKET = "chimirror-server.socket"
OUT_OF_MEMORY = "fe6faa94e7774663a0da52717891d8ef"  # systemd's sd-messages.h
# While a test waits for a command, its client answers no ping.
OPTIONS = "--ping-interval 0"
EATER = """\
import sys
eaten = [bytearray(40 << 20) for line in sys.stdin]
"""
GROWING = """\
import sys
held = []
for line in sys.stdin:
    held.append(bytearray(b"x") * (1 << 20))
    print("more", flush=True)
"""
# Each line that it reads is a task: forks a process, or eats memory in one.
TRIAL = """\
import os, sys, time
for line in sys.stdin:
    try:
        pid = os.fork()
    except OSError as error:
        print(error.errno, flush=True)
        continue
    if not pid:
        eaten = bytearray(b"x") * int(line)
        time.sleep(1000)
    print("forked", flush=True)
"""
LIMITS = (
    "--session-memory-max 48M --session-tasks-max 3 --session-cpu-weight 50"
    f" --workers 1 {OPTIONS}"
)


@pytest.fixture
def machine(host: Machine) -> Machine:
    """The machine, without a reset."""
    return host


def program(machine: Machine, text: str) -> None:
    machine.write("/opt/trial.py", text)
    machine.configure("/usr/bin/python3", "/opt/trial.py", options=OPTIONS)


def shown(machine: Machine, unit: str, *names: str) -> list[str]:
    """Return properties of a unit in the order of `names`, not in that of systemd."""
    said = machine.do("systemctl", "show", f"--property={','.join(names)}", unit)
    found = dict(line.split("=", 1) for line in said.splitlines())
    return [found[name] for name in names]


def counted(machine: Machine, unit: str, file: str) -> dict[str, int]:
    """Read a file of the unit's cgroup that consists of names and numbers."""
    lines = (machine.slice() / unit / file).read_text().splitlines()
    return {name: int(number) for name, number in map(str.split, lines)}


def test_figures_are_those_of_systemd(machine: Machine) -> None:
    assert machine.cgroups == "unified"
    machine.configure("/usr/bin/cat", options=OPTIONS)
    with ExitStack() as stack:
        peer = open_session(machine, stack)
        unit = only_session(machine)
        session, used = shown(machine, unit, "InvocationID", "CPUUsageNSec")
        status = machine.path(f"/run/chimirror/sessions/{session}")
        until(lambda: status.exists() and status.stat().st_size, "its status")
        one = ctl_json(machine, "show", session)
        after, tasks = shown(machine, unit, "CPUUsageNSec", "TasksCurrent")
        assert 0 < int(used) / 1e9 <= one["cpu"] + 1e-6
        assert one["cpu"] <= int(after) / 1e9 + 1e-6
        assert one["tasks"] == int(tasks) == 2
        assert 0 < one["memory"] < one["memory_max"] == 512 << 20
        assert one["tasks_max"] == 256
        echo(peer)
    until(lambda: not machine.sessions(), "its end")


def test_memory_that_is_slowed_down(machine: Machine) -> None:
    """A session that MemoryHigh= slows down goes on."""
    program(machine, GROWING)
    with ExitStack() as stack:
        peer = open_session(machine, stack)
        unit = only_session(machine)
        machine.do("systemctl", "set-property", "--runtime", unit, "MemoryHigh=32M")
        while counted(machine, unit, "memory.events")["high"] == 0:
            peer.send(1)
            assert peer.output(5) == b"more\n"
        peer.send(1)
        assert peer.output(5) == b"more\n"
        assert counted(machine, unit, "memory.events")["oom_kill"] == 0
    until(lambda: not machine.sessions(), "its end")


def test_the_kernel_tells_of_memory(machine: Machine) -> None:
    """systemd reports the same OOM kill as chimirror, for the same unit."""
    program(machine, EATER)
    ctl(machine, "limit", "--session-memory-max", "48M")
    with ExitStack() as stack:
        peer = open_session(machine, stack)
        unit = only_session(machine)
        (session,) = shown(machine, unit, "InvocationID")  # while the unit exists
        peer.send(1)
        peer.send(2)
        assert peer.receive() == Closed(1011, "out of memory")
        assert counted(machine, unit, "memory.events")["oom_kill"] == 1
        assert shown(machine, unit, "Result") == ["success"]  # OOMPolicy=continue
    until(lambda: not machine.sessions(), "its end")
    until(
        lambda: machine.journal(MESSAGE_ID=OUT_OF_MEMORY, INVOCATION_ID=session),
        "what systemd says",
    )


def test_each_session_of_a_server_has_limits(machine: Machine) -> None:
    """The memory of a descendant counts, and the end of one is the end of all."""
    serve_many(machine)
    machine.write("/opt/trial.py", TRIAL)
    machine.configure("/usr/bin/python3", "/opt/trial.py", options=LIMITS)
    with ExitStack() as stack:
        peer = open_session(machine, stack, SERVER_PORT)
        other = open_session(machine, stack, SERVER_PORT)
        groups = session_groups(machine, "memory.max", str(48 << 20))
        assert len(groups) == 2
        for group in groups:
            assert (group / "pids.max").read_text() == "3\n"
            assert (group / "cpu.weight").read_text() == "50\n"
            assert (group / "memory.oom.group").read_text() == "1\n"
        for _ in range(2):
            other.send(0)
            assert other.output(7) == b"forked\n"
        other.send(0)
        assert other.output(3) == f"{errno.EAGAIN}\n".encode()
        used = {one["id"]: one for one in ctl_json(machine, "sessions")}
        assert sorted(one["tasks"] for one in used.values()) == [1, 3]
        assert all(0 < one["memory"] < 48 << 20 for one in used.values())
        assert all(one["cpu"] > 0 for one in used.values())
        peer.send(100 << 20)
        assert peer.output(7) == b"forked\n"
        assert peer.receive() == Closed(1011, "out of memory")
        other.send(0)  # the other session goes on
        assert other.output(3) == f"{errno.EAGAIN}\n".encode()
        until(
            lambda: len(session_groups(machine, "memory.max", str(48 << 20))) == 1,
            "the group of the ended session is removed",
        )
        with ExitStack() as again:
            fresh = open_session(machine, again, SERVER_PORT)
            fresh.send(0)
            assert fresh.output(7) == b"forked\n"
            (group,) = {*session_groups(machine, "pids.max", "3")} - {*groups}
            assert "oom_kill 0\n" in (group / "memory.events").read_text()


def session_groups(machine: Machine, file: str, text: str) -> list[Path]:
    """Return the groups of sessions of a server with this text in a file."""
    found = (machine.slice() / SERVER).glob(f"chimirror-*/worker-*/[0-9]*/{file}")
    return sorted(path.parent for path in found if path.read_text() == f"{text}\n")


def test_a_server_with_limits_starts_again(machine: Machine) -> None:
    """Also after all its processes were killed, which leave their controllers on."""
    machine.do("systemctl", "kill", "--signal=KILL", SERVER)
    with ExitStack() as stack:
        open_session(machine, stack, SERVER_PORT)
        machine.do("systemctl", "restart", SERVER)
        open_session(machine, stack, SERVER_PORT)
        assert len(session_groups(machine, "pids.max", "3")) == 1
    machine.do("systemctl", "stop", SERVER_SOCKET, SERVER)
    machine.path(f"/run/systemd/system/{SERVER_SOCKET}.d/test.conf").unlink()
    machine.do("systemctl", "daemon-reload")


def test_cpu_of_all_together(machine: Machine) -> None:
    """As in test_ctl_limits.py, but for longer because an emulated clock is coarse."""
    program(machine, f"input()\n{SPINNER}")
    with ExitStack() as stack:
        both = [open_session(machine, stack) for _ in range(2)]
        ctl(machine, "limit", "--cpu-quota", "20%")
        for peer in both:
            # before this, the command would have to share the quota with the sessions
            peer.send(1)
        periods, throttled, spent = enforced(machine, 100)
    share = 0.2 * 0.1  # CPU seconds per period
    assert spent < (1 + TOLERANCE) * share * periods
    assert spent > (1 - TOLERANCE) * share * throttled
