"""kill -9 of each process there is: what is left, who tells of it, what goes on.

Law: one process is killed from outside the machine, without warning. Then nothing of
its sessions is left in the control group, others have noticed nothing, the socket
accepts, and chimirror-ctl history has a row for each session, with the cause.
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

from machine import Machine
from peers import Closed, Peer
from sessions import (
    SERVER,
    SERVER_PORT,
    echo,
    ended,
    guest,
    invocation,
    main_process,
    named,
    open_session,
    outside,
    own_address,
    serve_many,
    started,
    vanished,
)
from settling import until

pytestmark = pytest.mark.timeout(120)

ZYGOTE = "chimirror-zygote.service"
CAT = "/usr/bin/cat"
OFTEN = 7  # more than StartLimitBurst= of systemd would bear


@pytest.fixture
def server(machine: Machine) -> Machine:
    serve_many(machine)
    return machine


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}").exists(), f"{pid} is reaped")


def kill_main(machine: Machine, unit: str) -> None:
    """The process that systemd has started; nothing of what it had is left."""
    before = set(machine.processes(unit))
    kill(main_process(machine, unit))
    until(lambda: not before & set(machine.processes(unit)), "all are gone")


def told(machine: Machine, *words: str) -> Any:
    return json.loads(machine.do("chimirror-ctl", *words, "--json"))


def past(machine: Machine, session: str) -> tuple[str, str]:
    """Exit and reason of a session, as history has them, and stats counts them."""
    machine.do("journalctl", "--sync")
    rows = told(machine, "history", "--since", "1h")
    (row,) = [one for one in rows if one["id"] == session]
    assert row["duration"] > 0
    causes = told(machine, "stats")["causes"]
    ends = {one["cause"]: one["count"] for one in causes if one["kind"] == "ended"}
    assert ends == Counter(one["reason"] for one in rows)
    return row["exit"], row["reason"]


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
        (application,) = named(machine, unit, "cat")
        (bridge,) = set(machine.processes(unit)) - {application}
        if whom == "bridge":
            kill(bridge)
            assert vanished(peer)
        else:
            kill(application)
            assert peer.receive() == Closed(1011, "signal KILL")
            assert ended(machine, session)["CHIMIRROR_EXIT"] == "signal KILL"
        until(lambda: machine.sessions() == sorted(known), "its unit is gone")
        until(lambda: not Path(f"/proc/{application}").exists(), "all are reaped")
        assert (
            past(machine, session)
            == {
                "bridge": ("bridge signal KILL", "lost: signal"),
                "application": ("signal KILL", "signal KILL"),
            }[whom]
        )
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
    """Its file stays while it lives, and goes when it has been killed."""
    machine.configure(CAT)
    with ExitStack() as stack:
        open_session(machine, stack)
        (unit,) = machine.sessions()
        session = invocation(machine, unit)
        file = machine.path(f"/run/chimirror/sessions/{session}")
        until(lambda: file.exists() and file.stat().st_size > 0, "its status")
        os.truncate(file, 0)  # as between its making and the first writing
        (one,) = told(machine, "sessions")
        assert (one["id"], one["state"]) == (session, "unknown")
        assert file.exists()
        kill(main_process(machine, unit))
        until(lambda: not machine.sessions(), "its unit is gone")
        assert told(machine, "sessions") == []
        assert not file.exists()
        assert not file.with_suffix(".control").exists()


# chimirror-server.service


def crowd(machine: Machine, stack: ExitStack) -> dict[str, Peer]:
    """Sessions of the server, by their ids; of more than one worker, if it has them."""
    peers: dict[str, Peer] = {}
    for _ in range(8):
        peer = open_session(machine, stack, SERVER_PORT)
        echo(peer)
        peers[own_address(peer)] = peer
    return {one["id"]: peers[one["peer"]] for one in told(machine, "sessions")}


def test_a_worker(server: Machine) -> None:
    with ExitStack() as stack:
        peers = crowd(server, stack)
        workers = {one["id"]: one["pid"] for one in told(server, "sessions")}
        victim = next(iter(workers.values()))
        lost = {session for session, pid in workers.items() if pid == victim}
        kill(outside(server, SERVER, victim))
        for session in lost:
            assert vanished(peers.pop(session))
        until(
            lambda: len(named(server, SERVER, "cat")) == len(peers), "the others' end"
        )
        for session in lost:
            assert past(server, session) == ("worker signal KILL", "lost: signal")
        for peer in peers.values():
            echo(peer)
        echo(open_session(server, stack, SERVER_PORT))


def test_the_supervisor(server: Machine) -> None:
    with ExitStack() as stack:
        peers = crowd(server, stack)
        kill_main(server, SERVER)
        for peer in peers.values():
            assert vanished(peer)
        for session in peers:
            assert past(server, session) == ("server signal KILL", "lost: signal")
        echo(open_session(server, stack, SERVER_PORT))


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
        peers = crowd(server, stack)
        (victim,) = named(server, SERVER, "zygote")
        kill(victim)
        for peer in peers.values():
            echo(peer)
        until(lambda: named(server, SERVER, "zygote"), "another zygote")
        echo(open_session(server, stack, SERVER_PORT))
        for peer in peers.values():
            peer.send_close()
            assert isinstance(peer.receive(), Closed)
        for session in peers:
            ended(server, session)
            assert past(server, session) == ("exit 0", "client close 1000")


def test_an_application_of_a_server(server: Machine) -> None:
    with ExitStack() as stack:
        peers = crowd(server, stack)
        (one, *_) = told(server, "sessions")
        kill(outside(server, SERVER, one["application_pid"]))
        peer = peers.pop(one["id"])
        assert peer.receive() == Closed(1011, "signal KILL")
        ended(server, one["id"])
        assert past(server, one["id"]) == ("signal KILL", "signal KILL")
        for other in peers.values():
            echo(other)
        assert len(named(server, SERVER, "cat")) == len(peers)


# chimirror-zygote.service


@pytest.mark.parametrize("times", [1, OFTEN])
def test_the_zygote_alone(machine: Machine, times: int) -> None:
    """There is no session of ours: its guest has the pipes, and sees them end."""
    machine.drop_in(ZYGOTE, "Service", "RestartSec=0")
    machine.configure(CHIMIRROR_ZYGOTE="-- /usr/bin/cat")
    machine.do("systemctl", "start", "chimirror-zygote.socket")
    for _ in range(times):
        with guest(machine) as pipes:
            until(lambda: named(machine, ZYGOTE, "cat"), "its application")
            kill_main(machine, ZYGOTE)
            assert os.read(pipes[1], 1) == b""
    with guest(machine) as pipes:
        os.write(pipes[0], b"hello")
        assert os.read(pipes[1], 5) == b"hello"
    assert machine.state("chimirror-zygote.socket") == "active"
