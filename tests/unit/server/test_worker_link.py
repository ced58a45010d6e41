"""The supervisor's end of the link to a worker. The test plays the worker."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any, cast

import pytest

from chimirror.io import packet_socket
from chimirror.io.loop import EventLoop
from chimirror.server.worker_link import WorkerLink
from chimirror.spawn import messages
from chimirror.spawn.handler import ManagedProcess
from chimirror.spawn.messages import AdoptRequest, SignalBatch, SignalsTaken
from loops import turn_until

BATCH = SignalBatch([[15, 7, "a"], [18, 7, "a"], [9, 8, "b"]])


class Orphans:
    """Watcher of the children of the supervisor: there is one, 7, once claimed."""

    def __init__(self) -> None:
        self.processes: dict[int, ManagedProcess] = {}
        self.signalled: list[tuple[int, int]] = []

    def claim(self, processes: list[ManagedProcess]) -> None:
        self.processes |= {process.pid: process for process in processes}
        if 0 in self.processes:
            raise LookupError("a bug")

    def client(self, pid: int) -> ManagedProcess | None:
        return self.processes.get(pid)

    def clients(self) -> list[ManagedProcess]:
        return list(self.processes.values())

    def signal(self, pid: int, number: int) -> None:
        self.signalled.append((pid, number))


class Scene:
    """A link, and the claim handler that it calls."""

    def __init__(self) -> None:
        self.loop = EventLoop()
        own_end, self.worker = packet_socket.pair()
        self.worker.setblocking(False)
        self.orphans = Orphans()
        self.deferred = False
        self.reasons: list[str] = []
        self.missing = 0
        owner, orphans = cast("Any", self), cast("Any", self.orphans)
        self.link = WorkerLink(self.loop, owner, own_end, orphans, 1.0, 0)

    def on_claim(self, worker_link: WorkerLink, message: AdoptRequest) -> None:
        if not self.deferred:
            worker_link.adopt(message)

    def is_deferred(self, worker_link: WorkerLink) -> bool:
        return self.deferred

    def on_link_missing(self, worker_link: WorkerLink) -> None:
        self.missing += 1

    def on_link_error(self, error: Exception) -> None:
        self.reasons.append(repr(error))

    def on_faulty_packet(self, reason: str) -> None:
        self.reasons.append(reason)

    def on_link_closed(self, handler: object) -> None:
        self.reasons.append("closed")

    def send(self, *packets: messages.Message | bytes) -> None:
        """Send packets, and serve them."""
        for packet in packets:
            encoded = packet if isinstance(packet, bytes) else messages.encode(packet)
            self.worker.send(encoded)
        self.link.link.receive(len(packets))

    def receive(self) -> list[object]:
        try:
            return [messages.decode(self.worker.recv(1 << 19))]
        except BlockingIOError:
            return []


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    yield made
    made.link.link.close()
    made.worker.close()
    made.loop.close_all()


def test_signals_wait_for_deferred_claims(scene: Scene) -> None:
    scene.deferred = True
    claim = AdoptRequest({"a": 7})
    scene.send(claim, BATCH)
    assert (scene.receive(), scene.orphans.signalled) == ([], [])
    scene.deferred = False
    scene.link.adopt(claim)
    scene.link.on_claims_served()
    assert scene.receive() == [SignalsTaken(3)]
    assert scene.orphans.signalled == [(7, 15), (7, 18)], "8 is not of this worker"
    scene.link.on_claims_served()
    assert scene.receive() == []


def test_a_worker_can_ask_for_its_link_again(scene: Scene) -> None:
    scene.send(messages.ZygoteLinkMessage(3))
    assert scene.missing == 1


@pytest.mark.parametrize("packet", [b"nonsense", b'{"ready":true}', b'{"start":1}'])
def test_a_faulty_packet_is_dropped_alone(packet: bytes, scene: Scene) -> None:
    scene.worker.send(packet)
    scene.worker.send(messages.encode(AdoptRequest({"a": 7})))
    scene.worker.send(messages.encode(BATCH))
    turn_until(scene.loop, lambda: scene.orphans.signalled)
    assert len(scene.reasons) == 1
    assert scene.link.link.fd >= 0


def test_an_internal_error_ends_this_link_only(scene: Scene) -> None:
    scene.worker.send(messages.encode(AdoptRequest({"a": 0})))
    turn_until(scene.loop, lambda: scene.link.lost)
    assert scene.reasons[0] == "LookupError('a bug')"


def test_a_worker_that_reads_nothing_loses_its_link(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packet_socket, "MAX_QUEUED_PACKETS", 5)
    scene.worker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    while scene.link.link.fd >= 0:
        scene.link.send(messages.ZygoteLinkMessage(1))
    turn_until(scene.loop, lambda: scene.link.lost)
    assert scene.reasons == ["BufferError('it reads no packets')", "closed"]


def test_ends_wait_while_the_link_is_full(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    for callback in ("call_after_reap", "end_session"):
        monkeypatch.setattr(
            Orphans, callback, lambda self, call, *more: call(), raising=False
        )
    scene.worker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    while not scene.link.link.queued_packets:
        scene.link.send(messages.Ready())
    for pid in range(1, 2001):
        process = ManagedProcess(scene.link, str(pid), 0, pid)
        scene.link.on_process_exit(process, 0, survivors=False)
    assert scene.link.link.queued_packets == 1
    heard: list[int] = []

    def told() -> bool:
        while received := scene.receive():
            notices = [one for one in received if isinstance(one, messages.ExitNotice)]
            heard.extend(len(notice.exited) for notice in notices)
        return sum(heard) == 2000

    turn_until(scene.loop, told)
    assert heard == [1000, 1000]
