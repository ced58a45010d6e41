"""A worker in this process: accepting, limits, shortages, draining; time injected.

Law: listeners and connections are real, processes are not. Whole servers, with several
workers and with applications, are in test_server.
"""

from __future__ import annotations

import errno
import gc
import os
import select
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from chimirror import entrance, options, worker
from chimirror.connection import Connection
from chimirror.entrance import Seats
from chimirror.reception import Reception
from chimirror.session import Session
from chimirror.system import listen
from chimirror.system.admission import Table
from chimirror.system.application import Application
from chimirror.system.loop import Loop
from chimirror.system.records import Records
from chimirror.wire.opening import Opening
from chimirror.worker import Worker
from looping import looping
from peers import Closed, Peer, upgrade
from stage import Hourglass, Notebook, Troupe

MANY = 1000


class Crowd(Troupe):
    """A starter whose applications end when they are killed or told to stop."""

    def __init__(self) -> None:
        super().__init__()
        self.obedient = True
        self._cast: list[Troupe] = []

    def start(
        self, client: Any, program: Any, environment: Any, keep_stderr: bool
    ) -> None:
        member = Member(self, len(self._cast) + 1)
        self._cast.append(member)
        member.start(client, program, environment, keep_stderr)

    def signal(self, pid: int, number: int) -> None:
        if number == signal.SIGKILL or self.obedient:
            member = self._cast[pid - 1]
            if not member.ended:
                member.exit(-number)

    def finish(self, pid: int, session: str, survivors: bool) -> None:
        """Nothing is left of it."""

    def close(self) -> None:
        for member in self._cast:
            member.close()


class Member(Troupe):
    """One application."""

    def __init__(self, crowd: Crowd, pid: int) -> None:
        super().__init__()
        self.pid = pid


class Shop:
    """A worker with its listeners."""

    def __init__(
        self,
        listeners: list[listen.Listener],
        *arguments: str,
        most: int = MANY,
        capacity: int = MANY,
    ) -> None:
        self.clock = Hourglass()
        self.loop = Loop(self.clock, self.clock)
        self.records = Notebook()
        self.crowd = Crowd()
        config = options.server([*arguments, "--", "program"])
        self.table = Table(most, None, None, 2)
        self.worker = Worker(
            config,
            self.loop,
            cast("Any", self.crowd),
            cast("Any", self.records),
            Seats(self.table, None, 0),
            0,
            capacity,
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
        while not select.select([peer.socket], [], [], 0)[0]:
            self.wait()
        assert peer.head().status == 101
        return peer

    def wait(self, seconds: float = 0) -> None:
        self.clock.limit = self.clock.now + seconds
        self.loop.turn()
        while self.loop.running and (
            not self.clock.idle or self.clock.now < self.clock.limit
        ):
            self.loop.turn()

    def running(self) -> bool:
        return self.loop.running

    def accepting(self) -> bool:
        return self.worker.open

    def close(self) -> None:
        for peer in self.peers:
            peer.close()
        for session in list(self.worker.sessions.values()):
            session.connection.finish()
            session.application.kill()
        self.crowd.close()
        for door in self.worker._doors:
            door.close()
        for listener in self.listeners:
            listener.remove()
        self.loop.close_all()
        self.table.close()


@contextmanager
def shop(*arguments: str, address: str = "", **limits: int) -> Iterator[Shop]:
    """A worker on a Unix socket: what has been sent there is there (TCP is slower)."""
    with tempfile.TemporaryDirectory() as directory:
        listeners = listen.open_all([address or f"unix:{directory}/socket"], 0o600)
        made = Shop(listeners, *arguments, **limits)
        try:
            yield made
        finally:
            made.close()


def test_clients_are_served_and_counted() -> None:
    with shop() as one:
        peers = [one.open() for _ in range(40)]
        assert one.table.total() == 40 == len(one.worker.sessions)
        assert one.worker.connecting == 0
        for peer in peers:
            peer.send_close()
            one.wait()
            assert peer.receive() == Closed(1000, "")
            peer.close()
        one.wait(2)
        assert one.table.total() == 0 == len(one.worker.sessions)
    assert len(one.records.of("end")) == 40


def test_peers_of_a_unix_socket_are_users() -> None:
    with shop() as one:
        one.open()
        one.wait(1)
    assert one.records.of("start")[0]["peer"] == f"unix:{os.getuid()}"


def test_peers_of_tcp_are_addresses() -> None:
    with shop(address="127.0.0.1:0") as one:
        peer = one.open()
        host, port = peer.socket.getsockname()
        one.wait(1)
    assert one.records.of("start")[0]["peer"] == f"{host}:{port}"


def test_many_at_the_door_at_once() -> None:
    """More than are accepted in one turn."""
    with shop() as one:
        peers = [one.connect() for _ in range(3 * entrance.ACCEPTS)]
        one.loop.turn()
        assert len(one.worker.sessions) == entrance.ACCEPTS
        for peer in peers:
            peer.send_raw(upgrade("/", "json", ()))
        one.wait()
        assert {peer.head().status for peer in peers} == {101}


def test_all_sessions_taken() -> None:
    with shop(most=1) as one:
        first = one.open()
        second = one.connect()
        second.send_raw(upgrade("/", "json", ()))
        one.wait()
        reply = second.refusal()
        assert (reply.status, reply.fields["retry-after"]) == (503, "5")
        first.close()
        one.wait(2)
        one.open()


def test_at_capacity_nobody_is_accepted_until_one_leaves() -> None:
    with shop(capacity=2) as one:
        first, _ = one.open(), one.open()
        third = one.connect()
        third.send_raw(upgrade("/", "json", ()))
        one.wait(1)
        assert len(one.worker.sessions) == 2
        assert not one.worker.open
        first.close()
        one.wait(2)
        assert third.head().status == 101


def test_slow_handshakes_hold_up_nobody_who_is_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "HANDSHAKES", 3)
    with shop("--handshake-timeout=5") as one:
        inside = one.open()
        slow = [one.connect() for _ in range(5)]
        for peer in slow:
            peer.send_raw(b"GET / HT")
        one.wait(1)
        assert one.worker.connecting == 3
        assert not one.accepting()
        inside.send([1])
        one.wait()
        (member,) = one.crowd._cast
        assert member.heard() == b"[1]\n"
        one.wait(4.1)
        assert [peer.refusal().status for peer in slow[:3]] == [408] * 3
        assert one.worker.connecting == 2
        assert one.accepting()


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENOMEM, errno.EPROTO])
def test_a_shortage_is_waited_out_and_told_once(
    monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def fail(handle: object) -> None:
        raise OSError(error, os.strerror(error))

    with shop() as one:
        peer = one.connect()
        peer.send_raw(upgrade("/", "json", ()))
        with monkeypatch.context() as patch:
            patch.setattr(entrance, "_accept", fail)
            one.wait()
            assert not one.accepting()
            one.wait(1)
        one.wait(0.3)
        assert peer.head().status == 101
        assert one.accepting()
    (note,) = one.records.of("note")
    assert os.strerror(error) in note["text"]


@pytest.mark.parametrize("error", [ConnectionAbortedError, PermissionError])
def test_a_client_that_went_again_is_no_shortage(
    monkeypatch: pytest.MonkeyPatch, error: type[OSError]
) -> None:
    def fail(handle: object) -> None:
        monkeypatch.undo()
        raise error

    with shop() as one:
        monkeypatch.setattr(entrance, "_accept", fail)
        one.open()
    assert not one.records.of("note")


def test_a_connection_that_cannot_be_served_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: object) -> None:
        raise ValueError("a bug")

    with shop() as one:
        peer = one.connect()
        with monkeypatch.context() as patch:
            patch.setattr(Session, "__init__", fail)
            one.wait()
        assert peer.stream.read() == b""
        one.wait(0.3)
        one.open()
        assert len(one.worker.sessions) == 1


