"""Thousands of clients that vanish while an authorizer is asked about them.

The worker, its sockets and the questions are real. Processes, time and the answers are
not. In the end nothing is left of any client.
"""

from __future__ import annotations

import os
import random
import socket
from typing import Any, cast

import pytest

from chimirror.access import (
    FAILED,
    FORBIDDEN,
    UNKNOWN,
    Answer,
    Identity,
    failure_limiter,
)
from chimirror.access.access_control import AccessControl
from chimirror.access.authorizer import Authorizer, PendingQuestion
from running_worker import RunningWorker, running_worker
from websocket_peer import upgrade

ROUNDS, CLIENTS = 50, 40
IDENTITY = Identity("ann", "Basic")
ANSWERS = (
    *(Answer(200, IDENTITY), Answer(200, IDENTITY, max_age=2), Answer(UNKNOWN)),
    *(Answer(FORBIDDEN), Answer(FAILED, text="broken")),
)
STATUSES = {401, 403, 503}
LIST = b"GET /.well-known/chimirror HTTP/1.1\r\nHost: localhost\r\n\r\n"


class RandomTransport:
    """Transport that answers in any order, twice, late or never."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.asked: list[PendingQuestion] = []
        self.answered: list[PendingQuestion] = []

    def is_ready(self) -> bool:
        return self.chance.random() < 0.9

    def ask(self, pending: PendingQuestion) -> None:
        self.asked.append(pending)
        if self.chance.random() < 0.1:  # at once
            self.answer(pending)

    def drop(self, pending: PendingQuestion, *, timed_out: bool) -> None:
        self.asked.remove(pending)
        if self.chance.random() < 0.5:
            self.answered.append(pending)  # its answer comes all the same

    def close(self) -> None:
        self.asked.clear()

    def answer(self, pending: PendingQuestion) -> None:
        if pending in self.asked:
            self.asked.remove(pending)
            self.answered.append(pending)
        pending.finish(self.chance.choice(ANSWERS))

    def answer_some(self) -> None:
        for pending in self.chance.sample(self.asked, len(self.asked) // 2):
            if pending in self.asked:
                self.answer(pending)
        for pending in self.answered:
            pending.finish(self.chance.choice(ANSWERS))  # once more
        self.answered.clear()


class Clients:
    """Clients of a worker that come, send and vanish at random."""

    def __init__(self, one: RunningWorker, chance: random.Random) -> None:
        self.one = one
        self.chance = chance
        self.sockets: list[socket.socket] = []

    def come(self) -> None:
        client = socket.socket(socket.AF_UNIX)
        client.connect(self.one.listeners[0].address.removeprefix("unix:"))
        self.sockets.append(client)
        path = f"/{self.chance.randrange(8)}"
        login = ("Authorization: Basic QTpC",) * self.chance.randrange(2)
        request = self.chance.choice((upgrade(path, "json", login), LIST))
        if self.chance.random() < 0.2:
            request = request[: self.chance.randrange(len(request))]
        client.sendall(request)

    def go(self, share: float) -> None:
        for client in list(self.sockets):
            if self.chance.random() < share:
                self.sockets.remove(client)
                if self.chance.random() < 0.3:
                    client.shutdown(socket.SHUT_WR)
                    self.one.loop.run_once()
                client.close()


def left_over(one: RunningWorker, authorizer: Authorizer) -> dict[str, int]:
    worker = one.worker
    return {
        "connecting": worker.connecting,
        "handshakes": len(worker.handshakes),
        "responses": len(worker.responses),
        "sessions": len(worker.sessions),
        "counted sessions": one.table.total(),
        "waiting": len(authorizer._waiting),
        "asked": len(authorizer._asked),
        "timers": sum(map(len, one.loop._buckets.values())),
    }


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("options", [(), ("--max-handshakes", "16")])
def test_nothing_is_left(
    seed: int, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failure_limiter, "BURST", 1 << 30)  # for the one local user
    chance = random.Random(seed)
    with running_worker("--allow-uid", "0", *options) as one:
        transport = RandomTransport(chance)
        host = cast("Any", one.worker)
        authorizer = Authorizer(host, "it", 3.0, lambda _: transport)
        access = AccessControl({}, authorizer, (), one.clock, allow_anonymous=True)
        one.worker.access = access
        clients, before = Clients(one, chance), len(os.listdir("/proc/self/fd"))
        for _ in range(ROUNDS):
            for _ in range(CLIENTS):
                clients.come()
                if chance.random() < 0.3:
                    one.loop.run_once()
            clients.go(0.3)
            transport.answer_some()
            authorizer.on_room()
            one.wait(chance.random())
            clients.go(0.4)
        clients.go(1.0)
        one.wait(100)
        assert len(one.applications._cast) > 50
        assert {each["status"] for each in one.records.of("refused")} >= STATUSES
        assert set(left_over(one, authorizer).values()) == {0}
        assert len(os.listdir("/proc/self/fd")) == before
        errors = [note for note in one.records.of("note") if note["priority"] <= 3]
        assert not errors


def test_a_drain_ends_all_questions() -> None:
    chance = random.Random(1)
    with running_worker("--allow-uid", "0", "--drain-timeout", "1") as one:
        transport = RandomTransport(chance)
        host = cast("Any", one.worker)
        authorizer = Authorizer(host, "it", 60.0, lambda _: transport)
        one.worker.access = AccessControl(
            {}, authorizer, (), lambda: 0.0, allow_anonymous=False
        )
        clients = Clients(one, chance)
        for _ in range(100):
            clients.come()
            one.loop.run_once()
        assert len(authorizer._asked) > 20
        one.worker.drain()
        transport.answer_some()
        one.wait(1)
        one.worker.access.close()
        clients.go(1.0)
        one.wait(60)
        assert not one.running()
        left = left_over(one, authorizer)
        del left["timers"]  # that of the drain
        assert set(left.values()) == {0}
