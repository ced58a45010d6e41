"""A worker's control socket: who may ask, what is told, and that it costs nobody.

Law: real servers; root finds them in /run/chimirror, anybody else where
XDG_RUNTIME_DIR says.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from chimirror.system import runtime
from launch import Service, server
from peers import Closed, Peer, payload_of
from settling import until
from steering import asking


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """RUNTIME of the servers that are started from here."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    found = runtime.directory(os.environ, os.geteuid())
    assert found is not None
    return Path(found)


def office(place: Path, service: Service, number: int = 0) -> Path:
    return place / "servers" / str(service.pid) / str(number)


def opened(service: Service) -> Peer:
    peer = Peer(service.connect())
    assert peer.open().status == 101
    return peer


def test_sessions_are_told_closed_and_killed(tmp_path: Path, place: Path) -> None:
    with server(tmp_path, ["cat"], "--workers=1") as service:
        peers = [opened(service) for _ in range(3)]
        peers[0].send("hello")
        peers[0].message()
        with asking(office(place, service)) as clerk:
            told = clerk.ask("sessions")
            assert told["more"] is False
            every = told["sessions"]
            assert len(every) == 3
            ports = [f"127.0.0.1:{peer.socket.getsockname()[1]}" for peer in peers]
            found = {one["peer"]: one for one in every}
            assert set(found) == set(ports)
            first = found[ports[0]]
            assert (first["messages_in"], first["messages_out"]) == (1, 1)
            assert first["application_pid"] in service.applications()
            assert first["pid"] in service.serving()
            assert (first["command"], first["framing"]) == ("cat", "json")
            assert first["state"] == "open"
            assert clerk.ask("status") == {"sessions": 3, "connecting": 0}

            ids = [found[port]["id"] for port in ports]
            assert clerk.ask("close", ids=[ids[0], "unknown"]) == {"ids": [ids[0]]}
            assert peers[0].story()[-1] == Closed(1001, "drain")
            assert clerk.ask("kill", ids=[ids[1]]) == {"ids": [ids[1]]}
            assert peers[1].story()[-1] == Closed(1001, "drain")
            until(lambda: clerk.ask("status")["sessions"] == 1, "two to end")
            assert [one["id"] for one in clerk.ask("sessions")["sessions"]] == [ids[2]]
        for peer in peers:
            peer.close()
    assert not office(place, service).parent.exists()


def test_a_list_that_has_ended_stays_so(tmp_path: Path, place: Path) -> None:
    with server(tmp_path, ["cat"], "--workers=1") as service:
        peers = [opened(service) for _ in range(5)]
        with asking(office(place, service)) as clerk:
            whole = clerk.ask("sessions")
            assert (len(whole["sessions"]), whole["more"]) == (5, False)
            assert clerk.ask("sessions", more=True) == {"sessions": [], "more": False}
        for peer in peers:
            peer.close()


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("dance", {}, -32601),
        ("close", {}, -32602),
        ("kill", {"ids": "all"}, -32602),
    ],
)
def test_mistakes(
    tmp_path: Path, place: Path, method: str, params: dict[str, Any], code: int
) -> None:
    with (
        server(tmp_path, ["cat"], "--workers=1") as service,
        asking(office(place, service)) as clerk,
    ):
        assert clerk.ask(method, **params) == code
        clerk.connection.sendall(b'{"jsonrpc":"2.0","id":1,"method":"status",')
        clerk.connection.sendall(b'"params":[]}\n')
        assert json.loads(clerk.file.readline())["error"]["code"] == -32602


def flood(connection: socket.socket) -> None:
    connection.setblocking(False)
    while True:
        connection.send(b'{"jsonrpc":"2.0","id":1,"method":"sessions"}\n' * 1000)


def test_a_flood_costs_the_one_who_makes_it(tmp_path: Path, place: Path) -> None:
    with server(tmp_path, ["cat"], "--workers=1") as service:
        peer = opened(service)
        path = office(place, service)
        with asking(path) as clerk, pytest.raises(ConnectionError):
            clerk.connection.sendall(b"x" * (1 << 24))
        with asking(path) as clerk, pytest.raises(BlockingIOError):
            flood(clerk.connection)  # and never reads
        with asking(office(place, service)) as clerk:
            assert clerk.ask("status") == {"sessions": 1, "connecting": 0}
        peer.send("still here")
        assert payload_of(peer.message()) == b'"still here"\n'
        peer.close()


def test_one_who_asks_no_more_still_gets_its_answers(
    tmp_path: Path, place: Path
) -> None:
    with (
        server(tmp_path, ["cat"], "--workers=1") as service,
        asking(office(place, service)) as clerk,
    ):
        call = b'{"jsonrpc":"2.0","id":1,"method":"status"}\n'
        clerk.connection.sendall(call * 100)
        clerk.connection.shutdown(socket.SHUT_WR)
        assert len(clerk.file.readlines()) == 100


def test_every_worker_has_one_and_so_has_its_successor(
    tmp_path: Path, place: Path
) -> None:
    with server(tmp_path, ["cat"], "--workers=2") as service:
        one = office(place, service, 1)
        until(one.exists, "the second worker's socket")
        assert (one.stat().st_mode & 0o777, one.parent.stat().st_mode & 0o777) == (
            0o600,
            0o700,
        )
        before = set(service.serving())
        worker = next(iter(before - {service.pid}))
        os.kill(worker, signal.SIGKILL)
        until(
            lambda: len(set(service.serving()) - {worker}) == len(before),
            "another worker",
        )

        def answers() -> bool:
            try:
                for number in (0, 1):
                    with asking(office(place, service, number)) as clerk:
                        clerk.ask("status")
            except ConnectionRefusedError:
                return False
            return True

        until(answers, "both to answer")
    assert not one.parent.exists()


def test_what_a_killed_server_left_goes_with_the_next(
    tmp_path: Path, place: Path
) -> None:
    with server(tmp_path, ["cat"], "--workers=1") as service:
        left = place / "servers" / "4194303"  # no such process
        left.mkdir()
        (left / "0").touch()
    assert left.exists()
    with server(tmp_path, ["cat"], "--workers=1") as service:
        assert not left.exists()
        until(office(place, service).exists, "its own")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_nobody_else_may_ask(tmp_path: Path, place: Path) -> None:
    with server(tmp_path, ["cat"], "--workers=1") as service:
        path = office(place, service)
        pid = os.fork()
        if pid == 0:
            os.setresuid(65534, 65534, 65534)
            try:
                socket.socket(socket.AF_UNIX).connect(str(path))
            except PermissionError:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
