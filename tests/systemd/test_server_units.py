"""Tests chimirror-server and chimirror-zygote as units, under a real systemd."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from machine_sessions import (
    SERVER,
    SERVER_PORT,
    echo,
    main_process,
    named,
    open_session,
    serve_many,
    systemctl_show,
    zygote_application,
)
from processes import PATIENCE, ended, is_pending, name_of, parent_of, until
from systemd_machine import Machine
from websocket_peer import Closed, Peer, upgrade

pytestmark = pytest.mark.timeout(300)

SOCKET = "chimirror-server.socket"
CLIENTS = 100
# Tries setns(2) and unshare(2), and starts a process that shares nothing with it.
HIDING = """
import ctypes, subprocess
libc = ctypes.CDLL(None)
calls = libc.setns(0, 0x10000000), libc.unshare(0x10000000)
print([status for status in calls if status == 0], flush=True)
command = ["env", "-i", "setsid", "-f", "sleep", "1000"]
null = subprocess.DEVNULL
subprocess.run(command, stdin=null, stdout=null, stderr=null)
print("-", flush=True)
input()
"""
FILLED = "/run/chimirror/servers/full"
# Fills all writable file systems, for every line that it reads.
FILLER = f"""
import sys
for line in sys.stdin:
    try:
        with open("{FILLED}", "wb") as file:
            while file.write(bytes(1 << 20)):
                pass
    except OSError as error:
        print(error.strerror, flush=True)
