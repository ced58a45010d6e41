"""Sessions on a machine of the tests: opened, used, seen, gone.

Ignorance: which test asks, and how the machine came to be (machine.py).
"""

from __future__ import annotations

from contextlib import ExitStack

from chimirror.system.records import SESSION_ENDED
from machine import Machine
from peers import NO_CLOSE, Closed, Peer
from settling import PATIENCE, until


def open_session(machine: Machine, stack: ExitStack) -> Peer:
    peer = stack.enter_context(Peer(machine.connect()))
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


def ended(machine: Machine, session: str) -> dict[str, str]:
    """The record of the end of a session."""
    found: list[dict[str, str]] = []

    def ask() -> bool:
        found[:] = machine.journal(MESSAGE_ID=SESSION_ENDED, CHIMIRROR_SESSION=session)
        return bool(found)

    until(ask, f"the end of {session} in the journal")
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
    return machine.do("systemctl", "show", "-P", "InvocationID", unit).strip()
