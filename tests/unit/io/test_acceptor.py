"""The accept loop: batches, the pause after a shortage, and its one report."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chimirror.io import acceptor
from chimirror.io.acceptor import SHORTAGE_PAUSE, Acceptor
from chimirror.io.loop import EventLoop
from loops import FakeTimeWithPoller, event_loop


class AcceptHarness:
    """A listener, its acceptor and the calls of its handler."""

    def __init__(self, batch: int) -> None:
        self.time = FakeTimeWithPoller()
        self.connections: list[int] = []
        self.failures: list[tuple[Exception, bool]] = []
        self.error: Exception | None = None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.batch = batch
        self.clients: list[socket.socket] = []

    def on_connection(self, fd: int, address: object) -> None:
        self.connections.append(fd)
        if self.error is not None:
            raise self.error

    def on_accept_failed(self, error: Exception, shortage: bool) -> None:
        self.failures.append((error, shortage))

    def connect(self) -> None:
        self.clients.append(socket.create_connection(self.listener.getsockname()))

    def close(self) -> None:
        self.listener.close()
        for client in self.clients:
            client.close()
        for fd in self.connections:
            os.close(fd)


@pytest.fixture
def harness() -> Iterator[AcceptHarness]:
    made = AcceptHarness(2)
    try:
        yield made
    finally:
        made.close()


def is_open(made: Acceptor) -> bool:
    return made.open


def fail(handle: object) -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@contextmanager
def after_shortage(
    harness: AcceptHarness, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[EventLoop, Acceptor]]:
    """A loop and an acceptor that has just failed to accept a queued connection."""
    with event_loop(lambda: harness.time, harness.time) as loop:
        made = Acceptor(loop, [harness.listener.fileno()], harness)
        made.enable()
        harness.connect()
        with monkeypatch.context() as patch:
            patch.setattr(acceptor, "_accept", fail)
            loop.run_once()
        yield loop, made
        made.close()


def test_one_batch_per_turn(harness: AcceptHarness) -> None:
    with event_loop(lambda: harness.time, harness.time) as loop:
        made = Acceptor(loop, [harness.listener.fileno()], harness, batch=2)
        for _ in range(3):
            harness.connect()
        made.enable()
        loop.run_once()
        assert len(harness.connections) == 2
        loop.run_once()
        assert len(harness.connections) == 3
        made.close()


def test_a_shortage_pauses_and_is_reported_once(
    harness: AcceptHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    with event_loop(lambda: harness.time, harness.time) as loop:
        made = Acceptor(loop, [harness.listener.fileno()], harness, batch=2)
        made.enable()
        harness.connect()
        with monkeypatch.context() as patch:
            patch.setattr(acceptor, "_accept", fail)
            loop.run_once()
            assert not is_open(made)
            start = harness.time.now
            while harness.time.now < start + 2 * SHORTAGE_PAUSE:
                loop.run_once()
        ((error, shortage),) = harness.failures
        assert isinstance(error, OSError)
        assert shortage
        while not harness.connections:
            loop.run_once()
        assert is_open(made)
        made.close()


def test_queued_connections_are_accepted_during_a_shortage(
    harness: AcceptHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    with after_shortage(harness, monkeypatch) as (_, made):
        made.accept_queued()
        assert len(harness.connections) == 1


def test_a_disabled_acceptor_stays_closed_after_a_shortage(
    harness: AcceptHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    with after_shortage(harness, monkeypatch) as (loop, made):
        made.enable(False)
        start = harness.time.now
        while harness.time.now < start + SHORTAGE_PAUSE:
            loop.run_once()
        assert not is_open(made)
        made.accept_queued()
        assert harness.connections == []


def test_an_internal_error_is_no_shortage(harness: AcceptHarness) -> None:
    with event_loop(lambda: harness.time, harness.time) as loop:
        made = Acceptor(loop, [harness.listener.fileno()], harness)
        made.enable()
        harness.error = ValueError()
        harness.connect()
        loop.run_once()
        assert harness.failures == [(harness.error, False)]
        assert not is_open(made)
        made.close()
        assert harness.listener.fileno() >= 0
