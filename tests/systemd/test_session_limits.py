"""Tests that the limits of a session's unit affect this session only.

Each limit is set by a drop-in, as an operator does. The reports to the client and to
the journal are compared. The programs that reach the limits are files below.
"""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from machine_sessions import echo, ended, invocation, open_session, wait_until_idle
from processes import until
from systemd_machine import Machine
from websocket_peer import Closed

pytestmark = pytest.mark.timeout(300)

EATER = """
print("ready", flush=True)
input()
held = []
while True:
    held.append(bytearray(b"x") * (1 << 20))
"""
BOMB = """
import os, time
born = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(1000)
        born += 1
except OSError:
    print(born, flush=True)
input()
"""
SPINNER = """
import time
began, used = time.monotonic(), time.process_time()
while time.process_time() - used < 0.5:
    pass
print(time.monotonic() - began, flush=True)
"""


def program(machine: Machine, text: str) -> tuple[str, str]:
    machine.write("/usr/local/lib/trial.py", text)
    return "/usr/bin/python3", "/usr/local/lib/trial.py"


def test_memory_ends_the_application_alone(machine: Machine) -> None:
    machine.drop_in("chimirror@.service", "Service", "MemoryMax=48M")
    machine.configure("/usr/bin/cat")
    with ExitStack() as stack:
        neighbour = open_session(machine, stack)
        known = set(machine.sessions())
        machine.configure(*program(machine, EATER))
        peer = open_session(machine, stack)
        assert peer.output(6) == b"ready\n"
        (unit,) = set(machine.sessions()) - known
        session = invocation(machine, unit)
        peer.send("go")
        assert peer.receive() == Closed(1011, "out of memory")
        assert ended(machine, session)["CHIMIRROR_REASON"] == "out of memory"
        echo(neighbour)


def test_a_fork_bomb_stays_inside(machine: Machine) -> None:
    machine.drop_in("chimirror@.service", "Service", "TasksMax=30")
    machine.configure(*program(machine, BOMB))
    with ExitStack() as stack:
        peer = open_session(machine, stack)
        assert 20 < int(peer.output(3)) < 30
        (unit,) = machine.sessions()
        assert len(machine.processes(unit)) == 30
        machine.configure("/usr/bin/cat")
        echo(open_session(machine, stack))
        peer.send_close()
        assert isinstance(peer.receive(), Closed)
        until(lambda: not machine.processes(unit), "the bomb is gone")
    wait_until_idle(machine)


def test_cpu_quota(machine: Machine) -> None:
    """Half a second of CPU work takes its time: at most 20 % less, more under load."""
    machine.drop_in("chimirror@.service", "Service", "CPUQuota=20%")
    machine.configure(*program(machine, SPINNER))
    with ExitStack() as stack:
        story = open_session(machine, stack).transcript()
    assert story.closed == Closed(1000, "exit 0")
    assert float(story.stdout) > 0.5 / (0.2 * 1.2)
