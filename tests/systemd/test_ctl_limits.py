"""Tests that every limit that chimirror-ctl sets takes effect, with a real systemd.

The effect is read from the kernel or met by a client. chimirror-ctl and the journal
must report the cause correctly. The programs that reach the limits are files below.
"""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from cpu_quota import SPINNER, TOLERANCE, controller, enforced
from ctl_on_machine import await_open_sessions, ctl, ctl_history, ctl_json
from machine_sessions import (
    SERVER,
    SERVER_PORT,
    echo,
    ended,
    open_session,
    own_address,
    refused,
    serve_many,
    wait_until_idle,
)
from processes import until
from systemd_machine import PORT, Machine, restarted
from websocket_peer import Closed, FrameViolation, Peer

pytestmark = pytest.mark.timeout(300)

CAT = "/usr/bin/cat"
EATER = """\
import sys
eaten = [bytearray(64 << 20) for line in sys.stdin]
"""
BOMB = """\
import os, sys, time
print("ready", flush=True)
sys.stdin.readline()
try:
    while os.fork():
        pass
    time.sleep(600)
except OSError:
    print("enough", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def machine(machine: Machine) -> Machine:
    """The machine, which serves `cat`."""
    machine.configure(CAT)
    return machine


def limit(machine: Machine, *words: str) -> str:
    return ctl(machine, "limit", *words)


def limits(machine: Machine) -> dict[str, tuple[object, str]]:
    return {
        one["limit"]: (one["value"], one["set"]) for one in ctl_json(machine, "limits")
    }


def used(machine: Machine, name: str) -> float | None:
    (found,) = (
        one["used"] for one in ctl_json(machine, "limits") if one["limit"] == name
    )
    assert found is None or isinstance(found, int | float)
    return found


def refusal(
    machine: Machine, stack: ExitStack, port: int = PORT, source: str = "127.0.0.1"
) -> str:
    """Return the cause for which the next connection is rejected."""
    late = stack.enter_context(Peer(machine.connect(port, source)))
    reply = late.open()
    assert reply.status == 503
    assert int(reply.fields["retry-after"]) > 0
    return refused(machine, late)["CHIMIRROR_CAUSE"]


def program(machine: Machine, text: str) -> None:
    machine.write("/opt/trial.py", text)
    machine.configure("/usr/bin/python3", "/opt/trial.py")


# How long a limit lasts


def memory_limit(machine: Machine) -> int:
    """Return the memory limit of the slice, from the kernel."""
    name = "max" if machine.cgroups == "unified" else "limit_in_bytes"
    text = (controller(machine, "memory") / f"memory.{name}").read_text().strip()
    return 1 << 62 if text == "max" else int(text)


def answers(machine: Machine) -> bool:
    """Return True if systemd listens, as it does some time after a daemon-reexec."""
    return machine.run("systemctl", "show", "--property=Version").returncode == 0


def test_limits_that_last_and_limits_that_do_not(machine: Machine) -> None:
    limit(machine, *"--memory-max 3G --tasks-max 3000 --cpu-quota 150%".split())
    limit(machine, *"--session-timeout 1h --sessions-per-source 99".split())
    limit(machine, "--runtime", *"--memory-max 1G --sessions 7".split())
    lasting = {
        "tasks-max": (3000, "persistent"),
        "cpu-quota": (1.5, "persistent"),
        "session-timeout": (3600, "persistent"),
        "sessions-per-source": (99, "persistent"),
        "session-memory-max": (512 << 20, "unit"),
        "server-session-timeout": (3600, "persistent"),
        "server-sessions-per-source": (99, "persistent"),
    }
    passing = {
        "memory-max": (1 << 30, "runtime"),
        "sessions": (7, "runtime"),
        "connections": (71, "runtime"),
        "server-sessions": (7, "runtime"),
    }
    with ExitStack() as stack:
        peer = open_session(machine, stack)
        for words in ([], ["daemon-reload"], ["daemon-reexec"]):
            if words:
                machine.do("systemctl", *words)
                until(lambda: answers(machine), "systemd answers")
            held = limits(machine)
            assert {**held, **lasting, **passing} == held
            assert memory_limit(machine) == 1 << 30
            echo(peer)
    with restarted(machine) as again, ExitStack() as stack:
        echo(open_session(again, stack))
        held = limits(again)
        assert {**held, **lasting} == held
        assert held["memory-max"] == (3 << 30, "persistent")
        assert held["sessions"] == (1000, "unit")
        assert held["connections"] == (1200, "unit")
        assert held["server-sessions"] == (None, "unit")
        assert memory_limit(again) == 3 << 30
        limit(again, "--memory-max", "default")
        assert memory_limit(again) > 1 << 60


# All sessions together


def test_tasks_of_all_together(machine: Machine) -> None:
    """While no task is free, no session starts and clients are rejected."""
    program(machine, BOMB)
    limit(machine, "--tasks-max", "40")
    with ExitStack() as stack:
        neighbour = open_session(machine, stack)
        assert neighbour.output(6) == b"ready\n"
        bomb = open_session(machine, stack)
        assert bomb.output(6) == b"ready\n"
        bomb.send({})
        assert bomb.output(7) == b"enough\n"
        assert used(machine, "tasks-max") == 40
        assert refusal(machine, stack) == "start-shortage"
        bomb.close()
        tasks = controller(machine, "pids") / "pids.current"
        until(lambda: int(tasks.read_text()) == 2, "room again")
        neighbour.send({})  # now it starts as many tasks itself
        assert neighbour.output(7) == b"enough\n"
    wait_until_idle(machine)


def test_memory_of_all_together(machine: Machine) -> None:
    """The largest application is killed, and other sessions go on."""
    with ExitStack() as stack:
        neighbour = open_session(machine, stack)
        program(machine, EATER)
        hungry = open_session(machine, stack)
        seen = {one["peer"]: one["id"] for one in await_open_sessions(machine, 2)}
        limit(machine, "--memory-max", "96M")
        hungry.send({})
        hungry.send({})
        assert hungry.receive() == Closed(1011, "out of memory")
        session = seen[own_address(hungry)]
        assert ended(machine, session)["CHIMIRROR_EXIT"] == "signal KILL"
        assert ctl_history(machine)[session]["reason"] == "out of memory"
        echo(neighbour)


def test_cpu_of_all_together(machine: Machine) -> None:
    """Time is counted in periods of the kernel.

    In a period in which they are throttled, sessions have used their full quota.
    """
    program(machine, SPINNER)
    with ExitStack() as stack:
        for _ in range(2):
            open_session(machine, stack)
        limit(machine, "--cpu-quota", "20%")
        periods, throttled, spent = enforced(machine, 25)
        share = 0.2 * 0.1  # CPU seconds per period
        assert spent < (1 + TOLERANCE) * share * periods
        assert spent > (1 - TOLERANCE) * share * throttled
        # The sample has only a few periods, and one of them may exceed the quota.
        until(lambda: 0 < (used(machine, "cpu-quota") or 0) < 0.3, "use of the quota")


# Limits of each session


def test_the_session_timeout_and_the_cap(machine: Machine) -> None:
    with ExitStack() as stack:
        before = open_session(machine, stack)
        limit(machine, "--sessions", "2")
        with open_session(machine, stack):
            assert refusal(machine, stack) == "max-sessions"
        until(lambda: len(machine.sessions()) == 1, "room for a session")
        limit(machine, "--session-timeout", "300ms")
        short = open_session(machine, stack)
        assert short.receive() == Closed(1001, "time")
        until(lambda: reasons(machine, short) == ["time"], "its end in the journal")
        echo(before)  # started before the limit


def reasons(machine: Machine, peer: Peer) -> list[str]:
    """Return the reasons of ended sessions of a client."""
    rows = ctl_history(machine, "--peer", own_address(peer)).values()
    return [row["reason"] for row in rows]


def test_sessions_of_one_address(machine: Machine) -> None:
    limit(machine, "--sessions-per-source", "2")
    with ExitStack() as stack:
        for _ in range(2):
            open_session(machine, stack)
        late = stack.enter_context(Peer(machine.connect()))
        with pytest.raises((ConnectionResetError, BrokenPipeError, FrameViolation)):
            late.open()
        assert len(machine.sessions()) == 2


def test_memory_of_a_session(machine: Machine) -> None:
    """Only the application ends. The bridge lives and reports the cause."""
    program(machine, EATER)
    limit(machine, "--session-memory-max", "48M")
    with ExitStack() as stack:
        hungry, modest = open_session(machine, stack), open_session(machine, stack)
        seen = {one["peer"]: one["id"] for one in await_open_sessions(machine, 2)}
        hungry.send({"eat": 1})
        assert hungry.receive() == Closed(1011, "out of memory")
        session = seen[own_address(hungry)]
        assert ended(machine, session)["CHIMIRROR_REASON"] == "out of memory"
        row = ctl_history(machine)[session]
        assert (row["reason"], row["exit"]) == ("out of memory", "signal KILL")
        assert [one["peer"] for one in await_open_sessions(machine, 1)] == [
            own_address(modest)
        ]


def test_tasks_of_a_session(machine: Machine) -> None:
    """A fork bomb is contained and reported, and other sessions go on."""
    with ExitStack() as stack:
        neighbour = open_session(machine, stack)
        program(machine, BOMB)
        limit(machine, "--session-tasks-max", "20")
        bomb = open_session(machine, stack)
        bomb.send({})
        assert bomb.output(13) == b"ready\nenough\n"
        tasks = {one["peer"]: one["tasks"] for one in ctl_json(machine, "sessions")}
        assert tasks == {own_address(neighbour): 2, own_address(bomb): 20}
        assert limits(machine)["session-tasks-max"] == (20, "persistent")
        assert used(machine, "session-tasks-max") == 20
        echo(neighbour)
        ctl(machine, "kill", ctl_json(machine, "sessions")[-1]["id"])
        assert bomb.receive() == Closed(1001, "killed by operator")
        echo(neighbour)
    wait_until_idle(machine)


# Limits of the server


def test_the_server_has_them_from_its_start(machine: Machine) -> None:
    serve_many(machine)
    with ExitStack() as stack:
        peer = open_session(machine, stack, SERVER_PORT)
        words = "--sessions 3 --sessions-per-source 2 --session-timeout 2h"
        said = limit(machine, *words.split())
        assert f"systemctl restart {SERVER}" in said
        held = limits(machine)
        assert held["server-sessions"] == (None, "outdated")
        assert used(machine, "server-sessions") == 1
        open_session(machine, stack, SERVER_PORT)
        open_session(machine, stack, SERVER_PORT)
        machine.do("systemctl", "restart", "--no-block", SERVER)
        assert peer.receive() == Closed(1001, "drain")
    # Until it has ended, the old server answers 503. This waits for the restart.
    machine.do("systemctl", "start", SERVER)
    with ExitStack() as stack:
        for _ in range(2):
            echo(open_session(machine, stack, SERVER_PORT))
        assert refusal(machine, stack, SERVER_PORT) == "max-sessions-per-source"
        held = limits(machine)
        assert held["server-sessions"] == (3, "persistent")
        assert held["server-sessions-per-source"] == (2, "persistent")
        assert held["server-session-timeout"] == (7200, "persistent")
        assert used(machine, "server-sessions-per-source") == 2
        other = "127.0.0.2"
        echo(open_session(machine, stack, SERVER_PORT, other))
        assert refusal(machine, stack, SERVER_PORT, other) == "max-sessions"
        limit(machine, "--runtime", "--sessions", "1", "--session-timeout", "300ms")
        machine.do("systemctl", "restart", SERVER)
    with ExitStack() as stack:
        short = open_session(machine, stack, SERVER_PORT)
        assert short.receive() == Closed(1001, "time")
        assert limits(machine)["server-sessions"] == (1, "runtime")
        until(lambda: reasons(machine, short) == ["time"], "its end in the journal")
