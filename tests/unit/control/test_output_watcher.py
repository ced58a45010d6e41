"""A copy of a session's output for control clients: complete, or with gaps reported.

Sessions have fake time and a fake application. Real ones are in
tests/programs/test_ctl_attach.py.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chimirror.access import Identity
from chimirror.control import controller
from chimirror.control.connection import FINISH_TIMEOUT
from chimirror.io.write_buffer import HIGH
from control_requests import ControlSocketClient
from controlled_session import ControlledSession, opened
from session_harness import SESSION_ID

CHUNK = b"x" * 60_000  # fits into the pipe of the fake application
LINE = 2 * len(CHUNK)  # bytes, more than CHUNK has in base64


@pytest.fixture
def controlled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ControlledSession]:
    with opened(tmp_path, monkeypatch, "--stderr=log", "--control") as found:
        yield found


def attached(controlled: ControlledSession) -> ControlSocketClient:
    client = controlled.connect()
    assert client.ask("authorize", session=SESSION_ID) == {}
    assert client.ask("attach")["id"] == SESSION_ID
    return client


def flood(controlled: ControlledSession, count: int) -> int:
    """Write chunks, which the client of the session gets. Returns their size."""
    for _ in range(count):
        controlled.harness.print(CHUNK)
        assert controlled.harness.peer.output(len(CHUNK)) == CHUNK
    return count * len(CHUNK)


def output_of(lines: list[Any], stream: str = "stdout") -> bytes:
    found = [line["params"] for line in lines if line and line["method"] == "output"]
    return b"".join(
        b64decode(params["payload"]) for params in found if params["stream"] == stream
    )


def skipped_in(lines: list[Any]) -> int:
    found = [line["params"] for line in lines if line and line["method"] == "skipped"]
    return sum(params["bytes"] for params in found)


def test_all_output_is_copied_until_the_end(controlled: ControlledSession) -> None:
    """The log gets standard error here, and the watcher too."""
    harness = controlled.harness
    harness.session.identity = Identity("ann", "Basic")
    harness.print(b"before")
    watchers = [attached(controlled), attached(controlled)]
    assert watchers[0].ask("attach")["id"] == SESSION_ID, "again, without an effect"
    followed = harness.event_log.of("followed")
    assert [(one["session"], one["user"]) for one in followed] == (
        [(SESSION_ID, "ann")] * 2
    )
    harness.print(b"out\xff")
    harness.print(b"error\n", "stderr")
    harness.peer.send_close()
    harness.settle()
    harness.print(b"late")  # the client has closed
    harness.peer.close()
    harness.exit(3)
    for client in watchers:
        lines = client.read()
        assert output_of(lines) == b"out\xfflate"
        assert output_of(lines, "stderr") == b"error\n"
        ended = {"exit": "exit 3", "reason": "client close 1000"}
        assert lines[-2:] == [
            {"jsonrpc": "2.0", "method": "ended", "params": ended},
            None,
        ]
    (end,) = harness.event_log.of("end")
    assert {name: end[name] for name in ended} == ended


def test_a_client_with_a_secret_cannot_attach(controlled: ControlledSession) -> None:
    """Output may be meant for the log only. The application gets the request."""
    client = controlled.authorized_client()
    client.say(b'{"jsonrpc":"2.0","id":1,"method":"attach"}\n')
    assert controlled.harness.application.channel is not None
    line = controlled.harness.application.channel.recv(4096)
    assert b'"method":"attach"' in line
    assert controlled.harness.session.process.output_observer is None


def test_a_watcher_that_does_not_read_loses_output_and_nothing_else(
    controlled: ControlledSession,
) -> None:
    stopped, reading = attached(controlled), attached(controlled)
    total, copied, most = 0, b"", 0
    for _ in range(30):
        total += flood(controlled, 1)
        copied += output_of(reading.read())
        queued = [each.queued_bytes for each in controlled.server.connections]
        most = max(most, *queued)
    assert HIGH < most < HIGH + LINE
    assert copied == CHUNK * 30, "the other watcher has lost nothing"
    lines = stopped.read()
    skipped = skipped_in(lines)
    assert lines[-1] == {
        "jsonrpc": "2.0",
        "method": "skipped",
        "params": {"bytes": skipped},
    }
    assert len(output_of(lines)) + skipped == total
    flood(controlled, 1)
    assert output_of(stopped.read()) == CHUNK, "output goes on after the report"


def test_the_end_waits_for_a_slow_watcher(controlled: ControlledSession) -> None:
    client = attached(controlled)
    total = flood(controlled, 30)
    controlled.harness.exit()
    controlled.harness.peer.close()
    controlled.harness.settle()
    assert not controlled.harness.context.sessions
    assert controlled.server.is_finishing
    lines = client.read()
    assert lines[-2]["params"] == {"exit": "exit 0", "reason": "exit 0"}
    assert len(output_of(lines)) + skipped_in(lines) == total
    assert not controlled.server.is_finishing


def test_the_end_does_not_wait_for_long(controlled: ControlledSession) -> None:
    client = attached(controlled)
    flood(controlled, 30)
    controlled.harness.exit()
    controlled.harness.peer.close()
    client.say(b'{"jsonrpc":"2.0","id":1,"method":"kill","params":{"ids":[]}}\n')
    assert controlled.server.is_finishing
    controlled.harness.wait(FINISH_TIMEOUT + 0.1)
    assert not controlled.server.connections
    assert all(line is None or "id" not in line for line in client.read())


def test_the_application_cannot_forge_output(controlled: ControlledSession) -> None:
    client = attached(controlled)
    channel = controlled.harness.application.channel
    assert channel is not None
    channel.send(b'{"jsonrpc":"2.0","method":"ended","params":{"exit":"exit 0"}}\n')
    assert client.read() == []


def test_an_error_closes_one_watcher_and_no_session(
    controlled: ControlledSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> bytes:
        raise RuntimeError("bug")

    client = attached(controlled)
    monkeypatch.setattr(controller, "output_line", fail)
    flood(controlled, 1)
    assert client.read() == [None]
    assert controlled.harness.session.process.output_observer is None
    (note,) = controlled.harness.event_log.of("note")
    assert note["text"] == "internal error in session 01234567: RuntimeError: bug"
