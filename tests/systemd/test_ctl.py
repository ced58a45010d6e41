"""Tests chimirror-ctl on a machine with a real systemd, journal and limits.

Runs the installed program as an operator does. Its output is compared with the reports
of clients, systemd, the kernel and journalctl.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from chimirror.log.records import SESSION_ENDED
from chimirror.text import short_id
from ctl_on_machine import await_open_sessions, ctl, ctl_failure, ctl_history, ctl_json
from machine_sessions import (
    await_named,
    by_session,
    closed_abruptly,
    echo,
    ended,
    invocation,
    open_session,
    own_address,
    wait_until_idle,
)
from processes import comm, descendants, name_of, until
from systemd_machine import PATH, PORT, Machine
from websocket_peer import Closed, Peer

pytestmark = pytest.mark.timeout(300)

CAT = "/usr/bin/cat"
CLOSED = Closed(1001, "closed by operator")
KILLED = Closed(1001, "killed by operator")


@pytest.fixture
def machine(machine: Machine) -> Machine:
    """The machine, which serves `cat`."""
    machine.configure(CAT)
    return machine


# Listing sessions


@pytest.mark.full
def test_many_sessions_are_listed(machine: Machine, *, full: bool) -> None:
    count = 50 if full else 12
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(machine.connect())) for _ in range(count)]
        for peer in peers:
            peer.open()
        for peer in peers:
            echo(peer)
        await_open_sessions(machine, count)
        until(
            lambda: (
                {one["messages_in"] for one in ctl_json(machine, "sessions")} == {1}
            ),
            "the echo in all figures",
        )
        seen = ctl_json(machine, "sessions")
        assert {one["peer"] for one in seen} == {own_address(peer) for peer in peers}
        assert sorted(one["unit"] for one in seen) == machine.sessions()
        for one in seen:
            assert (one["messages_out"], one["application"]) == (1, CAT)
            assert one["tasks"] == 2
            assert one["memory"] > 0
            assert one["cpu"] > 0
        assert seen == sorted(seen, key=lambda one: -one["age"])
        unit = seen[0]["unit"]
        assert invocation(machine, unit) == seen[0]["id"]
        for peer in peers:
            peer.send_close()
    wait_until_idle(machine)
    assert ctl_json(machine, "sessions") == []
    ends = by_session(machine.journal(MESSAGE_ID=SESSION_ENDED))
    rows = ctl_history(machine, "--lines", "all")
    assert {one["id"] for one in seen} <= set(rows)
    for one in seen:
        (end,) = ends[one["id"]]
        row = rows[one["id"]]
        assert str(row["bytes_in"]) == end["CHIMIRROR_BYTES_IN"]
        assert row["reason"] == end["CHIMIRROR_REASON"]
        assert row["peer"] == one["peer"]
        assert round(row["duration"] * 1e6) == int(end["CHIMIRROR_DURATION_USEC"])


def test_sessions_ask_nothing_of_process_1(machine: Machine) -> None:
    """Uses neither a program nor the bus, and so stays fast with 1,500 sessions."""
    with ExitStack() as stack:
        open_session(machine, stack)
        await_open_sessions(machine, 1)
        script = "import sys; from chimirror.ctl.main import main; sys.exit(main())"
        python = "/opt/chimirror/bin/python3"
        argv = ("unshare", "--mount", "sh", "-c")
        hide = "mount -t tmpfs none /run/dbus"
        hide += " && mount --bind /dev/null /run/systemd/private"
        run = f'{hide} && PATH=/nowhere exec "$0" -P -c "$1" sessions'
        said = machine.do(*argv, run, python, script)
        assert len(said.splitlines()) == 2


def test_one_session_is_shown_in_full(machine: Machine) -> None:
    with ExitStack() as stack:
        peer = open_session(machine, stack)
        (one,) = await_open_sessions(machine, 1)
        shown = ctl_json(machine, "show", one["id"][:8])
        assert (shown["peer"], shown["framing"]) == (own_address(peer), "json")
        assert (shown["memory_max"], shown["tasks_max"]) == (512 << 20, 256)
        pids = [pid for pid, _ in shown["processes"]]
        assert len(pids) == 2
        assert shown["pid"] in pids
        assert shown["processes"][-1][1] == CAT


def test_the_log_of_a_session(machine: Machine) -> None:
    machine.configure("/bin/sh", "-c", '"echo oops >&2; cat"', options="--stderr log")
    with ExitStack() as stack:
        open_session(machine, stack)
        (one,) = await_open_sessions(machine, 1)
        with following(machine, one["id"][:10]) as process:
            assert process.stdout is not None
            seen = ""
            while f" for {one['peer']} started" not in seen:
                seen = process.stdout.readline()
                assert seen
            ctl(machine, "close", one["id"])
            rest = process.stdout.read()
            assert process.wait(30) == 0  # ends with the session
        assert ": closed by operator" in rest
    wait_until_idle(machine)
    machine.do("journalctl", "--sync")
    lines = ctl(machine, "log", one["id"]).splitlines()
    assert [line for line in lines if line.endswith(": oops")]
    assert [line for line in lines if line.endswith(" s: closed by operator")]
    wanted = f"_SYSTEMD_INVOCATION_ID={one['id']}"
    prefix = f"{short_id(one['id'])}: "  # of a line of the application
    said = machine.do("journalctl", "--output=cat", wanted).splitlines()
    assert {line.removeprefix(prefix) for line in said} <= {
        line.partition(": ")[2] for line in lines
    }


def test_following_can_be_interrupted(machine: Machine) -> None:
    with ExitStack() as stack:
        peer = open_session(machine, stack)
        (one,) = await_open_sessions(machine, 1)
        with following(machine, one["id"]) as process:
            assert process.stdout is not None
            while "started" not in process.stdout.readline():
                pass
            (inner,) = descendants(process.pid)
            os.kill(inner.pid, signal.SIGINT)
            assert process.wait(30) == -signal.SIGINT
        echo(peer)


@contextmanager
def following(machine: Machine, text: str) -> Iterator[subprocess.Popen[str]]:
    inside = ["nsenter", "--all", "--target", str(machine.init), "--"]
    argv = [*inside, "chimirror-ctl", "log", "-f", text]
    env = {"PATH": PATH}
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_totals_and_causes(machine: Machine) -> None:
    before = ctl_json(machine, "stats")
    machine.configure(CAT, CHIMIRROR_MAX_SESSIONS="1")
    with ExitStack() as stack:
        peer = open_session(machine, stack)
        late = stack.enter_context(Peer(machine.connect()))
        assert late.open().status == 503
        echo(peer)
        peer.send_close()
    wait_until_idle(machine)
    machine.do("journalctl", "--sync")
    after = ctl_json(machine, "stats")
    assert after["started"] - before["started"] == 1
    assert after["ended"] - before["ended"] == 1
    assert after["refused"] - before["refused"] == 1
    assert after["bytes_in"] > before["bytes_in"]
    counts = {(one["kind"], one["cause"]): one["count"] for one in after["causes"]}
    assert counts["refused", "max-sessions"] >= 1


# Ending sessions


def test_close_and_kill(machine: Machine) -> None:
    with ExitStack() as stack:
        one, two, three = (open_session(machine, stack) for _ in range(3))
        ids = {own["peer"]: own["id"] for own in await_open_sessions(machine, 3)}
        first, second = ids[own_address(one)], ids[own_address(two)]
        ctl(machine, "close", first)
        assert one.receive() == CLOSED
        ctl(machine, "kill", second)
        assert two.receive() == KILLED
        until(lambda: len(machine.sessions()) == 1, "the third alone")
        echo(three)
        machine.do("journalctl", "--sync")
        rows = ctl_history(machine)
        assert (rows[first]["reason"], rows[first]["exit"]) == (
            CLOSED.reason,
            "exit 0",
        )
        assert (rows[second]["reason"], rows[second]["exit"]) == (
            KILLED.reason,
            "signal KILL",
        )
        assert ids[own_address(three)] not in rows


def test_kill_takes_all_that_is_in_a_unit(machine: Machine) -> None:
    """Ends processes that hide from the bridge or ignore SIGTERM."""
    hidden = "env -i setsid -f sleep 1000; trap '' TERM; echo ready; cat; sleep 1000"
    machine.write("/opt/stubborn.sh", hidden)
    machine.configure("/bin/sh", "/opt/stubborn.sh")
    with ExitStack() as stack:
        peer = open_session(machine, stack)
        assert peer.output(6) == b"ready\n"
        (one,) = await_open_sessions(machine, 1)
        await_named(machine, one["unit"], "cat")
        pids = machine.processes(one["unit"])
        assert len(pids) == 4
        ctl(machine, "kill", one["id"])
        assert peer.receive() == KILLED
        until(lambda: not any(map(name_of, pids)), "the end of all of them")
        assert ended(machine, one["id"])["CHIMIRROR_EXIT"] == "signal KILL"
    wait_until_idle(machine)


def test_kill_of_a_bridge_that_does_not_turn(machine: Machine) -> None:
    with ExitStack() as stack:
        peer = open_session(machine, stack)
        (one,) = await_open_sessions(machine, 1)
        (bridge,) = (
            pid for pid in machine.processes(one["unit"]) if comm(pid) != "cat"
        )
        os.kill(bridge, signal.SIGSTOP)
        said = ctl(machine, "kill", one["id"])
        assert "did not end at once" in said
        assert closed_abruptly(peer)
    wait_until_idle(machine)
    machine.do("journalctl", "--sync")
    row = ctl_history(machine)[one["id"]]
    assert (row["reason"], row["exit"]) == ("lost: signal", "bridge signal KILL")


def test_drain(machine: Machine) -> None:
    with ExitStack() as stack:
        peer = open_session(machine, stack)
        await_open_sessions(machine, 1)
        assert ctl(machine, "drain") == "sessions left: 1\n"
        until(
            lambda: machine.state("chimirror.socket") == "inactive", "a closed socket"
        )
        echo(peer)
        with pytest.raises(ConnectionRefusedError):
            machine.connect()
        ctl(machine, "drain", "--now")
        assert peer.receive() == Closed(1001, "drain")
    wait_until_idle(machine)
    said = ctl(machine, "check")
    assert "chimirror.socket\tchimirror-ctl drain has stopped it" in said
    assert "none accepts connections" not in said
    assert ctl(machine, "undrain") == "accepts sessions: chimirror.socket\n"
    with ExitStack() as stack:
        echo(open_session(machine, stack))
    assert ctl_failure(machine, "undrain")[0] == os.EX_UNAVAILABLE


def test_the_server_is_in_the_same_table(machine: Machine) -> None:
    with ExitStack() as stack:
        bridged = open_session(machine, stack)
        machine.drop_in(
            "chimirror-server.socket", "Socket", "ListenStream=", "ListenStream=9000"
        )
        machine.do("systemctl", "start", "chimirror-server.socket")
        peers = [stack.enter_context(Peer(machine.connect(9000))) for _ in range(3)]
        for peer in peers:
            assert peer.open().status == 101
        seen = {one["peer"]: one for one in await_open_sessions(machine, 4)}
        assert set(seen) == {own_address(peer) for peer in (bridged, *peers)}
        own = seen[own_address(peers[0])]
        assert (own["unit"], own["tasks"], own["application"]) == (None, 1, CAT)
        assert own["server"]
        ctl(machine, "close", own["id"])
        assert peers[0].receive() == CLOSED
        ctl(machine, "kill", seen[own_address(peers[1])]["id"])
        await_open_sessions(machine, 2)
        ended(machine, own["id"])
        rows = ctl_history(machine)
        assert rows[own["id"]]["reason"] == CLOSED.reason
        ctl(machine, "drain", "--now")
        for peer in (bridged, peers[2]):
            assert peer.receive() == Closed(1001, "drain")
        late = stack.enter_context(Peer(machine.connect(9000)))
        assert late.open().status == 503
        assert machine.state("chimirror-server.socket") == "active"
        said = ctl(machine, "undrain").splitlines()
        assert said[0] == "accepts sessions: chimirror.socket"
        assert said[1].startswith("accepts sessions: server ")
        for port in (PORT, 9000):
            echo(open_session(machine, stack, port))
    wait_until_idle(machine)


def test_the_socket_of_a_server_that_does_not_run(machine: Machine) -> None:
    """It is stopped: a connection would start a server, which knows of no drain."""
    socket = "chimirror-server.socket"
    machine.drop_in(socket, "Socket", "ListenStream=", "ListenStream=9000")
    machine.do("systemctl", "start", socket)
    ctl(machine, "drain")
    until(lambda: machine.state(socket) == "inactive", "a closed socket")
    said = ctl(machine, "undrain")
    assert said.splitlines() == [
        "accepts sessions: chimirror.socket",
        f"accepts sessions: {socket}",
    ]
    with ExitStack() as stack:
        echo(open_session(machine, stack, 9000))


def test_what_an_operator_gets_wrong(machine: Machine) -> None:
    with ExitStack() as stack:
        open_session(machine, stack)
        open_session(machine, stack)
        one, _ = (own["id"] for own in await_open_sessions(machine, 2))
        assert ctl_failure(machine, "close", one, "ffffffff")[0] == 66
        assert len(machine.sessions()) == 2
        assert ctl_failure(machine, "show", "")[0] == 64
        for words in (["sessions"], ["history"], ["limit", "--sessions=5"]):
            nobody = ("setpriv", "--reuid=65534", "--clear-groups", "chimirror-ctl")
            done = machine.run(*nobody, *words)
            assert done.returncode == 77, done.stdout
            assert "permission denied" in done.stdout


# check


def test_a_machine_that_is_set_up_right(machine: Machine) -> None:
    found = ctl_json(machine, "check")
    assert [one for one in found if one["verdict"] == "bad"] == []
    good = {one["about"] for one in found if one["verdict"] == "good"}
    assert {"systemd", "units", "chimirror.socket", "application", "cgroups"} <= good


def test_a_machine_that_is_not(machine: Machine) -> None:
    machine.drop_in("chimirror.socket", "Socket", "MaxConnections=10", "Nonsense=1")
    machine.do("systemctl", "stop", "chimirror.socket")
    files = machine.path("/run/chimirror/sessions")
    files.chmod(0o755)
    try:
        status, said = ctl_failure(machine, "check")
    finally:
        files.chmod(0o1730)
    assert status == 78
    assert "systemd closes all after 10" in said
    assert "Nonsense" in said
    assert "sockets\tnone accepts connections" in said
    assert "owner are 0755 0:chimirror, should be 1730 0:chimirror" in said