# Draining


def test_a_drain_waits_for_sessions_to_end() -> None:
    with shop("--drain-timeout=30") as one:
        peer = one.open()
        os.kill(os.getpid(), signal.SIGTERM)
        one.wait(20)
        with pytest.raises(ConnectionRefusedError):
            one.connect()
        assert one.running()
        peer.send([1])
        one.wait()
        peer.send_close()
        one.wait()
        assert peer.receive() == Closed(1000, "")
        peer.close()
        one.wait(2)
        assert not one.running()


def test_a_drain_of_nothing_is_over_at_once() -> None:
    with shop() as one:
        one.worker.drain()
        assert not one.running()


def ask(one: Shop) -> Peer:
    """Somebody who comes, and is heard."""
    peer = one.connect()
    peer.send_raw(upgrade("/", "json", ()))
    one.wait()
    return peer


def test_who_comes_is_told_where_nobody_will_have_the_listeners() -> None:
    with shop("--drain-timeout=30") as one:
        peer = one.open()
        os.kill(os.getpid(), worker.TURN_AWAY)
        one.wait(20)
        late = ask(one)
        reply = late.refusal()
        assert (reply.status, int(reply.fields["retry-after"]) > 0) == (503, True)
        late.close()
        one.wait()
        assert one.running()
        assert one.table.total() == 1
        peer.send_close()
        one.wait()
        assert peer.receive() == Closed(1000, "")
        peer.close()
        one.wait(2)
        assert not one.running()
        assert one.table.total() == 0
    assert [fields["cause"] for fields in one.records.of("refused")] == ["drain"]


def test_the_last_in_the_queue_are_told() -> None:
    with shop() as one:
        one.worker.turn_away()
        assert not one.running()
        late = one.connect()
        assert one.worker._take_last()
        one.loop.running = True
        late.send_raw(upgrade("/", "json", ()))
        one.wait()
        assert late.refusal().status == 503
        late.close()
        one.wait(2)
        assert not one.running()
        assert not one.worker._take_last()


def test_while_another_worker_has_sessions_they_queue_for_that() -> None:
    with shop() as one:
        one.table.enter(1, b"")
        one.worker.turn_away()
        assert not one.worker._take_last()
        for _ in range(3):
            one.connect()  # would wait in a queue that is narrow
        one.table.leave(1, b"")


