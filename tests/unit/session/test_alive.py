"""Messages that show that the server is alive, for clients that cannot see pings."""

from __future__ import annotations

from typing import Any

import pytest

from session_harness import SessionHarness
from websocket_peer import PONG, frame

OFFER = "Sec-WebSocket-Protocol: chimirror.alive.v1"
PINGS = ("--framing", "stdio,json", "--ping-interval", "20", "--ping-timeout", "15")
ALIVE = {"type": "alive"}


def pass_time(harness: SessionHarness, seconds: int) -> None:
    """Serve a client that sends a pong each second, so that it gets no ping."""
    for _ in range(seconds):
        harness.wait(1)
        harness.say(frame(PONG, b""))


def messages(harness: SessionHarness) -> list[dict[str, Any]]:
    """End the application. Returns all messages but output and exit status."""
    harness.exit()
    found = harness.peer.transcript(wait=False).messages
    return [each for each in found if each["type"] != "exit"]


@pytest.mark.parametrize("options", [(), ("--direction", "receive")])
def test_a_message_in_each_interval(options: tuple[str, ...]) -> None:
    with SessionHarness(*PINGS, *options) as harness:
        harness.open("stdio", OFFER)
        pass_time(harness, 70)
        first, *others = messages(harness)
    assert (first["ping_interval"], first["ping_timeout"]) == (20, 15)
    assert others == [ALIVE] * 3
    (end,) = harness.event_log.of("end")
    assert end["messages_out"] == 5


def test_output_does_not_replace_it() -> None:
    with SessionHarness(*PINGS) as harness:
        harness.open("stdio", OFFER)
        for _ in range(4):
            pass_time(harness, 15)
            harness.print(b"x")
        pass_time(harness, 2)
        assert messages(harness)[1:] == [ALIVE] * 3


@pytest.mark.parametrize(
    ("framing", "offer", "options"),
    [
        ("stdio", (), PINGS),
        ("json", (OFFER,), PINGS),
        ("stdio", (OFFER,), ("--framing", "stdio", "--ping-interval", "0")),
    ],
)
def test_other_clients_get_none(
    framing: str, offer: tuple[str, ...], options: tuple[str, ...]
) -> None:
    with SessionHarness(*options) as harness:
        harness.open(framing, *offer)
        pass_time(harness, 70)
        found = messages(harness)
    assert ALIVE not in found
    assert not any("ping_interval" in each for each in found)


def test_none_is_queued_behind_output() -> None:
    """Output that a client does not read is not made longer by these messages."""
    with SessionHarness(*PINGS) as harness:
        harness.open("stdio", OFFER)
        while harness.session.connection.write_buffer is None:
            harness.print(b"x" * 4096)
        sent = harness.session.messages_out
        pass_time(harness, 70)
        assert harness.session.messages_out == sent


def test_the_timeouts_of_a_session_hold() -> None:
    options = ("--session-timeout", "50", "--idle-timeout", "30")
    with SessionHarness(*PINGS, *options) as harness:
        harness.open("stdio", OFFER)
        harness.wait(29)
        harness.peer.send_raw(frame(PONG, b""))
        harness.wait(3)
        found = harness.peer.transcript(wait=False)
    assert found.closed.reason == "idle"
    assert found.messages[1:] == [ALIVE]
