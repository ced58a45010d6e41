"""Tests that need cgroup v2, run in an emulated machine by test_cgroup_v2.py.

Figures and messages of chimirror are compared with those of systemd and the kernel. In
the emulated machine a command takes seconds, so there are few commands. The fixture
does not reset the machine: each test leaves the machine as it was, except the last two,
which set lasting limits.
"""

from __future__ import annotations

from contextlib import ExitStack

import pytest

import processes
import websocket_peer
from cpu_quota import SPINNER, TOLERANCE, enforced
from ctl_on_machine import ctl, ctl_json
from machine_sessions import echo, only_session, open_session
from processes import until
from systemd_machine import Machine
from websocket_peer import Closed

pytestmark = pytest.mark.timeout(600)
websocket_peer.PATIENCE = processes.PATIENCE = 300.0  # seconds

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
