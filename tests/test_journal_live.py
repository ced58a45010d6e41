"""A journal that is away, does not read, or has no room: sessions go on.

Law: journald is a real one, and what happens to it happens while sessions live, others
begin and an application writes far more to its standard error than fits into a queue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import pytest

from chimirror.system.records import APPLICATION_OUTPUT
from machine import PORT, Machine
from peers import Closed, Peer
from sessions import (
    SERVER_PORT,
    echo,
    ended,
    open_session,
    own_address,
    serve_many,
)
from settling import until

pytestmark = pytest.mark.timeout(120)

SERVICE = "systemd-journald.service"
SOCKETS = ("systemd-journald.socket", "systemd-journald-dev-log.socket")
FILES = "/run/log/journal"
Trouble = Callable[[Machine], AbstractContextManager[None]]
LINES = 5000  # records; the kernel keeps a few hundred for one who does not read
# Writes so many lines to stderr for every line that it reads, and then that line.
TALKER = f"""
import sys
for line in sys.stdin:
    for number in range({LINES}):
        print(number, file=sys.stderr)
    print(line, end="", flush=True)
"""


@contextmanager
def restarted(machine: Machine) -> Iterator[None]:
    machine.do("systemctl", "restart", SERVICE)
    yield


@contextmanager
def absent(machine: Machine) -> Iterator[None]:
    machine.do("systemctl", "stop", SERVICE, *SOCKETS)
    try:
        yield
    finally:
        machine.do("systemctl", "start", *SOCKETS, SERVICE)


@contextmanager
def stopped(machine: Machine) -> Iterator[None]:
    """It lives, and does not read."""
    machine.do("systemctl", "kill", "--signal=STOP", SERVICE)
    try:
        yield
    finally:
        machine.do("systemctl", "kill", "--signal=CONT", SERVICE)


@contextmanager
def full(machine: Machine) -> Iterator[None]:
    """Its file system has no room for one byte more."""
    size = 16 << 20
    machine.do("mount", "-t", "tmpfs", "-o", f"size={size}", "none", FILES)
    machine.do("systemctl", "restart", SERVICE)
    try:
        with pytest.raises(OSError, match="No space left"):
            machine.path(f"{FILES}/other").write_bytes(bytes(size))
        yield
    finally:
        machine.do("umount", "--lazy", FILES)
        machine.do("systemctl", "restart", SERVICE)


TROUBLES: tuple[Trouble, ...] = (restarted, absent, stopped, full)


@pytest.mark.parametrize("port", [PORT, SERVER_PORT], ids=["bridge", "server"])
@pytest.mark.parametrize("trouble", TROUBLES)
def test_sessions_go_on(machine: Machine, trouble: Trouble, port: int) -> None:
    serve_many(machine, "--drain-timeout 0 --stderr log")
    machine.write("/opt/talker.py", TALKER)
    machine.configure("/usr/bin/python3", "/opt/talker.py", options="--stderr log")
    with ExitStack() as stack:
        peer = open_session(machine, stack, port)
        session = identity(machine, peer)
        with trouble(machine):
            echo(peer)
            other = open_session(machine, stack, port)
            echo(other)
            leave(other)
        leave(peer)
        assert ended(machine, session)["CHIMIRROR_REASON"] == "client close 1000"


@pytest.mark.parametrize("port", [PORT, SERVER_PORT], ids=["bridge", "server"])
def test_what_it_did_not_read_is_counted(machine: Machine, port: int) -> None:
    serve_many(machine)
    machine.write("/opt/talker.py", TALKER)
    machine.configure("/usr/bin/python3", "/opt/talker.py", options="--stderr log")
    with ExitStack() as stack:
        peer = open_session(machine, stack, port)
        session = identity(machine, peer)
        with stopped(machine):
            echo(peer)
        leave(peer)
        ended(machine, session)
    said = machine.journal(CHIMIRROR_SESSION=session)
    written = [one for one in said if one["MESSAGE_ID"] == APPLICATION_OUTPUT]
    dropped = sum(int(one.get("CHIMIRROR_DROPPED", "0")) for one in said)
    assert dropped > 0
    assert len(written) + dropped == LINES


def identity(machine: Machine, peer: Peer) -> str:
    """The session, once it has been recorded."""
    found: list[str] = []

    def ask() -> bool:
        entries = machine.journal(CHIMIRROR_PEER=own_address(peer))
        found[:] = [one["CHIMIRROR_SESSION"] for one in entries]
        return bool(found)

    until(ask, "the start of a session in the journal")
    return found[0]


def leave(peer: Peer) -> None:
    peer.send_close(1000)
    assert isinstance(peer.receive(), Closed)
