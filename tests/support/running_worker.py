"""One worker in this process: real listeners and connections, fake processes and time.

Sent bytes arrive at once: the worker listens on a Unix socket by default.
"""

from __future__ import annotations

import select
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from chimirror.config import parser
from chimirror.io import listener
from chimirror.io.loop import EventLoop
from chimirror.process.spawner import SpawnRequest
from chimirror.server.admission import WorkerAdmission
from chimirror.server.capacity import Room
from chimirror.server.limit_table import LimitTable
from chimirror.server.spare_table import SpareTable
from chimirror.server.worker import Worker
from session_harness import FakeClock, FakeSpawner, RecordingEventLog
from websocket_peer import Peer, upgrade

MANY = 1000
ROOM = Room(MANY, 100, 512, 512)


class FakeApplications(FakeSpawner):
    """A spawner of fake applications, which end when they are killed or stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.obedient = True
        self.fails = False
        self.answers_late = False
        self._cast: list[FakeSpawner] = []

    def start(self, request: SpawnRequest) -> None:
        member = Member(self, len(self._cast) + 1)
        self._cast.append(member)
        member.answers_late = self.answers_late
        if self.fails:
            member.failure, member.shortage = "no memory", True
        member.start(request)

    def signal(self, pid: int, number: int) -> bool:
        if number == signal.SIGKILL or self.obedient:
            member = self._cast[pid - 1]
            if not member.ended:
                member.exit(-number)
        return True

    def transfer(self, pid: int, client: Any) -> None:
        self._cast[pid - 1].transfer(pid, client)

    def end_session(self, pid: int, session: str, survivors: bool) -> None:
        """No process is left to sweep."""

    def close(self) -> None:
        for member in self._cast:
            member.close()


class Member(FakeSpawner):
    """A fake application."""

    def __init__(self, spawner: FakeApplications, pid: int) -> None:
        super().__init__()
        self.pid = pid


class CountingWorker(Worker):
    """A worker that counts the connections that it accepts."""

    accepted = 0

    def on_connection(self, fd: int, address: object) -> None:
        self.accepted += 1
        super().on_connection(fd, address)


class RunningWorker:
    """A worker with its listeners."""

    def __init__(
        self,
        listeners: list[listener.Listener],
        *arguments: str,
        most: int = MANY,
        room: Room = ROOM,
        processes: int = MANY,
    ) -> None:
        self.clock = FakeClock()
        self.loop = EventLoop(self.clock, self.clock)
        self.records = RecordingEventLog()
        self.applications = FakeApplications()
        config = parser.parse_server([*arguments, "--", "program"])
        self.table = LimitTable(most, None, None, 2)
        self.spare_table = SpareTable(2, processes)
        self.worker = CountingWorker(
            config,
            self.loop,
            cast("Any", self.applications),
            cast("Any", self.records),
            WorkerAdmission(self.table, None, None, 0),
            0,
            room,
            self.spare_table,
        )
        self.listeners = listeners
        self.peers: list[Peer] = []
        self.loop.running = False
        self.worker.serve(listeners)
        self.loop.running = True

    def connect(self) -> Peer:
        address = self.listeners[0].address
        if address.startswith("unix:"):
            client = socket.socket(socket.AF_UNIX)
            self.peers.append(Peer(client))
            client.connect(address.removeprefix("unix:"))
        else:
            host, _, port = address.rpartition(":")
            client = socket.create_connection((host, int(port)))
            self.peers.append(Peer(client))
        return self.peers[-1]

    def open(self) -> Peer:
        peer = self.connect()
        peer.send_raw(upgrade("/", "json", ()))
        self.until_served(peer)
        assert peer.head().status == 101
        return peer

    def until_served(self, peer: Peer) -> None:
        """Serve until the client has something to read."""
        self.until(lambda: select.select([peer.socket], [], [], 0)[0])

    def until(self, ask: Callable[[], object]) -> None:
        while not ask():
            self.wait()

    def wait(self, seconds: float = 0) -> None:
        self.clock.limit = self.clock.now + seconds
        self.loop.run_once()
        while self.loop.running and (
            not self.clock.idle or self.clock.now < self.clock.limit
        ):
            self.loop.run_once()

    def running(self) -> bool:
        return self.loop.running

    def accepting(self) -> bool:
        return self.worker._acceptor.open

    def close(self) -> None:
        for peer in self.peers:
            peer.close()
        sessions = list(self.worker.sessions.values())
        for entry in self.worker.all_connections():
            entry.connection.abort()
        for session in sessions:
            session.process.kill()
        self.worker._spares.drain()
        self.worker._spares.kill()
        self.applications.close()
        self.worker._acceptor.close()
        for opened in self.listeners:
            opened.remove()
        self.loop.close_all()
        self.table.close()
        self.spare_table.close()


@contextmanager
def running_worker(
    *arguments: str, address: str = "", **limits: Any
) -> Iterator[RunningWorker]:
    """Run a worker on a Unix socket: sent bytes arrive at once (TCP is slower)."""
    with tempfile.TemporaryDirectory() as directory:
        listeners = listener.open_all([address or f"unix:{directory}/socket"], 0o600)
        made = RunningWorker(listeners, *arguments, **limits)
        try:
            yield made
        finally:
            made.close()
