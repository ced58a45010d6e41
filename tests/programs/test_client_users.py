"""Users of real servers and bridges: limits of each, and records that name them.

A trusted proxy, which is the test itself, names the users.
"""

from __future__ import annotations

import json
import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from processes import until
from serve import Bridge, Service, server
from websocket_peer import Closed, Peer, Reply

PROXY = ("--user-header=X-User", "--trusted-proxy=127.0.0.0/8", "--stop-grace=50ms")
CAT = ["cat"]


def of(user: str) -> tuple[str, ...]:
    """Return the field that names a user."""
    return (f"X-User: {user}",) if user else ()


def open_as(service: Service, stack: ExitStack, user: str, target: str = "/") -> Reply:
    """Ask for a session of a user, and read a refusal to its end."""
    peer = stack.enter_context(Peer(service.connect()))
    reply = peer.open(target, fields=of(user))
    return reply if reply.status == 101 else reply._replace(body=peer.stream.read())


@pytest.mark.parametrize("workers", [1, 3])
def test_each_user_has_a_limit_over_all_workers(tmp_path: Path, workers: int) -> None:
    options = ("--max-sessions-per-user=2", "--allow-anonymous", f"--workers={workers}")
    with server(tmp_path, CAT, *PROXY, *options) as service:
        for turn in range(1, 3):
            with ExitStack() as stack:
                for user in ("ann", "bob", "CORP\\ann"):
                    for status in (101, 101, 503, 503):
                        reply = open_as(service, stack, user)
                        assert reply.status == status
                    assert reply.body == (
                        b"all sessions of this user are taken; try again later\n"
                    )
                    assert int(reply.fields["retry-after"]) > 0
                for _ in range(3):
                    assert open_as(service, stack, "").status == 101
            service.await_ends(9 * turn)


def test_a_check_tells_the_limit_of_the_user(tmp_path: Path) -> None:
    with (
        server(tmp_path, CAT, *PROXY, "--max-sessions-per-user=1") as service,
        ExitStack() as stack,
    ):
        assert open_as(service, stack, "ann").status == 101
        for user, status in (("ann", 503), ("bob", 204)):
            check = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-User: %b\r\n"
            check += b"Chimirror-Subprotocol: chimirror.json.v1\r\n\r\n"
            with Peer(service.connect()) as peer:
                peer.send_raw(check % user.encode())
                assert peer.refusal().status == status


def test_a_killed_worker_frees_the_places_of_its_users(tmp_path: Path) -> None:
    options = ("--max-sessions-per-user=2", "--workers=1")
    with server(tmp_path, CAT, *PROXY, *options) as service, ExitStack() as stack:
        for _ in range(2):
            assert open_as(service, stack, "ann").status == 101
        (worker,) = service.workers()
        os.kill(worker, signal.SIGKILL)
        until(lambda: service.workers() not in ([], [worker]), "another worker")
        statuses = [open_as(service, stack, "ann").status for _ in range(3)]
        assert statuses == [101, 101, 503]


def fields_of(log: str) -> list[dict[str, str]]:
    """Return the records of sessions and requests in a log of JSON."""
    found = [json.loads(line) for line in log.splitlines()]
    return [one for one in found if "CHIMIRROR_PEER" in one]


def test_records_of_a_server_name_users(tmp_path: Path) -> None:
    apps = tmp_path / "apps"
    apps.mkdir()
    (apps / "chess.toml").write_text('command = ["cat"]\nusers = ["ann"]')
    with server(tmp_path, [], *PROXY, f"--apps={apps}") as service:
        with ExitStack() as stack:
            assert open_as(service, stack, "ann", "/chess").status == 101
            assert open_as(service, stack, "bob", "/chess").status == 403
            assert open_as(service, stack, "", "/chess").status == 401
        service.await_ends(1)
        found = fields_of(service.log.read_text())
    told = {
        (one.get("CHIMIRROR_CAUSE", ""), one.get("CHIMIRROR_USER", "")) for one in found
    }
    assert told == {("", "ann"), ("forbidden", "bob"), ("unauthenticated", "")}
    for one in found:
        place = f"{one['CHIMIRROR_PEER']} of bob /chess: 403 forbidden: "
        if one.get("CHIMIRROR_USER") == "bob":
            assert one["MESSAGE"].startswith(f"refused {place}")


def test_records_of_a_bridge_name_the_user() -> None:
    with Bridge(CAT, *PROXY, tcp=True) as bridge, Peer(bridge.socket) as peer:
        assert peer.open(fields=of("ann")).status == 101
        peer.send_close()
        assert peer.transcript().closed == Closed(1000, "")
        _, log = bridge.finish()
    found = fields_of(log.decode())
    assert [one["CHIMIRROR_USER"] for one in found] == ["ann", "ann"]
    assert [" of ann for 127.0.0.1:" in one["MESSAGE"] for one in found] == [True] * 2


def test_a_field_of_a_stranger_names_nobody() -> None:
    options = ("--user-header=X-User", "--trusted-proxy=192.0.2.0/24")
    with Bridge(CAT, *options, tcp=True) as bridge, Peer(bridge.socket) as peer:
        assert peer.open(fields=of("ann")).status == 401
        peer.close()
        _, log = bridge.finish()
    (found,) = fields_of(log.decode())
    assert found["CHIMIRROR_CAUSE"] == "unauthenticated"
    assert "ann" not in json.dumps(found)
