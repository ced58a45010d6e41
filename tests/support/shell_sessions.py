"""Sessions of a server with a shell that evaluates each line, and its processes.

Knows the processes of a server: workers and zygote. Their signals are real.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from processes import comm, ended, parent_of, read, until
from serve import Service
from websocket_peer import Peer, stdin, upgrade

SHELL = ["bash", "-c", 'echo up; while read -r line; do eval "$line"; done']
# A line for this shell: say `ok`, wait for SIGUSR1, and say `heard`. A signal that
# arrives just before a read(2) would be handled after the next line only.
AWAIT_USR1 = "it=; trap 'it=heard' USR1; echo ok; until [ $it ]; do sleep 0.1; done"
AWAIT_USR1 += "; echo $it"
SOON = 200.0


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


def sleepers(service: Service) -> list[int]:
    """Return the processes that `daemon` has started."""
    return [pid for pid in service.applications() if comm(pid) == "sleep"]


def daemon(service: Service, peer: Peer, parent: int = 0) -> int:
    """Start a process that leaves its session. Returns its pid.

    Args:
        service: the server.
        peer: a session with the shell.
        parent: waits until this process has adopted it.
    """
    before = set(sleepers(service))
    assert told(peer, "setsid -f sleep 1000 >&- 2>&-; echo ok", 3) == b"ok\n"
    new: list[int] = []

    def is_adopted() -> bool:
        after = set(sleepers(service)) - before
        new[:] = [pid for pid in after if parent in (0, parent_of(pid))]
        return bool(new)

    until(is_adopted, "it is adopted")
    return new[0]


def adopts(adopter: int, pid: int) -> bool:
    """Return True if this is the parent of a process, which is killed otherwise.

    Without a supervisor, a worker or a zygote adopts once it has read that. Before, the
    guardian adopts, and a process keeps its new parent.
    """
    if parent_of(pid) == adopter:
        return True
    os.kill(pid, signal.SIGKILL)
    return not ended(pid, SOON)
