"""Tests one worker in this process: accepting, limits, shortages, draining.

Listeners and connections are real, processes are not, and time is injected. Servers
with several workers and real applications are tested in tests/programs/test_server.py.
"""

from __future__ import annotations

import errno
import gc
import os
import select
import signal
import socket
from typing import Any, cast

import pytest

from chimirror.config import parser
from chimirror.io import acceptor, listener
from chimirror.log.records import EventLog
from chimirror.process.application_process import ApplicationProcess
from chimirror.protocol.request_cache import SessionRequest
from chimirror.resources import responder
from chimirror.server import free_memory, worker, worker_main
from chimirror.server.admission import WorkerAdmission
from chimirror.server.capacity import Room
from chimirror.server.limit_table import LimitTable
from chimirror.server.spare import Spare
from chimirror.server.spare_table import SpareTable
from chimirror.server.stop_guard import StopDeadlines
from chimirror.server.worker import Worker
from chimirror.session.connection import Connection
from chimirror.session.request_handler import RequestHandler
from chimirror.session.session import Session
from chimirror.spawn.start_marks import StartMarks
from loops import event_loop
from running_worker import MANY, ROOM, RunningWorker, running_worker
from websocket_peer import Closed, Peer, upgrade


class InternalError(Exception):
    """An error in the code under test."""


def test_clients_are_served_and_counted() -> None:
    with running_worker() as one:
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
    with running_worker() as one:
        one.open()
        one.wait(1)
    assert one.records.of("start")[0]["peer"] == f"unix:{os.getuid()}"


def test_peers_of_tcp_are_addresses() -> None:
    with running_worker(address="127.0.0.1:0") as one:
        peer = one.open()
        host, port = peer.socket.getsockname()
        one.wait(1)
    assert one.records.of("start")[0]["peer"] == f"{host}:{port}"


def test_many_connections_in_one_turn() -> None:
    """More connections than one turn of the loop accepts."""
    with running_worker() as one:
        peers = [one.connect() for _ in range(3 * worker.ACCEPT_BATCH)]
        one.loop.run_once()
        assert len(one.worker.handshakes) == worker.ACCEPT_BATCH
        for peer in peers:
            peer.send_raw(upgrade("/", "json", ()))
        one.wait()
        assert {peer.head().status for peer in peers} == {101}


