"""Users in the records of the real journal, and what chimirror-ctl makes of them.

A trusted proxy on this machine names the users. Both kinds of units are tested.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest

from chimirror.log.records import APPLICATION_OUTPUT, SESSION_ENDED, SESSION_STARTED
from chimirror.log.serving import SERVING
from chimirror.text import short_id
from ctl_on_machine import await_open_sessions, ctl, ctl_history, ctl_json
from machine_sessions import SERVER, SERVER_PORT, ended, refused, serve_many
from processes import until
from systemd_machine import PORT, Machine
from websocket_peer import Peer

pytestmark = pytest.mark.timeout(300)

PROXY = "--user-header X-User --trusted-proxy 127.0.0.0/8 --framing lines"
# It writes one line to standard error, and then echoes its input.
NOISY = ("/usr/bin/cat", "/missing", "-")
PORTS = pytest.mark.parametrize("port", [PORT, SERVER_PORT], ids=["bridge", "server"])


def serve(machine: Machine) -> None:
    serve_many(machine, PROXY)
    machine.configure(*NOISY, options=f"{PROXY} --stderr log")


def open_as(
    machine: Machine, stack: ExitStack, port: int, user: str = ""
) -> tuple[Peer, int]:
    """Ask for a session of a user. Returns the peer and the status."""
    peer = stack.enter_context(Peer(machine.connect(port)))
    fields = (f"X-User: {user}",) if user else ()
    return peer, peer.open(framing="lines", fields=fields).status


def sums(machine: Machine, user: str) -> dict[str, Any]:
    """Return the sums of a user in `stats`, which has a list of users."""
    (row,) = [one for one in ctl_json(machine, "stats")["users"] if one["user"] == user]
    return dict(row)


@PORTS
def test_every_record_of_a_session_names_its_user(machine: Machine, port: int) -> None:
    serve(machine)
    user = f"ann{port}"
    with ExitStack() as stack:
        peer, status = open_as(machine, stack, port, user)
        assert status == 101
        (session,) = await_open_sessions(machine, 1)
        assert session["user"] == user
        for name, expected in ((user, [session["id"]]), (user[:-1], [])):
            rows = ctl_json(machine, "sessions", "--user", name)
            assert [row["id"] for row in rows] == expected
        assert ctl(machine, "sessions").splitlines()[0].split("\t")[-1] == "user"
        peer.send("hello")
        assert peer.receive() == b'"hello"'
        peer.send_close()
        ended(machine, session["id"])
    records = machine.journal(CHIMIRROR_SESSION=session["id"])
    ours = [record for record in records if record["MESSAGE_ID"] != SERVING]
    kinds = [record["MESSAGE_ID"] for record in ours]
    assert kinds == [SESSION_STARTED, APPLICATION_OUTPUT, SESSION_ENDED]
    assert [record["CHIMIRROR_USER"] for record in ours] == [user] * 3
    begin = f"session {short_id(session['id'])} of {user} for 127.0.0.1:"
    assert ours[0]["MESSAGE"].startswith(begin)
    assert ours[2]["MESSAGE"].startswith(begin)
    (found,) = ctl_history(machine, "--user", user).values()
    assert (found["id"], found["user"]) == (session["id"], user)
    row = sums(machine, user)
    assert (row["started"], row["ended"], row["refused"]) == (1, 1, 0)
    assert row["duration"] > 0
    assert row["bytes_in"] > 0


@PORTS
def test_failed_attempts_are_counted_by_cause(machine: Machine, port: int) -> None:
    serve(machine)
    cause = ("refused", "unauthenticated")

    def count() -> int:
        rows = ctl_json(machine, "stats")["causes"]
        counts = {(row["kind"], row["cause"]): int(row["count"]) for row in rows}
        return counts.get(cause, 0)

    before = count()
    with ExitStack() as stack:
        peer, status = open_as(machine, stack, port)
        assert status == 401
        record = refused(machine, peer)
        assert record["CHIMIRROR_CAUSE"] == "unauthenticated"
        assert "CHIMIRROR_USER" not in record
    assert count() == before + 1


def test_the_sessions_of_a_user_are_limited(machine: Machine) -> None:
    serve(machine)
    ctl(machine, "limit", "--sessions-per-user", "1")
    machine.do("systemctl", "restart", SERVER)
    with ExitStack() as stack:
        assert open_as(machine, stack, SERVER_PORT, "eve")[1] == 101
        assert open_as(machine, stack, SERVER_PORT, "bob")[1] == 101
        late, status = open_as(machine, stack, SERVER_PORT, "eve")
        assert status == 503
        record = refused(machine, late)
        assert record["CHIMIRROR_CAUSE"] == "max-sessions-per-user"
        assert record["CHIMIRROR_USER"] == "eve"
        text = "503 max-sessions-per-user: all sessions of this user are taken"
        assert f" of eve /: {text}" in record["MESSAGE"]
        held = {row["limit"]: row for row in ctl_json(machine, "limits")}
        shown = held["server-sessions-per-user"]
        assert (shown["value"], shown["used"], shown["set"]) == (1, 1, "persistent")
        until(lambda: sums(machine, "eve")["refused"] == 1, "the refusal in the sums")
