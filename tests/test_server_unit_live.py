"""chimirror-server and chimirror-zygote as units, under a real systemd."""

from __future__ import annotations

import json
import os
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from machine import Machine
from peers import Closed, Peer
from sessions import echo
from settling import until

pytestmark = pytest.mark.timeout(120)

PORT = 30748
SERVICE = "chimirror-server.service"


@pytest.fixture
def server(machine: Machine) -> Machine:
    """chimirror-server.socket listens beside chimirror.socket, and `cat` answers."""
    machine.configure("/usr/bin/cat", options="--drain-timeout 0")
    address = f"ListenStream=127.0.0.1:{PORT}"
    machine.drop_in("chimirror-server.socket", "Socket", "ListenStream=", address)
    machine.do("systemctl", "start", "chimirror-server.socket")
    return machine


def open_session(machine: Machine, stack: ExitStack) -> Peer:
    peer = stack.enter_context(Peer(machine.connect(PORT)))
    assert peer.open().status == 101
    return peer


def main_process(machine: Machine) -> int:
    """The supervisor, by the number that it has here."""
    inside = machine.do("systemctl", "show", "-P", "MainPID", SERVICE).strip()
    for pid in machine.processes(SERVICE):
        status = Path(f"/proc/{pid}/status").read_text()
        (line,) = [x for x in status.splitlines() if x.startswith("NSpid:")]
        if line.split()[-1] == inside:
            return pid
    raise AssertionError("no supervisor")


def named(machine: Machine, name: str) -> list[int]:
    return [
        pid
        for pid in machine.processes(SERVICE)
        if Path(f"/proc/{pid}/comm").read_text().strip() == name
    ]


def test_sessions_in_one_service(server: Machine) -> None:
    with ExitStack() as stack:
        peers = [open_session(server, stack) for _ in range(20)]
        for peer in peers:
            echo(peer)
        assert len(named(server, "cat")) == 20
        (pid, *_) = named(server, "cat")
        status = Path(f"/proc/{pid}/status").read_text()
        assert "\nNoNewPrivs:\t1\n" in status
        assert "\nSeccomp:\t2\n" in status
        assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "1000"
        supervisor = main_process(server)
        assert Path(f"/proc/{supervisor}/oom_score_adj").read_text().strip() == "0"


def test_restart_loses_no_waiting_connection(server: Machine) -> None:
    with ExitStack() as stack:
        peer = open_session(server, stack)
        echo(peer)
        server.do("systemctl", "restart", SERVICE)
        assert peer.receive() == Closed(1001, "drain")
        echo(open_session(server, stack))
        server.do("systemctl", "stop", SERVICE)
        waiting = stack.enter_context(Peer(server.connect(PORT)))
        assert waiting.open().status == 101
        echo(waiting)


@pytest.mark.parametrize("whom", ["supervisor", "zygote"])
def test_sudden_death(server: Machine, whom: str) -> None:
    with ExitStack() as stack:
        peer = open_session(server, stack)
        before = set(server.processes(SERVICE))
        if whom == "zygote":
            (victim,) = named(server, "zygote")
        else:
            victim = main_process(server)
        os.kill(victim, signal.SIGKILL)
        if whom == "zygote":
            echo(peer)
            until(lambda: named(server, "zygote"), "another zygote")
        else:
            until(lambda: not before & set(server.processes(SERVICE)), "all are gone")
        echo(open_session(server, stack))
        assert server.state("chimirror-server.socket") == "active"


def test_stopping_the_slice_ends_it_and_not_its_socket(server: Machine) -> None:
    with ExitStack() as stack:
        peer = open_session(server, stack)
        server.do("systemctl", "stop", "--no-block", "chimirror.slice")
        assert peer.receive() == Closed(1001, "drain")
        assert server.state("chimirror-server.socket") == "active"
        echo(open_session(server, stack))


def test_the_zygote(machine: Machine) -> None:
    machine.configure(CHIMIRROR_ZYGOTE="-- /usr/bin/cat")
    machine.do("systemctl", "start", "chimirror-zygote.socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
        link.settimeout(30)
        link.connect(str(machine.path("/run/chimirror/zygote")))
        link.send(b'{"start":1,"stderr":false}')
        packet, pipes, _, _ = socket.recv_fds(link, 1 << 16, 3)
        assert "pid" in json.loads(packet)
        for pipe in pipes:
            os.set_blocking(pipe, True)
        os.write(pipes[0], b"hello")
        assert os.read(pipes[1], 5) == b"hello"
        for pipe in pipes:
            os.close(pipe)
