"""Opens, uses and finds sessions on a systemd machine of the tests.

Knows neither the tests nor how the machine was booted (systemd_machine).
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from chimirror.log.records import REFUSED, SESSION_ENDED, SESSION_STARTED
from processes import PATIENCE, comm, read, until
from systemd_machine import PORT, Machine
from websocket_peer import NO_CLOSE, Closed, Peer

SERVER = "chimirror-server.service"
SERVER_PORT = 30748


def open_session(
    machine: Machine, stack: ExitStack, port: int = PORT, source: str = "127.0.0.1"
) -> Peer:
    peer = stack.enter_context(Peer(machine.connect(port, source)))
    assert peer.open().status == 101
    return peer


def echo(peer: Peer) -> None:
    """Check that a session with `cat` works."""
    peer.send({"a": 1})
    assert peer.output(8) == b'{"a":1}\n'


def own_address(peer: Peer) -> str:
    host, port = peer.socket.getsockname()
    return f"{host}:{port}"


def wait_until_idle(machine: Machine) -> None:
    """Wait until all sessions have ended and chimirror.socket counts no connection."""
    until(lambda: not machine.sessions(), "no session is left")
    until(lambda: connections(machine)[0] == 0, "the socket has no connection")


def connections(machine: Machine) -> tuple[int, int]:
    """Return the current and all former connections of chimirror.socket.

    The second number contains those that systemd has refused.
    """
    names = ("NConnections", "NAccepted", "NRefused")
    show = ("systemctl", "show", f"--property={','.join(names)}", "chimirror.socket")
    found = dict(line.split("=", 1) for line in machine.do(*show).splitlines())
    current, accepted, refused = (int(found[name]) for name in names)
    return current, accepted + refused


def wait_until_served(machine: Machine, former: int, timeout: float = PATIENCE) -> None:
    """Wait until systemd has taken all connections of the queue, and all have ended.

    Args:
        former: the second number of `connections`, those to come included.
    """
    until(lambda: connections(machine) == (0, former), "all were served", timeout)
    until(lambda: not machine.sessions(), "no session is left")


def closed_abruptly(peer: Peer) -> bool:
    """Return True if the connection ends without a close frame."""
    return how_closed(peer) is None


def how_closed(peer: Peer) -> object:
    """Return what is received next, and None for an end without a close frame."""
    try:
        received = peer.receive()
    except ConnectionResetError:
        return None
    return None if received == Closed(NO_CLOSE, "") else received


def started(machine: Machine, session: str) -> dict[str, str]:
    """Return the record of the start of a session."""
    return recorded(machine, MESSAGE_ID=SESSION_STARTED, CHIMIRROR_SESSION=session)


def ended(machine: Machine, session: str) -> dict[str, str]:
    """Return the record of the end of a session."""
    return recorded(machine, MESSAGE_ID=SESSION_ENDED, CHIMIRROR_SESSION=session)


def refused(machine: Machine, peer: Peer) -> dict[str, str]:
    """Return the record of the rejection of a client, written after the response."""
    return recorded(machine, MESSAGE_ID=REFUSED, CHIMIRROR_PEER=own_address(peer))


def recorded(machine: Machine, **match: str) -> dict[str, str]:
    found: list[dict[str, str]] = []

    def ask() -> bool:
        found[:] = machine.journal(**match)
        return bool(found)

    until(ask, f"a record of {match} in the journal")
    return found[0]


def by_session(entries: list[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for entry in entries:
        found.setdefault(entry["CHIMIRROR_SESSION"], []).append(entry)
    return found


def only_session(machine: Machine) -> str:
    """Return the unit of the only session."""
    (unit,) = machine.sessions()
    return unit


def invocation(machine: Machine, unit: str) -> str:
    return systemctl_show(machine, unit, "InvocationID")


# Units with many processes


def serve_many(machine: Machine, options: str = "--drain-timeout 0") -> None:
    """Serve `cat` by chimirror-server.socket too, beside chimirror.socket."""
    machine.configure("/usr/bin/cat", options=options)
    address = f"ListenStream=127.0.0.1:{SERVER_PORT}"
    machine.drop_in("chimirror-server.socket", "Socket", "ListenStream=", address)
    machine.do("systemctl", "start", "chimirror-server.socket")


def main_process(machine: Machine, unit: str) -> int:
    """Return the main process of a unit, by its process id outside the machine."""
    return outer_pid(machine, unit, systemctl_show(machine, unit, "MainPID"))


def outer_pid(machine: Machine, unit: str, inside: object) -> int:
    """Return the process id outside the machine of a process of a unit.

    Args:
        inside: its process id inside the machine.
    """
    for pid in machine.processes(unit):
        status = read(f"/proc/{pid}/status").decode()
        for line in status.splitlines():
            if line.startswith("NSpid:") and line.split()[-1] == str(inside):
                return pid
    raise AssertionError(f"no process {inside} in {unit}")


def await_named(machine: Machine, unit: str, name: str, count: int = 1) -> list[int]:
    """Return the processes of this comm name, which execve(2) sets, once they run."""
    found: list[int] = []

    def ask() -> bool:
        found[:] = named(machine, unit, name)
        return len(found) == count

    until(ask, f"{count} {name} in {unit}")
    return found


def named(machine: Machine, unit: str, name: str) -> list[int]:
    """Return the processes of a unit that have this comm name (proc(5))."""
    return [pid for pid in machine.processes(unit) if comm(pid) == name]


def systemctl_show(machine: Machine, unit: str, name: str) -> str:
    return machine.do("systemctl", "show", "-P", name, unit).strip()


@contextmanager
def zygote_application(machine: Machine) -> Iterator[list[int]]:
    """Start an application by chimirror-zygote.service. Yields its stdin and stdout."""
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
