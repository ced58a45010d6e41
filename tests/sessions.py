"""Sessions on a machine of the tests: opened, used, seen, gone.

Ignorance: which test asks, and how the machine came to be (machine.py).
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from chimirror.system.records import SESSION_ENDED, SESSION_STARTED
from machine import PORT, Machine
from peers import NO_CLOSE, Closed, Peer
from settling import PATIENCE, comm, read, until

SERVER = "chimirror-server.service"
SERVER_PORT = 30748


def open_session(machine: Machine, stack: ExitStack, port: int = PORT) -> Peer:
    peer = stack.enter_context(Peer(machine.connect(port)))
    assert peer.open().status == 101
    return peer


def echo(peer: Peer) -> None:
    """A session with `cat` that lives."""
    peer.send({"a": 1})
    assert peer.output(8) == b'{"a":1}\n'


def own_address(peer: Peer) -> str:
    host, port = peer.socket.getsockname()
    return f"{host}:{port}"


def gone(machine: Machine, timeout: float = PATIENCE) -> None:
    """Every session has ended, and the socket knows it."""

    def ask() -> bool:
        show = ("systemctl", "show", "--value", "-p", "NConnections")
        return machine.do(*show, "chimirror.socket").strip() == "0"

    until(lambda: not machine.sessions(), "no session is left")
    until(ask, "the socket has no connection", timeout)


def vanished(peer: Peer) -> bool:
    """Whether the connection ends without a word."""
    try:
        return peer.receive() == Closed(NO_CLOSE, "")
    except ConnectionResetError:
        return True


def started(machine: Machine, session: str) -> dict[str, str]:
    """The record of the start of a session."""
    return recorded(machine, SESSION_STARTED, session)


def ended(machine: Machine, session: str) -> dict[str, str]:
    """The record of the end of a session."""
    return recorded(machine, SESSION_ENDED, session)


def recorded(machine: Machine, kind: str, session: str) -> dict[str, str]:
    found: list[dict[str, str]] = []

    def ask() -> bool:
        found[:] = machine.journal(MESSAGE_ID=kind, CHIMIRROR_SESSION=session)
        return bool(found)

    until(ask, f"a record of {session} in the journal")
    return found[0]


def by_session(entries: list[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for entry in entries:
        found.setdefault(entry["CHIMIRROR_SESSION"], []).append(entry)
    return found


def only_session(machine: Machine) -> str:
    """The unit of the only session there is."""
    (unit,) = machine.sessions()
    return unit


def invocation(machine: Machine, unit: str) -> str:
    return systemctl_show(machine, unit, "InvocationID")


# Units of many processes


def serve_many(machine: Machine, options: str = "--drain-timeout 0") -> None:
    """chimirror-server.socket listens beside chimirror.socket, and `cat` answers."""
    machine.configure("/usr/bin/cat", options=options)
    address = f"ListenStream=127.0.0.1:{SERVER_PORT}"
    machine.drop_in("chimirror-server.socket", "Socket", "ListenStream=", address)
    machine.do("systemctl", "start", "chimirror-server.socket")


def main_process(machine: Machine, unit: str) -> int:
    """The process that systemd has started, by the number that it has here."""
    return outside(machine, unit, systemctl_show(machine, unit, "MainPID"))


def outside(machine: Machine, unit: str, inside: object) -> int:
    """The number here of a process that has this one there."""
    for pid in machine.processes(unit):
        status = read(f"/proc/{pid}/status").decode()
        for line in status.splitlines():
            if line.startswith("NSpid:") and line.split()[-1] == str(inside):
                return pid
    raise AssertionError(f"no process {inside} in {unit}")


def named(machine: Machine, unit: str, name: str) -> list[int]:
    """The processes of a unit that call themselves so."""
    return [pid for pid in machine.processes(unit) if comm(pid) == name]


def systemctl_show(machine: Machine, unit: str, name: str) -> str:
    return machine.do("systemctl", "show", "-P", name, unit).strip()


@contextmanager
def guest(machine: Machine) -> Iterator[list[int]]:
    """An application of chimirror-zygote.service, by its pipes: stdin, stdout."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
        link.settimeout(PATIENCE)
        link.connect(str(machine.path("/run/chimirror/zygote")))
        link.send(b'{"start":1,"stderr":false}')
        packet, pipes, _, _ = socket.recv_fds(link, 1 << 16, 3)
        assert "pid" in json.loads(packet)
        for pipe in pipes:
            os.set_blocking(pipe, True)
        try:
            yield pipes
        finally:
            for pipe in pipes:
                os.close(pipe)
