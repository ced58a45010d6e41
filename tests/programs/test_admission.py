"""Connections without a session: none keeps out a client of another address.

Tests a real server with small bounds. Order and counts within one worker are tested in
tests/unit/server/test_worker.py. Every address on loopback is a source.
"""

from __future__ import annotations

import select
import socket
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from chimirror.control.gateway import MAX_FIRST_MESSAGE
from control_clients import ControlWebSocket, authorized
from processes import Memory, descendants, descriptors, until
from serve import Service, argv_of, running, server
from websocket_peer import Closed, Peer, frame, upgrade

SMALL = (
    *("--workers=1", "--max-sessions=1", "--handshake-timeout=1h"),
    *("--max-handshakes=8", "--max-handshakes-per-source=2"),
)
MANY = 40
GET = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"
STRANGERS = {
    "silent": b"",
    "slow head": b"GET / HT",
    "tls": b"\x16\x03\x01\x02\x00\x01",
    "refused": upgrade("/", "nothing", ()),
    "manifest": GET % b"/asyncapi.json",
    "page": GET % b"/",
    "control": upgrade("/", "control", ()),
}


def connect(service: Service, address: str) -> socket.socket:
    """Connect from an address of this machine."""
    assert isinstance(service.address, tuple)
    return socket.create_connection(service.address, source_address=(address, 0))


def ask(service: Service, address: str) -> int:
    """Ask for a session and leave. Returns the status."""
    with Peer(connect(service, address)) as peer:
        peer.send_raw(upgrade("/", "json", ()))
        return peer.head().status


@contextmanager
def strangers(service: Service, first: bytes, count: int) -> Iterator[list[Peer]]:
    """Open connections of one address that never read and never close."""
    with ExitStack() as opened:
        peers = []
        for _ in range(count):
            peer = opened.enter_context(Peer(connect(service, "127.0.0.1")))
            peers.append(peer)
            peer.send_raw(first)
        yield peers


def is_over(peer: Peer) -> bool:
    """Return True if the server sends no more on this connection."""
    poller = select.poll()
    poller.register(peer.socket, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
    return bool(poller.poll(0))


@pytest.fixture(scope="module")
def small_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A server with small bounds."""
    directory = tmp_path_factory.mktemp("small")
    with server(directory, ["cat"], *SMALL, "--stop-grace=50ms") as service:
        yield service


@pytest.fixture
def small(small_server: Service) -> Iterator[Service]:
    """The same server, without the sessions of this test afterwards."""
    yield small_server
    # also reaped: a zombie would be a child that this test has left
    until(lambda: len(descendants(small_server.pid)) == 2, "a worker and the zygote")


@pytest.mark.parametrize("kind", STRANGERS)
def test_strangers_keep_out_nobody(small: Service, kind: str) -> None:
    (worker,) = small.workers()
    before = descriptors(worker)
    with strangers(small, STRANGERS[kind], MANY) as peers:
        assert ask(small, "127.0.0.2") in (101, 503)
        assert descriptors(worker) - before < 30
        with Peer(connect(small, "127.0.0.1")) as own:
            own.send_raw(upgrade("/", "nothing", ()))
            assert own.head().status == 400, "the newest of its address"
        # a turn ends with the closes, after the response to the newest
        until(lambda: all(map(is_over, peers[:-4])), "the older ones are closed")


def test_owner_of_a_session_controls_it_where_the_server_is_full(
    small: Service, sessions_directory: Path
) -> None:
    """Neither sessions nor strangers keep out its control connection."""
    silent = strangers(small, b"", MANY)
    refused = strangers(small, upgrade("/", "json", ()), MANY)
    owners: list[Peer] = []

    def enter() -> bool:
        owners.append(Peer(connect(small, "127.0.0.2")))
        if owners[-1].open(framing="stdio").status != 101:
            owners.pop().close()
        return bool(owners)

    until(enter, "the session of an earlier test has ended")
    with owners[0] as owner:
        hello = owner.message()
        with silent, refused:
            assert ask(small, "127.0.0.2") == 503
            controls = [
                authorized(lambda: connect(small, "127.0.0.2"), hello) for _ in range(4)
            ]
            for control in controls:
                assert control.ask("status")["id"] == hello["id"]
                control.peer.close()
        owner.send_close()
        assert owner.receive() == Closed(1000, "")


def test_memory_of_control_connections_without_authorization(tmp_path: Path) -> None:
    """Each announces one message of 1 MB and sends as much of it as it can."""
    message = frame(1, b"[" + b" " * (1 << 20))
    options = ("--workers=1", "--max-handshakes-per-source=off")
    with server(tmp_path, ["cat"], *options) as service, ExitStack() as opened:
        warm = opened.enter_context(ControlWebSocket(service.connect()))
        warm.peer.send_raw(frame(1, b" " * MAX_FIRST_MESSAGE))
        memory = Memory(service.workers())
        clients = [
            opened.enter_context(ControlWebSocket(service.connect()))
            for _ in range(100)
        ]
        for client in clients:
            client.peer.socket.setblocking(False)
            client.peer.socket.send(message)
        for client in clients:
            client.peer.socket.setblocking(True)
            end = client.peer.receive()
            assert end == Closed(1009, "over 4096 bytes before authorize")
        assert memory.growth() < 8 << 20


def test_few_descriptors_suffice_to_refuse(tmp_path: Path) -> None:
    wrapper = tmp_path / "cramped"
    wrapper.write_text('#!/bin/sh\nulimit -n 64\nexec "$@"\n')
    wrapper.chmod(0o755)
    options = ("--workers=1", "--listen=127.0.0.1:0")
    mark = uuid.uuid4().hex
    argv = argv_of("server", ["cat"], options, mark)
    with ExitStack() as opened:
        service = opened.enter_context(running(tmp_path, [str(wrapper), *argv], mark))
        port = service.find(r"listening on 127.0.0.1:(\d+)")
        service.address = ("127.0.0.1", int(port))
        statuses = []
        for _ in range(MANY):
            peer = opened.enter_context(Peer(service.connect()))
            peer.send_raw(upgrade("/", "json", ()))
            statuses.append(peer.head().status)
        served = statuses.index(503)
        assert served >= 4
        assert statuses == [101] * served + [503] * (MANY - served)