@pytest.mark.parametrize("limits", [{"processes": 2}, {"room": Room(2, 1, 9, 9)}])
def test_a_spare_gives_way_only_to_a_session_beyond_the_limit(
    limits: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that takes a spare needs no further process or descriptor."""
    monkeypatch.setattr(Spare, "has_ended", lambda _: False)
    monkeypatch.setattr(free_memory, "is_available", lambda: True)
    with running_worker("--spares=6", **limits) as one:
        one.wait(3)
        assert len(one.worker.spares()) == 2
        one.open()
        one.wait(3)
        assert len(one.worker.spares()) == 1
        one.applications.fails = True  # no spare follows
        one.open()
        assert one.worker.spares() == []
        assert [len(one.worker.sessions), one.spare_table.total()] == [2, 0]


def test_spares_leave_the_room_of_control_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(free_memory, "is_available", lambda: True)
    with running_worker("--spares=6", room=Room(2, 1, 9, 9)) as one:
        one.wait(3)
        assert len(one.worker.spares()) == 2
        assert one.worker.has_gateway_room()
        one.worker.gateways.add(cast("Any", None))
        is_full = not one.worker.has_gateway_room()
        one.worker.gateways.clear()
        assert is_full


def test_all_sessions_taken() -> None:
    with running_worker(most=1) as one:
        first = one.open()
        second = one.connect()
        second.send_raw(upgrade("/", "json", ()))
        one.wait()
        reply = second.refusal()
        assert (reply.status, reply.fields["retry-after"]) == (503, "5")
        first.close()
        one.wait(2)
        one.open()


def test_no_connection_is_accepted_at_capacity() -> None:
    with running_worker(room=Room(2, 1, 8, 8)) as one:
        first, _ = one.open(), one.open()
        third = one.connect()
        third.send_raw(upgrade("/", "json", ()))
        one.wait(1)
        assert len(one.worker.sessions) == 2
        assert not one.accepting()
        first.close()
        one.wait(2)
        assert third.head().status == 101


def test_slow_handshakes_delay_nobody() -> None:
    with running_worker("--handshake-timeout=5", room=Room(9, 1, 3, 3)) as one:
        inside = one.open()
        slow = [one.connect() for _ in range(5)]
        for peer in slow:
            peer.send_raw(b"GET / HT")
        one.wait(1)
        assert one.worker.connecting == 3 == len(one.worker.handshakes)
        assert [peer.stream.read() for peer in slow[:2]] == [b""] * 2
        assert one.accepting()
        inside.send([1])
        one.open()
        one.wait()
        assert one.applications._cast[0].read_stdin() == b"[1]\n"
        one.wait(4.1)
        assert [peer.refusal().status for peer in slow[3:]] == [408] * 2
        assert one.worker.connecting == 0


def test_starts_in_progress_pause_accepting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "MAX_STARTING", 3)
    with running_worker() as one:
        one.applications.answers_late = True
        peers = [one.connect() for _ in range(5)]
        for peer in peers:
            peer.send_raw(upgrade("/", "json", ()))
        one.wait(1)
        assert len(one.worker.sessions) == 3
        assert not one.accepting()
        one.applications._cast[0].answer()
        one.wait()
        assert peers[0].head().status == 101
        assert len(one.worker.sessions) == 4
        for member in one.applications._cast[1:]:
            member.answer()
        one.wait()
        one.applications._cast[4].answer()
        one.wait()
        assert {peer.head().status for peer in peers[1:]} == {101}
        assert one.accepting()


# Shares of handshakes and responses

ROOM_OF_TWO = Room(MANY, 10, 8, 2)


class Source:
    """A client address on loopback."""

    def __init__(self, one: RunningWorker, address: str) -> None:
        self._one = one
        self._address = address

    def connect(self, data: bytes = b"") -> Peer:
        """Connect, and send the beginning of a request."""
        host, _, port = self._one.listeners[0].address.rpartition(":")
        source = (self._address, 0)
        client = socket.create_connection((host, int(port)), source_address=source)
        self._one.peers.append(Peer(client))
        if data:
            client.sendall(data)
        count = len(self._one.peers)
        self._one.until(lambda: self._one.worker.accepted == count)
        return self._one.peers[-1]

    def ask(self, request: bytes) -> Peer:
        """Connect, send a request and wait for its response."""
        peer = self.connect(request)
        self._one.until_served(peer)
        return peer

    def connect_by_proxy(self, number: int, port: int) -> Peer:
        """Connect, and send a PROXY header with an address and port of the client."""
        line = f"PROXY TCP4 198.51.100.{number} 192.0.2.1 {port} 80\r\n"
        peer = self.connect(line.encode())
        self._one.until(lambda: port in ports(self._one))
        return peer


def ports(one: RunningWorker) -> list[int]:
    """Return the ports of the clients in handshake, the oldest first."""
    return [entry.peer.port for entry in one.worker.handshakes]


def closed(one: RunningWorker, peers: list[Peer]) -> list[int]:
    """Return the positions of the clients that are not in handshake any more."""
    left = ports(one)
    here = [peer.socket.getsockname()[1] in left for peer in peers]
    return [at for at, found in enumerate(here) if not found]


def test_oldest_handshake_of_the_source_gives_way() -> None:
    with running_worker(address="127.0.0.1:0", room=ROOM_OF_TWO) as one:
        near, far = Source(one, "127.0.0.1"), Source(one, "127.0.0.2")
        silent = [far.connect(), *(near.connect() for _ in range(4)), far.connect()]
        assert closed(one, silent) == [1, 2]
        assert silent[1].stream.read() == b""
        assert len(one.worker.handshakes) == 4
        one.open()
        assert closed(one, silent) == [1, 2, 3], "the new client has the same address"
    (note,) = one.records.of("note")
    assert "127.0.0.1" in note["text"]
    assert "--max-handshakes" in note["text"]


def test_oldest_handshake_of_the_largest_source_gives_way() -> None:
    with running_worker(address="127.0.0.1:0", room=Room(9, 1, 4, 3)) as one:
        sources = [Source(one, f"127.0.0.{last}") for last in (1, 2, 2, 1, 2, 3)]
        silent = [source.connect() for source in sources[:5]]
        assert closed(one, silent) == [1]
        silent.append(sources[5].connect())
        assert closed(one, silent) == [0, 1]


def test_request_that_has_arrived_does_not_give_way() -> None:
    """The head of the oldest arrives while newer connections are accepted."""
    with running_worker(address="127.0.0.1:0", room=ROOM_OF_TWO) as one:
        near = Source(one, "127.0.0.1")
        oldest, _ = near.connect(), near.connect()
        first = next(iter(one.worker.handshakes))
        oldest.send_raw(upgrade("/", "json", ()))
        select.select([first.connection.read_fd], [], [])
        client, accepted = socket.socketpair()
        with client:
            one.worker.on_connection(accepted.detach(), ("127.0.0.1", 1))
            assert list(one.worker.sessions.values()) == [first]
            assert len(one.worker.handshakes) == 2
            one.until_served(oldest)
            assert oldest.head().status == 101


@pytest.mark.parametrize("request_head", [b"", upgrade("/", "nothing", ())])
def test_error_of_a_connection_that_gives_way(
    request_head: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newer connection does not pay for it."""

    def fail(session: Session) -> None:
        raise InternalError

    with running_worker(address="127.0.0.1:0", room=ROOM_OF_TWO) as one:
        near = Source(one, "127.0.0.1")
        connect = near.ask if request_head else near.connect
        for _ in range(2):
            connect(request_head)
        with monkeypatch.context() as patch:
            patch.setattr(Session, "end_application", fail)
            connect(request_head)
        pool = one.worker.responses if request_head else one.worker.handshakes
        assert len(pool) == 2
        peer = one.open()
        peer.send([1])
    assert "internal error" in one.records.of("note")[0]["text"]


def test_slow_heads_are_handshakes() -> None:
    with running_worker(address="127.0.0.1:0", room=ROOM_OF_TWO) as one:
        near = Source(one, "127.0.0.1")
        slow = [near.connect(start) for start in (b"GET / HTTP/1.1\r\n", b"G", b"G")]
        assert closed(one, slow) == [0]


@pytest.mark.parametrize("path", ["/", "/asyncapi.json"])
def test_oldest_response_gives_way(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that never close hold no session, and few descriptors."""
    monkeypatch.setattr(responder, "_manifests", {})  # they keep applications
    with running_worker(address="127.0.0.1:0", room=ROOM_OF_TWO, most=1) as one:
        one.open()
        near, far = Source(one, "127.0.0.1"), Source(one, "127.0.0.2")
        request = upgrade(path, "json", ())
        if path != "/":
            request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        refused = [far.ask(request), *(near.ask(request) for _ in range(5))]
        assert len(one.worker.sessions) == 1 == one.table.total()
        assert len(one.worker.responses) == 3
        assert len(one.worker.handshakes) == 0 == one.worker.connecting
        status = 503 if path == "/" else 200
        assert {peer.head().status for peer in refused} == {status}
        one.wait(4.1)  # twice: the client's system may not have acknowledged the end
        assert len(one.worker.responses) == 0


def test_failed_start_holds_no_session() -> None:
    """The client is answered 503 and does not close."""
    with running_worker(most=1) as one:
        one.applications.fails = True
        refused = one.connect()
        refused.send_raw(upgrade("/", "json", ()))
        one.wait()
        assert refused.head().status == 503
        assert len(one.worker.responses) == 1
        assert one.table.total() == 0 == len(one.worker.sessions)
        one.applications.fails = False
        one.open()
        refused.close()


def test_a_drain_waits_for_responses() -> None:
    with running_worker() as one:
        one.applications.fails = True
        refused = one.connect()
        refused.send_raw(upgrade("/", "json", ()))
        one.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        one.wait(1)
        assert one.running()
        assert refused.refusal().status == 503
        refused.close()
        one.wait()
        assert not one.running()


def test_clients_behind_a_proxy_are_counted_once_named() -> None:
    options = ("--proxy-protocol", "--handshake-timeout=5")
    with running_worker(*options, address="127.0.0.1:0", room=ROOM_OF_TWO) as one:
        proxy = Source(one, "127.0.0.1")
        unnamed = [proxy.connect() for _ in range(3)]
        for port in (1, 2, 3):
            proxy.connect_by_proxy(7, port)
        other = proxy.connect_by_proxy(8, 4)
        assert ports(one)[3:] == [2, 3, 4]
        unnamed += [proxy.connect() for _ in range(3)]
        assert closed(one, unnamed) == [0], "the total bounds what is not named"
        other.send_raw(upgrade("/", "json", ()))
        one.until_served(other)
        assert other.head().status == 101


def test_clients_of_a_trusted_proxy_are_counted_once_named() -> None:
    options = ("--trusted-proxy=127.0.0.1", "--max-sessions=1")
    with running_worker(
        *options, address="127.0.0.1:0", room=ROOM_OF_TWO, most=1
    ) as one:
        proxy = Source(one, "127.0.0.1")
        assert not closed(one, [proxy.connect() for _ in range(4)])
        one.open()
        fields = [("X-Forwarded-For: 198.51.100.7",)] * 3
        refused = [proxy.ask(upgrade("/", "json", each)) for each in fields]
        assert [peer.head().status for peer in refused] == [503] * 3
        assert len(one.worker.responses) == 2
        assert len(one.worker.handshakes) == 4


def test_room_of_control_connections() -> None:
    room = Room(sessions=2, control=2, pending=8, pending_per_source=8)
    with running_worker(room=room) as one:
        one.open()
        gateways = [cast("Any", object()) for _ in range(3)]
        one.worker.gateways.update(gateways[:2])
        assert one.worker.has_gateway_room(), "the second session is not there"
        one.worker.gateways.add(gateways[2])
        assert not one.worker.has_gateway_room()
        refused = one.connect()
        refused.send_raw(upgrade("/", "json", ()))
        one.wait()
        assert refused.head().status == 503
        one.worker.gateways.clear()
        one.open()
        assert not one.accepting()
        assert one.worker.has_gateway_room(), "a worker that is full keeps some room"


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENOMEM, errno.EPROTO])
def test_shortage_pauses_accepting_and_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def fail(handle: object) -> None:
        raise OSError(error, os.strerror(error))

    with running_worker() as one:
        peer = one.connect()
        peer.send_raw(upgrade("/", "json", ()))
        with monkeypatch.context() as patch:
            patch.setattr(acceptor, "_accept", fail)
            one.wait()
            assert not one.accepting()
            one.wait(1)
        one.wait(0.3)
        assert peer.head().status == 101
        assert one.accepting()
    (note,) = one.records.of("note")
    assert os.strerror(error) in note["text"]


@pytest.mark.parametrize("error", [ConnectionAbortedError, PermissionError])
def test_aborted_connection_is_no_shortage(
    monkeypatch: pytest.MonkeyPatch, error: type[OSError]
) -> None:
    def fail(handle: object) -> None:
        monkeypatch.undo()
        raise error

    with running_worker() as one:
        monkeypatch.setattr(acceptor, "_accept", fail)
        one.open()
    assert not one.records.of("note")


def test_a_connection_that_cannot_be_served_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: object) -> None:
        raise ValueError("a bug")

    with running_worker() as one:
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
    with running_worker("--drain-timeout=30") as one:
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


def test_a_drain_that_an_operator_ends() -> None:
    """The listener stays open, and the sessions continue."""
    with running_worker() as one:
        peer = one.open()
        assert one.worker.set_draining(True)
        assert one.worker.set_draining(True)
        late = ask(one)
        reply = late.refusal()
        assert (reply.status, reply.fields["retry-after"]) == (503, "5")
        late.close()
        peer.send([1])
        one.wait()
        assert not one.worker.set_draining(False)
        one.open()
        assert one.table.total() == 2
        one.worker.drain()
        assert one.worker.set_draining(False), "a server that stops admits none"
        one.worker.abort()
        one.wait(2)
    notes = [fields["text"] for fields in one.records.of("note")]
    assert notes == [
        "no new sessions until chimirror-ctl undrain",
        "new sessions again",
    ]


def test_a_drain_of_nothing_is_over_at_once() -> None:
    with running_worker() as one:
        one.worker.drain()
        assert not one.running()


def ask(one: RunningWorker) -> Peer:
    """Connect and send a request, which the worker receives."""
    peer = one.connect()
    peer.send_raw(upgrade("/", "json", ()))
    one.wait()
    return peer


def test_new_clients_are_rejected_during_a_final_drain() -> None:
    with running_worker("--drain-timeout=30") as one:
        peer = one.open()
        os.kill(os.getpid(), worker.DRAIN_AND_REJECT)
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


def test_clients_left_in_the_queue_are_rejected() -> None:
    with running_worker() as one:
        one.worker.drain_and_reject()
        assert not one.running()
        late = one.connect()
        assert one.worker._accept_last()
        one.loop.running = True
        late.send_raw(upgrade("/", "json", ()))
        one.wait()
        assert late.refusal().status == 503
        late.close()
        one.wait(2)
        assert not one.running()
        assert not one.worker._accept_last()


def test_backlog_stays_while_another_worker_has_sessions() -> None:
    with running_worker() as one:
        one.table.acquire(1, b"")
        one.worker.drain_and_reject()
        assert not one.worker._accept_last()
        for _ in range(3):
            one.connect()  # would block if the backlog were full
        one.table.release(1, b"")


def test_shortage_during_drain_ends_no_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(handle: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with running_worker("--drain-timeout=30") as one:
        peers = [one.open(), one.open()]
        one.worker.drain_and_reject()
        late = one.connect()
        late.send_raw(upgrade("/", "json", ()))
        with monkeypatch.context() as patch:
            patch.setattr(acceptor, "_accept", fail)
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


def test_rejecting_ends_with_the_drain_timeout() -> None:
    with running_worker("--drain-timeout=3") as one:
        peer = one.open()
        one.worker.drain_and_reject()
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


def test_sessions_are_closed_after_the_drain_timeout() -> None:
    with running_worker("--drain-timeout=3") as one:
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


def test_drain_ends_with_a_session_that_never_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither application nor client ends, and close() of the session does nothing."""
    options = ("--drain-timeout=1", "--stop-grace=1", "--kill-grace=1")
    with running_worker(*options) as one:
        one.open()
        one.applications.obedient = False
        monkeypatch.setattr(Session, "close", lambda self, reason: None)
        one.worker.drain()
        one.wait(20)
        assert not one.running()


def test_an_abort_ends_at_once() -> None:
    with running_worker("--drain-timeout=1h") as one:
        peer = one.open()
        one.applications.obedient = False
        one.worker.drain()
        os.kill(os.getpid(), worker.ABORT)
        one.wait()
        assert peer.receive() == Closed(1001, "drain")
        peer.close()
        one.wait()
        assert not one.running()
    assert one.records.of("end")[0]["exit"] == "signal KILL"


def test_an_abort_waits_a_moment_for_clients_to_read() -> None:
    with running_worker("--drain-timeout=1h") as one:
        one.open()
        one.worker.abort()
        one.wait(0.9)
        assert one.running()
        one.wait(0.2)
        assert not one.running()
    assert one.records.of("end")[0]["reason"] == "drain"


def test_without_the_supervisor_it_drains() -> None:
    with running_worker("--drain-timeout=2") as one:
        peer = one.open()
        one.worker.drain()  # `run` sets this as callback of the spawner
        one.wait(2.1)
        assert peer.receive() == Closed(1001, "drain")
        peer.close()
        one.wait(2)
        assert not one.running()


def test_signals_that_are_the_supervisors_do_nothing() -> None:
    with running_worker() as one:
        one.open()
        for number in (signal.SIGINT, signal.SIGHUP):
            os.kill(os.getpid(), number)
        one.wait(100)
        assert one.running()


def test_internal_error_ends_the_worker() -> None:
    with running_worker() as one, pytest.raises(ValueError):
        one.worker.on_error(ValueError())


def test_nothing_of_a_session_waits_for_the_collector() -> None:
    ours = (Session, Connection, ApplicationProcess, RequestHandler, SessionRequest)

    def left() -> list[str]:
        return [type(one).__name__ for one in gc.get_objects() if type(one) in ours]

    gc.collect()
    gc.disable()
    try:
        with running_worker() as one:
            one.open().close()
            one.wait(10)
            refused = one.connect()
            refused.send_raw(b"GET / HTTP/1.0\r\n\r\n")
            one.wait(10)
            one.connect().close()
            one.wait(10)
            assert not one.worker.sessions
            for member in one.applications._cast:
                member._client = None
            assert left() == ["SessionRequest"], "the one that is remembered"
    finally:
        gc.enable()


def test_a_worker_that_fails_has_written_its_records(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Failing(Worker):
        def serve(self, listeners: list[listener.Listener]) -> None:
            self.event_log.message(3, "the last word")
            assert written == []
            raise LookupError

    class Sink:
        def encode(self, fields: object) -> object:
            return fields

        def write(self, records: list[object]) -> int:
            written.extend(records)
            return len(records)

        def close(self) -> None:
            """There is nothing to close."""

    written: list[object] = []
    told = EventLog(environ={})
    told._sink = cast("Any", Sink())
    config = parser.parse_server(["--", "program"])
    table, spare_table = LimitTable(1, None, None, 1), SpareTable(1, 1)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with event_loop() as loop, theirs:
        monkeypatch.setattr(worker_main, "EventLoop", lambda: loop)
        monkeypatch.setattr(worker_main, "Worker", Failing)
        admission = WorkerAdmission(table, None, None, 0)
        with pytest.raises(LookupError):
            worker_main.run(
                *(config, [], told, admission, 0, ROOM, ours, None, None),
                StartMarks(1),
                StopDeadlines(1),
                None,
                1024,
                "",
                spare_table,
                None,
            )
        loop.close(ours.detach())
    table.close()
    spare_table.close()
    assert len(written) == 1
