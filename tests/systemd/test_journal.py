"""Tests that sessions go on while the journal is stopped, hangs or is full.

journald is the real one. It fails while sessions live and other sessions begin.
Meanwhile an application writes far more to stderr than fits into a socket queue. No
line is lost as long as the journal exists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import pytest

from chimirror.log.records import (
    APPLICATION_OUTPUT,
    SESSION_ENDED,
    SESSION_STARTED,
)
from chimirror.log.serving import SERVING
from chimirror.text import short_id
from machine_sessions import (
    SERVER_PORT,
    echo,
    ended,
    open_session,
    own_address,
    recorded,
    serve_many,
)
from systemd_machine import PORT, Machine
from websocket_peer import Closed, Peer

pytestmark = pytest.mark.timeout(300)

SERVICE = "systemd-journald.service"
SOCKETS = ("systemd-journald.socket", "systemd-journald-dev-log.socket")
FILES = "/run/log/journal"
Trouble = Callable[[Machine], AbstractContextManager[None]]
# records; the kernel queues a few hundred for a journal that does not read
LINES = 2000
# Writes this many lines to stderr for every line of input, and then that line.
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
    """Stop journald with a signal: the process lives but does not read."""
    machine.do("systemctl", "kill", "--signal=STOP", SERVICE)
    try:
        yield
    finally:
        machine.do("systemctl", "kill", "--signal=CONT", SERVICE)


@contextmanager
def full(machine: Machine) -> Iterator[None]:
    """Fill the file system of the journal."""
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


@contextmanager
def limited(machine: Machine) -> Iterator[None]:
    """Let the journal drop messages of a unit that sends more than a few."""
    path = "/etc/systemd/journald.conf.d/zz-limited.conf"
    machine.write(path, "[Journal]\nRateLimitIntervalSec=1h\nRateLimitBurst=10\n")
    machine.do("systemctl", "restart", SERVICE)
    try:
        yield
    finally:
        machine.path(path).unlink()
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
def test_lines_wait_for_the_journal(machine: Machine, port: int) -> None:
    """More than the pipe and one read hold, so the application has to wait."""
    times = 15
    serve_many(machine)
    machine.write("/opt/talker.py", TALKER)
    machine.configure("/usr/bin/python3", "/opt/talker.py", options="--stderr log")
    with ExitStack() as stack:
        peer = open_session(machine, stack, port)
        session = identity(machine, peer)
        with stopped(machine):
            for _ in range(times):
                peer.send({"a": 1})
            received = peer.output(8)
        received += peer.output(8 * times - len(received))
        assert received == b'{"a":1}\n' * times
        leave(peer)
        ended(machine, session)
    assert logged(machine, session) == numbers(LINES) * times


@pytest.mark.parametrize("port", [PORT, SERVER_PORT], ids=["bridge", "server"])
def test_the_journal_does_not_limit_the_units(machine: Machine, port: int) -> None:
    serve_many(machine)
    machine.write("/opt/talker.py", TALKER)
    machine.configure("/usr/bin/python3", "/opt/talker.py", options="--stderr log")
    with limited(machine), ExitStack() as stack:
        peer = open_session(machine, stack, port)
        session = identity(machine, peer)
        echo(peer)
        leave(peer)
        ended(machine, session)
        assert logged(machine, session) == numbers(LINES)


@pytest.mark.full
@pytest.mark.parametrize("port", [PORT, SERVER_PORT], ids=["bridge", "server"])
def test_bursts_of_many_sessions(machine: Machine, port: int, *, full: bool) -> None:
    """A limited number of sessions writes at once. The journal gets all lines."""
    count, sessions = (15_000 if full else 3_000), 10
    serve_many(machine)
    machine.write("/opt/burst.sh", f"read go; seq 0 {count - 1} >&2; exit 3")
    machine.configure("/bin/sh", "/opt/burst.sh", options="--stderr log")
    with ExitStack() as stack:
        peers = [open_session(machine, stack, port) for _ in range(sessions)]
        names = [identity(machine, peer) for peer in peers]
        for peer in peers:
            peer.send(1)
        for peer in peers:
            assert peer.receive() == Closed(1011, "exit 3")
        for name in names:
            ended(machine, name)
            assert logged(machine, name) == numbers(count)


def logged(machine: Machine, session: str) -> list[str]:
    """Return the lines between the start and the end of a session, in their order."""
    entries = machine.journal(CHIMIRROR_SESSION=session)
    first, *lines, last = [one for one in entries if one["MESSAGE_ID"] != SERVING]
    assert first["MESSAGE_ID"] == SESSION_STARTED
    assert last["MESSAGE_ID"] == SESSION_ENDED
    assert {line["MESSAGE_ID"] for line in lines} == {APPLICATION_OUTPUT}
    assert not [entry for entry in entries if "CHIMIRROR_DROPPED" in entry]
    found = [line["MESSAGE"].partition(": ") for line in lines]
    assert {name for name, _, _ in found} <= {short_id(session)}
    return [text for _, _, text in found]


def numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def identity(machine: Machine, peer: Peer) -> str:
    """Return the session once its start has been recorded."""
    found = recorded(
        machine, MESSAGE_ID=SESSION_STARTED, CHIMIRROR_PEER=own_address(peer)
    )
    return found["CHIMIRROR_SESSION"]


def leave(peer: Peer) -> None:
    peer.send_close(1000)
    assert isinstance(peer.receive(), Closed)