def test_a_shortage_while_it_goes_costs_nobody_a_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(handle: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with shop("--drain-timeout=30") as one:
        peers = [one.open(), one.open()]
        one.worker.turn_away()
        late = one.connect()
        late.send_raw(upgrade("/", "json", ()))
        with monkeypatch.context() as patch:
            patch.setattr(entrance, "_accept", fail)
            one.wait(20)
        assert one.table.total() == 2
        for peer in peers:
            assert one.running()
            peer.send_close()
            one.wait()
            assert peer.receive() == Closed(1000, "")
            peer.close()
            one.wait(2)
        assert late.refusal().status == 503
        assert not one.running()


def test_nobody_is_told_for_ever() -> None:
    with shop("--drain-timeout=3") as one:
        peer = one.open()
        one.worker.turn_away()
        one.wait(2.9)
        late = ask(one)
        assert late.refusal().status == 503
        one.wait(0.2)
        with pytest.raises(ConnectionRefusedError):
            one.connect()
        assert peer.receive() == Closed(1001, "drain")
        for each in (peer, late):
            each.close()
        one.wait(2)
        assert not one.running()


def test_what_does_not_end_by_itself_is_closed() -> None:
    with shop("--drain-timeout=3") as one:
        peer = one.open()
        one.worker.drain()
        one.worker.drain()
        one.wait(2.9)
        assert one.running()
        one.wait(0.2)
        assert peer.receive() == Closed(1001, "drain")
        peer.close()
        one.wait(2)
        assert not one.running()
    assert one.records.of("end")[0]["reason"] == "drain"


def test_a_drain_ends_though_nobody_obeys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the application nor the client, nor our own books."""
    options = ("--drain-timeout=1", "--stop-grace=1", "--kill-grace=1")
    with shop(*options) as one:
        one.open()
        one.crowd.obedient = False
        monkeypatch.setattr(Session, "close", lambda self, code, reason: None)
        one.worker.drain()
        one.wait(20)
        assert not one.running()


def test_an_abort_ends_at_once() -> None:
    with shop("--drain-timeout=1h") as one:
        peer = one.open()
        one.crowd.obedient = False
        one.worker.drain()
        os.kill(os.getpid(), worker.ABORT)
        one.wait()
        assert peer.receive() == Closed(1001, "drain")
        peer.close()
        one.wait()
        assert not one.running()
    assert one.records.of("end")[0]["exit"] == "signal KILL"


def test_an_abort_waits_a_moment_for_clients_to_read() -> None:
    with shop("--drain-timeout=1h") as one:
        one.open()
        one.worker.abort()
        one.wait(0.9)
        assert one.running()
        one.wait(0.2)
        assert not one.running()
    assert one.records.of("end")[0]["reason"] == "drain"


def test_without_the_supervisor_it_drains() -> None:
    with shop("--drain-timeout=2") as one:
        peer = one.open()
        one.worker.drain()  # what `run` has the starter do
        one.wait(2.1)
        assert peer.receive() == Closed(1001, "drain")
        peer.close()
        one.wait(2)
        assert not one.running()


def test_signals_that_are_the_supervisors_do_nothing() -> None:
    with shop() as one:
        one.open()
        for number in (signal.SIGINT, signal.SIGHUP):
            os.kill(os.getpid(), number)
        one.wait(100)
        assert one.running()


def test_a_fault_of_the_worker_is_the_supervisors_matter() -> None:
    with shop() as one, pytest.raises(ValueError):
        one.worker.on_fault(ValueError())


def test_nothing_of_a_session_waits_for_the_collector() -> None:
    ours = (Session, Connection, Application, Reception, Opening)

    def left() -> list[str]:
        return [type(one).__name__ for one in gc.get_objects() if type(one) in ours]

    gc.collect()
    gc.disable()
    try:
        with shop() as one:
            one.open().close()
            one.wait(10)
            refused = one.connect()
            refused.send_raw(b"GET / HTTP/1.0\r\n\r\n")
            one.wait(10)
            one.connect().close()
            one.wait(10)
            assert not one.worker.sessions
            for member in one.crowd._cast:
                member._client = None
            assert left() == ["Opening"], "the one that is remembered"
    finally:
        gc.enable()


def test_a_worker_that_fails_has_written_its_records(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Failing(Worker):
        def serve(self, listeners: list[listen.Listener]) -> None:
            self.records.note(3, "the last word")
            assert written == []
            raise LookupError

    class Sink:
        def send(self, *records: object) -> int:
            written.extend(records)
            return len(records)

    written: list[object] = []
    told = Records(environ={})
    told._sink = cast("Any", Sink())
    config = options.server(["--", "program"])
    table = Table(1, None, None, 1)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with looping() as loop, theirs:
        monkeypatch.setattr(worker, "Loop", lambda: loop)
        monkeypatch.setattr(worker, "Worker", Failing)
        seats = Seats(table, None, 0)
        with pytest.raises(LookupError):
            worker.run(config, [], told, seats, 0, 1, ours, None, None)
        loop.close(ours.detach())
    table.close()
    assert len(written) == 1
