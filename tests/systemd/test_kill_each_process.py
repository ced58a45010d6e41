"""Tests kill -9 of each kind of process, from outside the machine, without warning.

Afterwards no process of its sessions is left in the control group, other sessions have
noticed nothing and the socket accepts. `chimirror-ctl history` has a row with the cause
for each session.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from machine_sessions import (
    SERVER,
    SERVER_PORT,
    await_named,
    closed_abruptly,
    echo,
    ended,
    how_closed,
    invocation,
    main_process,
    named,
    open_session,
    outer_pid,
    own_address,
    serve_many,
    started,
    zygote_application,
)
from processes import until
from systemd_machine import Machine
from websocket_peer import Closed, Peer

pytestmark = pytest.mark.timeout(300)

ZYGOTE = "chimirror-zygote.service"
CAT = "/usr/bin/cat"
OFTEN = 7  # more than systemd's StartLimitBurst= allows


@pytest.fixture
def server(machine: Machine) -> Machine:
    serve_many(machine)
    return machine


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}").exists(), f"{pid} is reaped")


def kill_main(machine: Machine, unit: str) -> None:
    """Kill the main process of a unit. All its processes must end."""
    before = set(machine.processes(unit))
    kill(main_process(machine, unit))
    until(lambda: not before & set(machine.processes(unit)), "all are gone")


def told(machine: Machine, *words: str) -> Any:
    return json.loads(machine.do("chimirror-ctl", *words, "--json"))


def await_past(
    machine: Machine,
    end: str,
    reason: str,
    *sessions: str,
    other: tuple[str, str] | None = None,
) -> None:
    """Wait for the ends of sessions in the history. `stats` must agree.

    An application may have ended before the cause is recorded, which another process
    writes.

    Args:
        machine: the machine.
        end: exit that the history tells of each session.
        reason: why it ended.
        sessions: their ids.
        other: another exit and reason that any of them may have.
    """
    rows: list[Any] = []

    def ask() -> bool:
        machine.do("journalctl", "--sync")
        rows[:] = told(machine, "history", "--since", "1h")
        ours = [one for one in rows if one["id"] in sessions]
        ends = [(one["exit"], one["reason"]) for one in ours]
        return len(ends) == len(sessions) and {*ends} <= {(end, reason), other}

    until(ask, f"{end}, {reason} of each of {sessions} in the history")
    assert all(row["duration"] > 0 for row in rows if row["id"] in sessions)
    causes = told(machine, "stats")["causes"]
    counts = {one["cause"]: one["count"] for one in causes if one["kind"] == "ended"}
    assert counts == Counter(one["reason"] for one in rows)


# chimirror@.service


@pytest.mark.parametrize("whom", ["bridge", "application"])
def test_in_a_unit_of_its_own(machine: Machine, whom: str) -> None:
    machine.configure(CAT)
    with ExitStack() as stack:
        neighbour = open_session(machine, stack)
        known = set(machine.sessions())
        peer = open_session(machine, stack)
        (unit,) = set(machine.sessions()) - known
        session = invocation(machine, unit)
        started(machine, session)
        (application,) = await_named(machine, unit, "cat")
        (bridge,) = set(machine.processes(unit)) - {application}
        if whom == "bridge":
            kill(bridge)
            assert closed_abruptly(peer)
        else:
            kill(application)
            assert peer.receive() == Closed(1011, "signal KILL")
            assert ended(machine, session)["CHIMIRROR_EXIT"] == "signal KILL"
        until(lambda: machine.sessions() == sorted(known), "its unit is gone")
        until(lambda: not Path(f"/proc/{application}").exists(), "all are reaped")
        end, reason = {
            "bridge": ("bridge signal KILL", "lost: signal"),
            "application": ("signal KILL", "signal KILL"),
        }[whom]
        await_past(machine, end, reason, session)
        echo(neighbour)
        echo(open_session(machine, stack))


def test_the_next_of_its_number_takes_away_what_a_bridge_left(machine: Machine) -> None:
    only = "/opt/chimirror/bin/chimirror-bridge --user-range 1879048192-1879048192"
    override = ("ExecStart=", f"ExecStart={only} -- {CAT}")
    machine.drop_in("chimirror@.service", "Service", *override)

    def status(session: str) -> Path:
        return machine.path(f"/run/chimirror/sessions/{session}")

    left = ""
    with ExitStack() as stack:
        for _ in range(3):
            open_session(machine, stack)
            (unit,) = machine.sessions()
            session = invocation(machine, unit)
            until(status(session).exists, "its status")
            left_there = {one.name.partition(".")[0] for one in status("").iterdir()}
            assert left_there == {session}
            assert session != left
            left = session
            kill(main_process(machine, unit))
            until(lambda: not machine.sessions(), "its unit is gone")
            assert status(left).exists()


def test_a_bridge_that_has_written_nothing(machine: Machine) -> None:
    """The status file of a session stays while it lives and goes when it is killed."""
    machine.configure(CAT)
    with ExitStack() as stack:
        open_session(machine, stack)
        (unit,) = machine.sessions()
        session = invocation(machine, unit)
        file = machine.path(f"/run/chimirror/sessions/{session}")
        until(lambda: file.exists() and file.stat().st_size > 0, "its status")
        os.truncate(file, 0)  # as between the creation of the file and the first write
        (one,) = told(machine, "sessions")
        assert (one["id"], one["state"]) == (session, "unknown")
        assert file.exists()
        kill(main_process(machine, unit))
        until(lambda: not machine.sessions(), "its unit is gone")
        assert told(machine, "sessions") == []
        assert not file.exists()
        assert not file.with_suffix(".control").exists()


# chimirror-server.service


def open_server_sessions(machine: Machine, stack: ExitStack) -> dict[str, Peer]:
    """Open sessions of the server. Returns them by id, from more than one worker."""
    peers: dict[str, Peer] = {}
    for _ in range(8):
        peer = open_session(machine, stack, SERVER_PORT)
        echo(peer)
        peers[own_address(peer)] = peer
    return {one["id"]: peers[one["peer"]] for one in told(machine, "sessions")}


def test_a_worker(server: Machine) -> None:
    with ExitStack() as stack:
        peers = open_server_sessions(server, stack)
        workers = {one["id"]: one["pid"] for one in told(server, "sessions")}
        victim = next(iter(workers.values()))
        lost = {session for session, pid in workers.items() if pid == victim}
        kill(outer_pid(server, SERVER, victim))
        for session in lost:
            assert closed_abruptly(peers.pop(session))
        until(
            lambda: len(named(server, SERVER, "cat")) == len(peers), "the others' end"
        )
        await_past(server, "worker signal KILL", "lost: signal", *lost)
        for peer in peers.values():
            echo(peer)
        echo(open_session(server, stack, SERVER_PORT))


def test_the_supervisor(machine: Machine) -> None:
    """Workers drain without a supervisor, and systemd kills them at any time later.

    Each application has a cgroup of its own. Systemd may kill it before its worker,
    which then has the time to tell.
    """
    killed = "signal KILL"
    serve_many(machine, "--drain-timeout 1h")
    with ExitStack() as stack:
        peers = open_server_sessions(machine, stack)
        kill_main(machine, SERVER)
        for peer in peers.values():
            assert how_closed(peer) in (None, Closed(1011, killed))
        lost = "server signal KILL", "lost: signal"
        await_past(machine, *lost, *peers, other=(killed, killed))
        echo(open_session(machine, stack, SERVER_PORT))


def test_the_supervisor_again_and_again(server: Machine) -> None:
    server.drop_in(SERVER, "Service", "RestartSec=0")
    with ExitStack() as stack:
        for _ in range(OFTEN):
            echo(open_session(server, stack, SERVER_PORT))
            kill_main(server, SERVER)
        echo(open_session(server, stack, SERVER_PORT))
    assert server.state("chimirror-server.socket") == "active"


def test_the_zygote_of_a_server(server: Machine) -> None:
    with ExitStack() as stack:
        peers = open_server_sessions(server, stack)
        (victim,) = named(server, SERVER, "zygote")
        kill(victim)
        for peer in peers.values():
            echo(peer)
        until(lambda: named(server, SERVER, "zygote"), "another zygote")
        echo(open_session(server, stack, SERVER_PORT))
        for peer in peers.values():
            peer.send_close()
            assert isinstance(peer.receive(), Closed)
        await_past(server, "exit 0", "client close 1000", *peers)


def test_an_application_of_a_server(server: Machine) -> None:
    with ExitStack() as stack:
        peers = open_server_sessions(server, stack)
        (one, *_) = told(server, "sessions")
        kill(outer_pid(server, SERVER, one["application_pid"]))
        peer = peers.pop(one["id"])
        assert peer.receive() == Closed(1011, "signal KILL")
        await_past(server, "signal KILL", "signal KILL", one["id"])
        for other in peers.values():
            echo(other)
        assert len(named(server, SERVER, "cat")) == len(peers)


# chimirror-zygote.service


@pytest.mark.parametrize("times", [1, OFTEN])
def test_the_zygote_alone(machine: Machine, times: int) -> None:
    """The application is not a session: a client has its pipes and reads their ends."""
    machine.drop_in(ZYGOTE, "Service", "RestartSec=0")
    machine.configure(CHIMIRROR_ZYGOTE="-- /usr/bin/cat")
    machine.do("systemctl", "start", "chimirror-zygote.socket")
    for _ in range(times):
        with zygote_application(machine) as pipes:
            until(lambda: named(machine, ZYGOTE, "cat"), "its application")
            kill_main(machine, ZYGOTE)
            assert os.read(pipes[1], 1) == b""
    with zygote_application(machine) as pipes:
        os.write(pipes[0], b"hello")
        assert os.read(pipes[1], 5) == b"hello"
    assert machine.state("chimirror-zygote.socket") == "active"