"""


@pytest.fixture
def server(machine: Machine) -> Machine:
    serve_many(machine)
    return machine


def test_sessions_in_one_service(server: Machine) -> None:
    with ExitStack() as stack:
        peers = [open_session(server, stack, SERVER_PORT) for _ in range(20)]
        for peer in peers:
            echo(peer)
        assert len(named(server, SERVER, "cat")) == 20
        (pid, *_) = named(server, SERVER, "cat")
        starter = name_of(parent_of(pid))
        assert starter.startswith("chimirror-server: worker"), "the filter allows it"
        status = Path(f"/proc/{pid}/status").read_text()
        assert "\nNoNewPrivs:\t1\n" in status
        assert "\nSeccomp:\t2\n" in status
        score = Path(f"/proc/{pid}/oom_score_adj")
        until(lambda: score.read_text() == "1000\n", "the application is preferred")
        supervisor = main_process(server, SERVER)
        assert Path(f"/proc/{supervisor}/oom_score_adj").read_text().strip() == "0"


def test_a_process_that_hides_ends_with_its_session(machine: Machine) -> None:
    machine.write("/opt/hiding.py", HIDING)
    serve_many(machine)
    machine.configure("/usr/bin/python3", "/opt/hiding.py")
    with ExitStack() as stack:
        peer = open_session(machine, stack, SERVER_PORT)
        assert peer.output(5) == b"[]\n-\n"
        until(lambda: named(machine, SERVER, "sleep"), "it hides")
        (pid,) = named(machine, SERVER, "sleep")
        group = Path(f"/proc/{pid}/cgroup").read_text().rpartition("0::")[2]
        assert f"{SERVER}/chimirror-" in group
        assert "/worker-" in group
    assert ended(pid, PATIENCE)
    assert machine.state(SERVER) == "active"


def test_spares_have_cgroups_and_end_with_the_service(machine: Machine) -> None:
    """The first client starts the service, and the second one takes a spare."""
    serve_many(machine, "--workers 1 --spares 2 --drain-timeout 0")

    def applications() -> set[int]:
        return set(named(machine, SERVER, "cat"))

    with ExitStack() as stack:
        echo(open_session(machine, stack, SERVER_PORT))
        until(lambda: len(applications()) == 3, "two spares")
        waiting = applications()
        groups = {Path(f"/proc/{pid}/cgroup").read_text() for pid in waiting}
        assert len(groups) == 3
        with ExitStack() as second:
            echo(open_session(machine, second, SERVER_PORT))
            until(lambda: len(applications()) == 4, "another spare")
            assert waiting < applications()
        until(lambda: len(waiting & applications()) == 2, "the second session ends")
    machine.do("systemctl", "stop", SOCKET, SERVER)
    assert applications() == set()
    assert systemctl_show(machine, SERVER, "Result") == "success"


def test_an_application_cannot_fill_run(server: Machine) -> None:
    server.write("/opt/filler.py", FILLER)
    server.configure("/usr/bin/python3", "/opt/filler.py")
    before = free(server, "/run")
    with ExitStack() as stack:
        peer = open_session(server, stack, SERVER_PORT)
        peer.send(1)
        assert peer.output(24) == b"No space left on device\n"
        assert free(server, "/run/chimirror") == 0
        assert free(server, "/run") > before / 2
        open_session(server, stack, SERVER_PORT)
        listed = server.do("chimirror-ctl", "sessions").splitlines()
        assert len(listed) == 3
    server.path(FILLED).unlink()


def free(machine: Machine, place: str) -> int:
    return int(machine.do("stat", "--file-system", "--format=%f", place))


def test_restart_loses_no_waiting_connection(server: Machine) -> None:
    with ExitStack() as stack:
        peer = open_session(server, stack, SERVER_PORT)
        echo(peer)
        server.do("systemctl", "restart", SERVER)
        assert peer.receive() == Closed(1001, "drain")
        echo(open_session(server, stack, SERVER_PORT))
        server.do("systemctl", "stop", SERVER)
        waiting = stack.enter_context(Peer(server.connect(SERVER_PORT)))
        assert waiting.open().status == 101
        echo(waiting)


def test_many_clients_connect_during_a_restart(machine: Machine) -> None:
    """The unit may stop for as long as it drains, and drains within its timeout."""
    serve_many(machine, "--drain-timeout 20")
    with ExitStack() as stack:
        peers = [
            stack.enter_context(Peer(machine.connect(SERVER_PORT)))
            for _ in range(CLIENTS)
        ]
        for peer in peers:
            peer.send_raw(upgrade("/", "json", ()))
        machine.do("systemctl", "restart", "--no-block", SERVER)
        for peer in peers:
            assert peer.head().status == 101
            peer.send_close()
        echo(open_session(machine, stack, SERVER_PORT))


@pytest.mark.parametrize("verb", ["restart", "stop"])
def test_clients_are_rejected_while_the_socket_stops(
    machine: Machine, verb: str
) -> None:
    """No client is left in an accept queue that is closed with its socket.

    A client tries the same address again and finds the new socket.
    """
    serve_many(machine, "--drain-timeout 60")
    with ExitStack() as stack:
        peer = open_session(machine, stack, SERVER_PORT)
        before = systemctl_show(machine, SOCKET, "InvocationID")
        machine.do("systemctl", verb, "--no-block", SOCKET)
        until(lambda: is_draining(machine), "it drains")
        for _ in range(CLIENTS):
            late = stack.enter_context(Peer(machine.connect(SERVER_PORT)))
            reply = late.open()
            assert (reply.status, "retry-after" in reply.fields) == (503, True)
        echo(peer)
        peer.send_close()
    if verb == "stop":
        until(lambda: machine.state(SOCKET) == "inactive", "its end")
        return

    def is_new() -> bool:
        again = systemctl_show(machine, SOCKET, "InvocationID")
        return again not in ("", before) and machine.state(SOCKET) == "active"

    until(is_new, "the new socket")
    with ExitStack() as stack:
        echo(open_session(machine, stack, SERVER_PORT))


def is_draining(machine: Machine) -> bool:
    """Return True once all workers know it. The status only says that it was sent."""
    text = systemctl_show(machine, SERVER, "StatusText")
    return text.startswith("draining") and not any(
        is_pending(pid, signal.SIGUSR2) for pid in machine.processes(SERVER)
    )


def test_waiting_clients_are_served_after_a_correction(machine: Machine) -> None:
    serve_many(machine, "--no-such-option")
    with ExitStack() as stack:
        waiting = stack.enter_context(Peer(machine.connect(SERVER_PORT)))

        def failures() -> int:
            return int(systemctl_show(machine, SERVER, "NRestarts"))

        until(lambda: failures() > 1, "it has been tried again")
        serve_many(machine)  # after a daemon-reload
        assert waiting.open().status == 101
        echo(waiting)


def test_stopping_the_slice_ends_it_and_not_its_socket(server: Machine) -> None:
    with ExitStack() as stack:
        peer = open_session(server, stack, SERVER_PORT)
        server.do("systemctl", "stop", "--no-block", "chimirror.slice")
        assert peer.receive() == Closed(1001, "drain")
        assert server.state(SOCKET) == "active"
        echo(open_session(server, stack, SERVER_PORT))


def test_the_zygote(machine: Machine) -> None:
    machine.configure(CHIMIRROR_ZYGOTE="-- /usr/bin/cat")
    machine.do("systemctl", "start", "chimirror-zygote.socket")
    with zygote_application(machine) as pipes:
        os.write(pipes[0], b"hello")
        assert os.read(pipes[1], 5) == b"hello"
