"""What only cgroup v2 does, or does in another way; test_unified_live.py runs this.

Law: what chimirror says is compared with what systemd and the kernel say.
"""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from machine import Machine
from operators import ctl, open_all, told
from peers import Closed
from sessions import echo, gone, invocation, only_session, open_session
from settling import until
from test_ctl_limits_live import SPINNER, TOLERANCE, bandwidth

pytestmark = pytest.mark.timeout(300)

OUT_OF_MEMORY = "fe6faa94e7774663a0da52717891d8ef"  # systemd's sd-messages.h
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


def program(machine: Machine, text: str) -> None:
    machine.write("/opt/trial.py", text)
    machine.configure("/usr/bin/python3", "/opt/trial.py")


def shown(machine: Machine, unit: str, name: str) -> str:
    return machine.do("systemctl", "show", "--value", "-p", name, unit).strip()


def counted(machine: Machine, unit: str, file: str) -> dict[str, int]:
    """A file of the unit's cgroup that has names and numbers."""
    lines = (machine.slice() / unit / file).read_text().splitlines()
    return {name: int(number) for name, number in map(str.split, lines)}


def test_the_kernel_tells_of_memory(machine: Machine) -> None:
    """systemd, which hears it from the kernel too, says so of the same unit."""
    program(machine, EATER)
    ctl(machine, "limit", "--session-memory-max", "48M")
    with ExitStack() as stack:
        peer = open_session(machine, stack)
        unit = only_session(machine)
        session = invocation(machine, unit)
        peer.send(1)
        peer.send(2)
        assert peer.receive() == Closed(1011, "out of memory")
        assert counted(machine, unit, "memory.events")["oom_kill"] == 1
        assert shown(machine, unit, "Result") == "success"  # OOMPolicy=continue
    gone(machine)
    assert machine.journal(MESSAGE_ID=OUT_OF_MEMORY, INVOCATION_ID=session)


def test_memory_that_is_slowed_down(machine: Machine) -> None:
    """MemoryHigh= is no end: the session goes on."""
    program(machine, GROWING)
    machine.drop_in("chimirror@.service", "Service", "MemoryHigh=32M")
    with ExitStack() as stack:
        peer = open_session(machine, stack)
        unit = only_session(machine)
        while counted(machine, unit, "memory.events")["high"] == 0:
            peer.send(1)
            assert peer.output(5) == b"more\n"
        peer.send(1)
        assert peer.output(5) == b"more\n"
        assert counted(machine, unit, "memory.events")["oom_kill"] == 0


def test_figures_are_those_of_systemd(machine: Machine) -> None:
    assert machine.cgroups == "unified"
    machine.configure("/usr/bin/cat")
    with ExitStack() as stack:
        peer = open_session(machine, stack)
        unit = only_session(machine)
        before = int(shown(machine, unit, "CPUUsageNSec")) / 1e9
        one = told(machine, "show", open_all(machine, 1)[0]["id"])
        after = int(shown(machine, unit, "CPUUsageNSec")) / 1e9
        assert 0 < before <= one["cpu"] + 1e-6
        assert one["cpu"] <= after + 1e-6
        assert one["tasks"] == int(shown(machine, unit, "TasksCurrent")) == 2
        assert 0 < one["memory"] < one["memory_max"] == 512 << 20
        assert one["tasks_max"] == 256
        echo(peer)


def test_cpu_of_all_together(machine: Machine) -> None:
    """As in test_ctl_limits_live.py; longer, since an emulated clock is coarse."""
    program(machine, SPINNER)
    with ExitStack() as stack:
        for _ in range(2):
            open_session(machine, stack)
        ctl(machine, "limit", "--cpu-quota", "20%")
        until(lambda: bandwidth(machine)[1] > 0, "a first throttling")
        before = bandwidth(machine)
        until(lambda: bandwidth(machine)[0] >= before[0] + 100, "100 periods", 120)
        after = bandwidth(machine)
        ctl(machine, "limit", "--cpu-quota", "default")
    periods, throttled, spent = (b - a for a, b in zip(before, after, strict=True))
    share = 0.2 * 0.1  # seconds of a period
    assert throttled > 0
    assert spent < (1 + TOLERANCE) * share * periods
    assert spent > (1 - TOLERANCE) * share * throttled
