"""Sessions of a server with a shell that evaluates each line, and its processes.

Knows the processes of a server: workers and zygote. Their signals are real.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from processes import read, until
from serve import Service
from websocket_peer import Peer, stdin, upgrade

SHELL = ["bash", "-c", 'echo up; while read -r line; do eval "$line"; done']
# A line for this shell: say `ok`, wait for SIGUSR1, and say `heard`. A signal that
# arrives just before a read(2) would be handled after the next line only.
AWAIT_USR1 = "it=; trap 'it=heard' USR1; echo ok; until [ $it ]; do sleep 0.1; done"
AWAIT_USR1 += "; echo $it"
SOON = 30.0


def kill_zygote(service: Service) -> int:
    """Kill the zygote and wait for its successor. Returns the former pid."""
    (victim,) = service.zygotes()
    os.kill(victim, signal.SIGKILL)
    service.find(rf"the zygote \(pid {victim}\) ended: signal KILL")
    until(lambda: service.zygotes() not in ([], [victim]), "a successor", SOON)
    return victim


def join(service: Service) -> Peer:
    peer = Peer(service.connect())
    assert peer.open(framing="stdio").status == 101
    assert peer.message()["type"] == "session"
    assert peer.output(3) == b"up\n"
    return peer


def ask(peer: Peer) -> None:
    peer.send_raw(upgrade("/", "json", ()))


def told(peer: Peer, line: str, size: int) -> bytes:
    """Return the answer of the application's shell."""
    peer.send(stdin(f"{line}\n".encode()))
    return peer.output(size)


def pid_of(peer: Peer) -> int:
    return int(told(peer, "printf %08d $$", 8))


@contextmanager
def suspended(pid: int) -> Iterator[None]:
    """Stop a process with a signal for a while."""
    os.kill(pid, signal.SIGSTOP)
    until(lambda: b"\nState:\tT" in read(f"/proc/{pid}/status"), "it stops")
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
