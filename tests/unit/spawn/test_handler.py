"""A link that is lost while an application is being started as another user."""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING, cast

from chimirror.process.spawner import Program, Spawner
from chimirror.spawn import messages
from chimirror.spawn.handler import LinkHandler, SpawnHandler
from loops import event_loop, turn_until

if TYPE_CHECKING:
    from chimirror.process.spawner import SpawnClient, SpawnRequest


class SlowSpawner:
    """Spawner whose starts take until the test calls their clients."""

    def __init__(self) -> None:
        self.clients_of_starts: list[SpawnClient] = []
        self.signals: list[tuple[int, int]] = []
        self.sessions: list[tuple[int, str]] = []

    def start(self, request: SpawnRequest) -> None:
        self.clients_of_starts.append(request.client)

    def clients(self) -> list[object]:
        return []

    def signal(self, pid: int, number: int) -> None:
        self.signals.append((pid, number))

    def end_session(self, pid: int, session: str, survivors: bool) -> None:
        self.sessions.append((pid, session))


class Owner:
    closed = 0

    def on_link_closed(self, handler: LinkHandler) -> None:
        self.closed += 1

    def on_faulty_packet(self, reason: str) -> None:
        raise AssertionError(reason)

    def on_error(self, error: Exception) -> None:
        raise error


def test_an_application_that_starts_after_its_peer_has_gone_is_killed() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    spawner, owner = SlowSpawner(), Owner()
    with event_loop() as loop, theirs:
        handler = SpawnHandler(
            loop, owner, ours, cast("Spawner", spawner), 5.0, Program(("cat",))
        )
        variables = {"CHIMIRROR_SESSION": "s-1"}
        theirs.send(messages.encode(messages.StartRequest(1, variables)))
        turn_until(loop, lambda: spawner.clients_of_starts)
        theirs.close()
        turn_until(loop, lambda: handler.lost)
        pipes = *os.pipe(), -1, -1
        (client,) = spawner.clients_of_starts
        client.on_started(4711, pipes)
        assert spawner.signals == [(4711, signal.SIGKILL)]
        for fd in pipes[:2]:
            assert not os.path.exists(f"/proc/self/fd/{fd}")
        client.on_exit(-signal.SIGKILL, survivors=False)
        assert spawner.sessions == [(4711, "s-1")]
        assert owner.closed
        loop.close_all()
