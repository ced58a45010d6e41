"""Tests a worker's control socket: permissions, responses, and isolation of sessions.

Servers are real. root finds them in /run/chimirror, other users in XDG_RUNTIME_DIR.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from chimirror.host import runtime_dir
from control_clients import authorized, control_socket_client
from processes import until
from serve import Service, server
from websocket_peer import Closed, Peer, payload_of, stdin

CLOSED = Closed(1001, "closed by operator")
KILLED = Closed(1001, "killed by operator")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The runtime directory of the servers that these tests start."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    found = runtime_dir.directory(os.environ, os.geteuid())
    assert found is not None
    return Path(found)


def control_socket_path(place: Path, service: Service, number: int = 0) -> Path:
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
        with control_socket_client(control_socket_path(place, service)) as connection:
            told = connection.ask("sessions")
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
            assert connection.ask("status") == {"sessions": 3, "connecting": 0}

            ids = [found[port]["id"] for port in ports]
            assert connection.ask("close", ids=[ids[0], "unknown"]) == {"ids": [ids[0]]}
            assert peers[0].transcript()[-1] == CLOSED
            assert connection.ask("kill", ids=[ids[1]]) == {"ids": [ids[1]]}
            assert peers[1].transcript()[-1] == KILLED
            until(lambda: connection.ask("status")["sessions"] == 1, "two to end")
            assert [one["id"] for one in connection.ask("sessions")["sessions"]] == [
                ids[2]
            ]
        for peer in peers:
            peer.close()
    assert not control_socket_path(place, service).parent.exists()


def test_a_list_that_has_ended_stays_so(tmp_path: Path, place: Path) -> None:
    with server(tmp_path, ["cat"], "--workers=1") as service:
        peers = [opened(service) for _ in range(5)]
        with control_socket_client(control_socket_path(place, service)) as connection:
            whole = connection.ask("sessions")
            assert (len(whole["sessions"]), whole["more"]) == (5, False)
            assert connection.ask("sessions", more=True) == {
                "sessions": [],
                "more": False,
            }
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
        control_socket_client(control_socket_path(place, service)) as connection,
    ):
        assert connection.ask(method, **params) == code
        connection.connection.sendall(b'{"jsonrpc":"2.0","id":1,"method":"status",')
        connection.connection.sendall(b'"params":[]}\n')
        assert json.loads(connection.file.readline())["error"]["code"] == -32602


def flood(connection: socket.socket) -> None:
    connection.setblocking(False)
    while True:
        connection.send(b'{"jsonrpc":"2.0","id":1,"method":"sessions"}\n' * 1000)


def test_flood_affects_its_own_connection_only(tmp_path: Path, place: Path) -> None:
    with server(tmp_path, ["cat"], "--workers=1") as service:
        peer = opened(service)
        path = control_socket_path(place, service)
        with control_socket_client(path) as connection, pytest.raises(ConnectionError):
            connection.connection.sendall(b"x" * (1 << 24))
        with control_socket_client(path) as connection, pytest.raises(BlockingIOError):
            flood(connection.connection)  # never reads
        with control_socket_client(control_socket_path(place, service)) as connection:
            assert connection.ask("status") == {"sessions": 1, "connecting": 0}
        peer.send("still here")
        assert payload_of(peer.message()) == b'"still here"\n'
        peer.close()


def test_half_closed_client_gets_its_responses(tmp_path: Path, place: Path) -> None:
    with (
        server(tmp_path, ["cat"], "--workers=1") as service,
        control_socket_client(control_socket_path(place, service)) as connection,
    ):
        call = b'{"jsonrpc":"2.0","id":1,"method":"status"}\n'
        connection.connection.sendall(call * 100)
        connection.connection.shutdown(socket.SHUT_WR)
        assert len(connection.file.readlines()) == 100


def test_every_worker_and_its_successor_has_a_control_socket(
    tmp_path: Path, place: Path
) -> None:
    with server(tmp_path, ["cat"], "--workers=2") as service:
        one = control_socket_path(place, service, 1)
        until(one.exists, "the second worker's socket")
        assert (one.stat().st_mode & 0o777, one.parent.stat().st_mode & 0o777) == (
            0o600,
            0o700,
        )
        worker = service.workers()[0]
        os.kill(worker, signal.SIGKILL)
        until(lambda: len({*service.workers()} - {worker}) == 2, "another worker")

        def answers() -> bool:
            try:
                for number in (0, 1):
                    with control_socket_client(
                        control_socket_path(place, service, number)
                    ) as connection:
                        connection.ask("status")
            except ConnectionRefusedError:
                return False
            return True

        until(answers, "both to answer")
    assert not one.parent.exists()


def test_files_of_a_killed_server_are_removed_by_the_next(
    tmp_path: Path, place: Path
) -> None:
    with server(tmp_path, ["cat"], "--workers=1") as service:
        left = place / "servers" / "4194303"  # no such process
        left.mkdir()
        (left / "0").touch()
    assert left.exists()
    with server(tmp_path, ["cat"], "--workers=1") as service:
        assert not left.exists()
        until(control_socket_path(place, service).exists, "its own")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_other_users_are_rejected(tmp_path: Path, place: Path) -> None:
    with server(tmp_path, ["cat"], "--workers=1") as service:
        path = control_socket_path(place, service)
        pid = os.fork()
        if pid == 0:
            os.setresuid(65534, 65534, 65534)
            try:
                socket.socket(socket.AF_UNIX).connect(str(path))
            except PermissionError:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0


def test_a_worker_without_its_directory_serves_without_control(
    tmp_path: Path, place: Path
) -> None:
    """A logout removes the directory. Control is back with the next worker."""
    with server(tmp_path, ["cat"], "--workers=1") as service:
        path = control_socket_path(place, service)
        until(path.exists, "the worker has made its socket")
        directory = path.parent
        shutil.rmtree(directory)
        directory.write_text("")
        kill_worker(service)
        for _ in range(2):
            peer = Peer(service.connect())
            assert peer.open(framing="stdio").status == 101
            assert "secret" not in peer.message()
            peer.send(stdin(b"echo"))
            assert peer.output(4) == b"echo"
            peer.close()
        assert service.log.read_text().count("have no control connections") == 1
        directory.unlink()
        kill_worker(service)
        peer = Peer(service.connect())
        assert peer.open(framing="stdio").status == 101
        with authorized(service.connect, peer.message()) as client:
            assert client.ask("status")["state"] == "open"
        peer.close()


def kill_worker(service: Service) -> None:
    """Kill the worker, and wait for the next one."""
    (victim,) = service.workers()
    os.kill(victim, signal.SIGKILL)
    until(lambda: service.workers() not in ([], [victim]), "a new worker")
