"""Tests chimirror.socket and chimirror@.service with a real systemd (Accept=yes).

The machine is booted and installed as the README describes (systemd_machine), and each
test restores it. Assertions compare the reports of clients, systemd and the kernel.
Knows nothing of the bridge's modules.
"""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack

import pytest

from chimirror.log.records import SESSION_ENDED, SESSION_STARTED
from machine_sessions import (
    by_session,
    connections,
    echo,
    ended,
    invocation,
    only_session,
    open_session,
    own_address,
    refused,
    wait_until_idle,
    wait_until_served,
)
from processes import PATIENCE, until
from systemd_machine import Machine
from websocket_peer import Closed, Peer, upgrade

pytestmark = pytest.mark.timeout(300)

CAT = "/usr/bin/cat"


@pytest.mark.full
@pytest.mark.parametrize("command", [(), (CAT,)], ids=["demo", "cat"])
def test_many_sessions_at_once(
    machine: Machine, command: tuple[str, ...], *, full: bool
) -> None:
    count = 50 if full else 12
    machine.configure(*command)
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(machine.connect())) for _ in range(count)]
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
        assert len(machine.sessions()) == count
        addresses = {own_address(peer) for peer in peers}
        files = machine.path("/run/chimirror/sessions")

        def statuses() -> list[str]:
            """Return the status files of bridges, which are regular files."""
            return [one.read_text() for one in files.iterdir() if one.is_file()]

        until(
            lambda: [bool(text) for text in statuses()] == count * [True],
            "a status of each",
        )
        told = [json.loads(text) for text in statuses()]
        assert {one["peer"] for one in told} == addresses
        shown = machine.do("systemctl", "--full", "status", machine.sessions()[0])
        assert " chimirror-bridge --max-sessions 1000 " in shown
        assert "python3 -I" not in shown
        for peer in peers:
            peer.send_close()
    wait_until_idle(machine)
    assert not list(files.iterdir())
    began = by_session(machine.journal(MESSAGE_ID=SESSION_STARTED))
    closed = by_session(machine.journal(MESSAGE_ID=SESSION_ENDED))
    for one in told:
        (start,), (end,) = began[one["id"]], closed[one["id"]]
        assert start["CHIMIRROR_PEER"] == end["CHIMIRROR_PEER"] == one["peer"]
        assert start["_SYSTEMD_INVOCATION_ID"] == one["id"]
        assert end["CHIMIRROR_REASON"] == "client close 1000"


def test_connection_over_the_maximum_is_rejected(machine: Machine) -> None:
    machine.configure(CAT, CHIMIRROR_MAX_SESSIONS="3")
    with ExitStack() as stack:
        peers = [open_session(machine, stack) for _ in range(3)]
        last = stack.enter_context(Peer(machine.connect()))
        reply = last.open()
        assert (reply.status, reply.fields["retry-after"]) == (503, "5")
        assert last.stream.read() == b"all sessions are taken; try again later\n"
        assert refused(machine, last)["CHIMIRROR_CAUSE"] == "max-sessions"
        peers[0].send_close()
        until(lambda: len(machine.sessions()) == 2, "a place is free")
        open_session(machine, stack)


def test_silent_connections_take_no_place(machine: Machine) -> None:
    """Beyond the number of places they end before their --handshake-timeout."""
    machine.configure(CAT, options="--handshake-timeout 1h", CHIMIRROR_MAX_SESSIONS="2")
    with ExitStack() as stack:
        silent = [stack.enter_context(Peer(machine.connect())) for _ in range(2)]
        until(lambda: len(machine.sessions()) == 2, "a unit for each connection")
        peers = [open_session(machine, stack) for _ in range(2)]
        late = stack.enter_context(Peer(machine.connect()))
        assert late.open().status == 503
        for peer in silent:
            assert peer.refusal().status == 408
        assert late.stream.read()
        until(lambda: len(machine.sessions()) == 2, "the sessions are left")
        for peer in peers:
            echo(peer)


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
    wait_until_idle(machine)


def test_an_application_that_ignores_the_end_is_killed_in_time(
    machine: Machine,
) -> None:
    """The stop timeouts of the bridge end the session, long before TimeoutStopSec=."""
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
        wait_until_idle(machine)
        assert machine.state("chimirror.socket") == "active"
        echo(open_session(machine, stack))


def test_reload_and_restart_lose_no_waiting_connection(machine: Machine) -> None:
    machine.configure(CAT)
    with ExitStack() as stack:
        peer = open_session(machine, stack)
        waiting = stack.enter_context(Peer(machine.connect()))
        machine.do("systemctl", "daemon-reload")
        late = stack.enter_context(Peer(machine.connect()))
        # A bridge that is being started still holds the listening socket.
        active = ("systemctl", "list-units", "--state=active", "--plain", "--no-legend")
        until(lambda: machine.do(*active, "chimirror@*").count("\n") == 3, "they run")
        for _ in range(7):  # more than systemd's StartLimitBurst= allows
            machine.do("systemctl", "restart", "chimirror.socket")
        assert machine.state("chimirror.socket") == "active"
        assert (waiting.open().status, late.open().status) == (101, 101)
        for one in (peer, waiting, late):
            echo(one)


@pytest.mark.full
def test_failures_leave_no_failed_units(machine: Machine, *, full: bool) -> None:
    """All sessions are alike. 10,000 were run manually."""
    machine.configure(CAT, options="--no-such-option")
    count = 100 if full else 20
    _, former = connections(machine)
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(machine.connect())
    wait_until_served(machine, former + count)
    listed = machine.do("systemctl", "list-units", "--all", "--plain", "--no-legend")
    assert "chimirror@" not in listed
    assert machine.state("chimirror.socket") == "active"


@pytest.mark.full
def test_a_burst_leaves_the_socket_active(machine: Machine, *, full: bool) -> None:
    """With the default TriggerLimitIntervalSec=, 200 sessions in 2 s stop the socket.

    Only a few sessions are open at once, so that two cores can run them.
    """
    machine.configure(CAT)
    machine.drop_in("chimirror.socket", "Socket", "MaxConnections=40")
    machine.do("systemctl", "restart", "chimirror.socket")
    count = 2000 if full else 500
    _, former = connections(machine)
    with machine.network():
        for _ in range(count):
            with socket.create_connection(("127.0.0.1", 30747), timeout=30):
                pass
    # systemd 257 accepts at most 75 per second.
    wait_until_served(machine, former + count, 3 * PATIENCE)
    assert machine.state("chimirror.socket") == "active"
    with ExitStack() as stack:
        echo(open_session(machine, stack))
