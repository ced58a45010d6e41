"""Servers with spares: which processes wait for clients, and how sessions take them.

A spare is a process of an application that has no session.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from processes import until
from serve import Service
from shell_sessions import SOON
from websocket_peer import Peer, stdin

GRACES = ("--stop-grace=50ms", "--kill-grace=100ms", "--linger-timeout=100ms")
# A program that says its pid and repeats its input.
ECHO = ["bash", "-c", "printf %08d $$; exec cat"]


class Entered(NamedTuple):
    """A session of ECHO: its client, its process and its id."""

    peer: Peer
    pid: int
    session: str

    def echoes(self) -> bool:
        self.peer.send(stdin(b"hello\n"))
        return self.peer.output(6) == b"hello\n"

    def close(self) -> None:
        self.peer.close()


def enter(service: Service, target: str = "/") -> Entered:
    """Open a session of ECHO."""
    return joined(started(service, target))


def started(service: Service, target: str = "/") -> Peer:
    """Open a session and read the response."""
    peer = Peer(service.connect())
    assert peer.open(target, framing="stdio").status == 101
    return peer


def joined(peer: Peer) -> Entered:
    first = peer.message()
    assert first["type"] == "session"
    return Entered(peer, int(peer.output(8)), first["id"])


def born(pid: int) -> int:
    """Return the time of the start of a process, in clock ticks since the boot."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return int(fields[19])


def await_spares(service: Service, count: int, *others: int) -> set[int]:
    """Wait until this many applications run besides others. Returns their pids."""
    found: set[int] = set()

    def ask() -> bool:
        found.clear()
        found.update(set(service.applications()) - set(others))
        return len(found) == count

    until(ask, f"{count} spares", SOON)
    return found
