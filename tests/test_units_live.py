"""chimirror.socket, chimirror@.service and a real systemd: each trap of Accept=yes.

Law: the machine is booted and installed as the README says (machine.py), and every
test leaves it so. What is asserted is what clients, systemd and the kernel say.
Ignorance: nothing of the bridge's inside.
"""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack

import pytest

from chimirror.system.records import REFUSED, SESSION_ENDED, SESSION_STARTED
from machine import Machine
from peers import Closed, Peer, upgrade
from sessions import (
    by_session,
    echo,
    ended,
    gone,
    invocation,
    only_session,
    open_session,
    own_address,
)
from settling import PATIENCE, until

pytestmark = pytest.mark.timeout(120)

CROWD = 50
BURST = 2000
FAILURES = 100  # 10,000 were run by hand; they are all alike
CAT = "/usr/bin/cat"


@pytest.mark.parametrize("command", [(), (CAT,)], ids=["demo", "cat"])
def test_a_crowd_at_once(machine: Machine, command: tuple[str, ...]) -> None:
    machine.configure(*command)
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(machine.connect())) for _ in range(CROWD)]
        for peer in peers:
            peer.send_raw(upgrade("/", "json", ()))
        for peer in peers:
            assert peer.head().status == 101
        if command:
            for peer in peers:
                echo(peer)
        else:
            for peer in peers:
                assert peer.output(5).startswith(b"Think")
        assert len(machine.sessions()) == CROWD
        addresses = {own_address(peer) for peer in peers}
        files = machine.path("/run/chimirror/sessions")

        def statuses() -> list[str]:
            """What they say of themselves; control sockets are no files."""
            return [one.read_text() for one in files.iterdir() if one.is_file()]

        until(
            lambda: [bool(text) for text in statuses()] == CROWD * [True],
            "a status of each",
        )
        told = [json.loads(text) for text in statuses()]
        assert {one["peer"] for one in told} == addresses
        for peer in peers:
            peer.send_close()
    gone(machine)
    assert not list(files.iterdir())
    began = by_session(machine.journal(MESSAGE_ID=SESSION_STARTED))
    closed = by_session(machine.journal(MESSAGE_ID=SESSION_ENDED))
    for one in told:
        (start,), (end,) = began[one["id"]], closed[one["id"]]
        assert start["CHIMIRROR_PEER"] == end["CHIMIRROR_PEER"] == one["peer"]
        assert start["_SYSTEMD_INVOCATION_ID"] == one["id"]
        assert end["CHIMIRROR_REASON"] == "client close 1000"


def test_the_one_over_the_cap_is_told(machine: Machine) -> None:
    machine.configure(CAT, CHIMIRROR_MAX_SESSIONS="3")
    with ExitStack() as stack:
        peers = [open_session(machine, stack) for _ in range(3)]
        last = stack.enter_context(Peer(machine.connect()))
        reply = last.open()
        assert (reply.status, reply.fields["retry-after"]) == (503, "5")
        assert last.stream.read() == b"all sessions are taken; try again later\n"
        entry = machine.journal(MESSAGE_ID=REFUSED)[-1]
        assert entry["CHIMIRROR_CAUSE"] == "max-sessions"
        peers[0].send_close()
        until(lambda: len(machine.sessions()) == 2, "a place is free")
        open_session(machine, stack)


def test_the_session_timeout(machine: Machine) -> None:
    machine.configure(CAT, CHIMIRROR_SESSION_TIMEOUT="200ms")
    with ExitStack() as stack:
        peer = open_session(machine, stack)
        assert peer.receive() == Closed(1001, "time")


def test_stopping_a_unit_drains_it(machine: Machine) -> None:
    machine.configure(CAT)
    with ExitStack() as stack:
        peer = open_session(machine, stack)
        unit = only_session(machine)
        session = invocation(machine, unit)
        machine.do("systemctl", "stop", "--no-block", unit)
        assert peer.receive() == Closed(1001, "drain")
    assert ended(machine, session)["CHIMIRROR_REASON"] == "drain"
    gone(machine)


def test_an_application_that_ignores_the_end_is_killed_in_time(
    machine: Machine,
) -> None:
    """Our own graces do it, long before TimeoutStopSec= would."""
    machine.configure(
        "/bin/sh", "-c", '"trap : TERM; echo ready; while :; do sleep 1; done"'
    )
    with ExitStack() as stack:
        peer = open_session(machine, stack)
        assert peer.output(6) == b"ready\n"
        unit = only_session(machine)
        machine.do("systemctl", "stop", unit)
        assert peer.receive() == Closed(1001, "drain")
    said = machine.journal(UNIT=unit)
    assert not [entry for entry in said if "timed out" in entry["MESSAGE"]]


def test_stopping_the_socket_ends_no_session(machine: Machine) -> None:
    machine.configure(CAT)
    with ExitStack() as stack:
        peer = open_session(machine, stack)
        machine.do("systemctl", "stop", "chimirror.socket")
        echo(peer)
        with pytest.raises(ConnectionRefusedError):
            machine.connect()
        machine.do("systemctl", "start", "chimirror.socket")
        echo(peer)
        echo(open_session(machine, stack))


def test_stopping_the_slice_ends_all_sessions(machine: Machine) -> None:
    machine.configure(CAT)
    with ExitStack() as stack:
        peers = [open_session(machine, stack) for _ in range(3)]
        machine.do("systemctl", "stop", "--no-block", "chimirror.slice")
        for peer in peers:
            assert peer.receive() == Closed(1001, "drain")
        gone(machine)
        assert machine.state("chimirror.socket") == "active"
        echo(open_session(machine, stack))


def test_reload_and_restart_lose_no_waiting_connection(machine: Machine) -> None:
    machine.configure(CAT)
    with ExitStack() as stack:
        peer = open_session(machine, stack)
        waiting = stack.enter_context(Peer(machine.connect()))
        machine.do("systemctl", "daemon-reload")
        late = stack.enter_context(Peer(machine.connect()))
        machine.do("systemctl", "restart", "chimirror.socket")
        assert machine.state("chimirror.socket") == "active"
        assert (waiting.open().status, late.open().status) == (101, 101)
        for one in (peer, waiting, late):
            echo(one)


def test_failures_leave_no_failed_units(machine: Machine) -> None:
    machine.configure(CAT, options="--no-such-option")
    with ExitStack() as stack:
        for _ in range(FAILURES):
            stack.enter_context(machine.connect())
    gone(machine)
    listed = machine.do("systemctl", "list-units", "--all", "--plain", "--no-legend")
    assert "chimirror@" not in listed
    assert machine.state("chimirror.socket") == "active"


def test_a_burst_leaves_the_socket_active(machine: Machine) -> None:
    """TriggerLimitIntervalSec=; few at once, so that two cores are done with them."""
    machine.configure(CAT)
    machine.drop_in("chimirror.socket", "Socket", "MaxConnections=40")
    machine.do("systemctl", "restart", "chimirror.socket")
    with machine.network():
        for _ in range(BURST):
            with socket.create_connection(("127.0.0.1", 30747), timeout=30):
                pass
    gone(machine, 3 * PATIENCE)  # systemd 257 takes no more than 75 a second
    assert machine.state("chimirror.socket") == "active"
    with ExitStack() as stack:
        echo(open_session(machine, stack))
