"""chimirror-agent.socket on a machine with a real systemd, and a real HAProxy."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from ctl_on_machine import await_open_sessions, ctl
from haproxy_on_machine import BALANCED_PORT, haproxy, server_state
from machine_sessions import (
    SERVER,
    SERVER_PORT,
    echo,
    open_session,
    serve_many,
    wait_until_idle,
)
from processes import until
from systemd_machine import Machine
from websocket_peer import Peer, upgrade

pytestmark = pytest.mark.timeout(300)

AGENT_PORT = 30758


@pytest.fixture
def machine(machine: Machine) -> Machine:
    """The machine, which serves `cat` and answers agent-checks."""
    machine.configure("/usr/bin/cat")
    machine.do("systemctl", "start", "chimirror-agent.socket")
    return machine


def answer(machine: Machine) -> str:
    """Ask as HAProxy does: connect, and read to the end."""
    with machine.connect(AGENT_PORT) as link, link.makefile() as lines:
        return lines.read()


def test_the_capacity_that_is_left(machine: Machine) -> None:
    assert answer(machine) == "ready up 100%\n"
    ctl(machine, "limit", "--runtime", "--sessions", "4")
    with ExitStack() as stack:
        for left in (75, 50, 25, 0):
            echo(open_session(machine, stack))
            assert answer(machine) == f"ready up {left}%\n"
    wait_until_idle(machine)
    assert answer(machine) == "ready up 100%\n"
    # Its instances are no sessions.
    assert ctl(machine, "sessions").count("\n") == 1


def test_the_tasks_of_all_sessions(machine: Machine) -> None:
    ctl(machine, "limit", "--runtime", "--tasks-max", "100")
    with ExitStack() as stack:
        for _ in range(10):
            echo(open_session(machine, stack))  # a bridge and a cat
        share = int(answer(machine).removeprefix("ready up ").removesuffix("%\n"))
        # The agent itself is a task, and its systemctl another one.
        assert 75 <= share <= 80
    wait_until_idle(machine)


def test_drained_and_stopped(machine: Machine) -> None:
    ctl(machine, "drain")
    assert answer(machine) == "drain\n"
    ctl(machine, "undrain")
    assert answer(machine) == "ready up 100%\n"
    machine.do("systemctl", "stop", "chimirror.socket")
    assert answer(machine) == "stopped\n"
    machine.do("systemctl", "start", "chimirror.socket")
    assert answer(machine) == "ready up 100%\n"


def test_a_server_beside_the_bridges(machine: Machine) -> None:
    serve_many(machine)
    machine.do("systemctl", "stop", "chimirror.socket")
    assert answer(machine) == "ready up 100%\n"
    ctl(machine, "limit", "--runtime", "--sessions", "4")
    with ExitStack() as stack:
        echo(open_session(machine, stack, SERVER_PORT))
        until(lambda: answer(machine) == "ready up 75%\n", "a share of the server")
        ctl(machine, "drain")
        until(lambda: answer(machine) == "drain\n", "a server that drains")
        ctl(machine, "undrain")
        until(lambda: answer(machine) == "ready up 75%\n", "a server that does not")
    machine.do("systemctl", "stop", SERVER, "chimirror-server.socket")
    assert answer(machine) == "stopped\n"


def test_an_agent_leaves_nothing(machine: Machine) -> None:
    for _ in range(3):
        answer(machine)
    until(lambda: "chimirror-agent@" not in units(machine), "the end of the agents")
    told = machine.journal(SYSLOG_IDENTIFIER="systemd")
    assert not [one for one in told if "chimirror-agent@" in one.get("UNIT", "")]


def units(machine: Machine) -> str:
    return machine.do("systemctl", "list-units", "--all", "chimirror*")


def test_haproxy_drains_and_comes_back(machine: Machine) -> None:
    with haproxy(machine), ExitStack() as stack:
        peer = open_session(machine, stack, BALANCED_PORT)
        echo(peer)
        assert server_state(machine)["weight"] == "100"
        ctl(machine, "drain")
        until(lambda: "DRAIN" in server_state(machine)["status"], "a drained server")
        with Peer(machine.connect(BALANCED_PORT)) as late:
            late.send_raw(upgrade("/", "json", ()))
            assert late.head().status == 503
        echo(peer)
        ctl(machine, "undrain")
        until(lambda: "DRAIN" not in server_state(machine)["status"], "traffic again")
        echo(open_session(machine, stack, BALANCED_PORT))
        ctl(machine, "limit", "--runtime", "--sessions", "2")
        until(lambda: server_state(machine)["weight"] == "0", "a full host")
        with Peer(machine.connect(BALANCED_PORT)) as late:
            late.send_raw(upgrade("/", "json", ()))
            assert late.head().status == 503
        echo(peer)
        await_open_sessions(machine, 2)
    wait_until_idle(machine)
