"""An open connection over TLS: order of output, back-pressure, and all of its ends.

Time is injected.
"""

from __future__ import annotations

import socket
import ssl

import pytest

from chimirror.session.connection import (
    CLOSE_TIMEOUT,
    CLOSED,
    CLOSING,
    LINGERING,
    OPEN,
)
from chimirror.session.tls_connection import MAX_SEALED
from chimirror.tls.certificates import Certificates
from chimirror.tls.channel import MAX_DATA
from loops import fill
from serve import tcp_pair
from tls_harness import Harness, certificates, connected
from tls_peers import TLS_1_2, TLS_1_3
from websocket_peer import CLOSE, PONG, TEXT, frame

__all__ = ["certificates"]  # a fixture

VERSIONS = pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
MESSAGE = frame(TEXT, b"{}")


def block(harness: Harness, size: int = 1 << 20) -> int:
    """Send output that the client does not read. Returns the queued bytes."""
    for _ in range(size >> 16):
        harness.connection.send([bytes(1 << 16)])
    harness.wait()
    assert harness.connection.queued_bytes > 2 * MAX_DATA
    return harness.connection.queued_bytes


@VERSIONS
def test_frames_pass(certificates: Certificates, version: ssl.TLSVersion) -> None:
    with connected(certificates, version=version) as harness:
        harness.open()
        harness.client.write(MESSAGE * 3)
        harness.wait()
        assert harness.handler.size == 3 * len(MESSAGE)
        harness.connection.send([b"one", b"two"])
        assert harness.read_all() == b"onetwo"


@VERSIONS
def test_all_decrypted_data_is_passed_on_at_once(
    certificates: Certificates, version: ssl.TLSVersion
) -> None:
    """Data left in OpenSSL would wait for a poll that never comes."""
    with connected(certificates, version=version) as harness:
        harness.open()
        for _ in range(200):
            harness.client.tls.write(MESSAGE)
        records = harness.client.outgoing.read()
        harness.say(records[:-1])
        assert harness.handler.size == 199 * len(MESSAGE)
        harness.say(records[-1:])
        assert harness.handler.size == 200 * len(MESSAGE)


@VERSIONS
def test_blocked_output_arrives_in_order(
    certificates: Certificates, version: ssl.TLSVersion
) -> None:
    with connected(certificates, version=version) as harness:
        harness.open()
        sent = [bytes([number]) * 5000 for number in range(200)]
        for unit in sent:
            harness.connection.send([unit[:1], unit[1:]])
        assert harness.connection.queued_bytes > MAX_DATA
        assert len(harness.connection._sealed) <= MAX_DATA + 1000
        harness.wait()
        assert harness.read_all() == b"".join(sent)
        assert harness.connection.queued_bytes == 0


def test_pong_passes_queued_output(certificates: Certificates) -> None:
    with connected(certificates) as harness:
        harness.open()
        before = block(harness)
        harness.connection.send_pong(b"x")
        found = harness.read_all()
        pong = bytes([0x80 | PONG, 1]) + b"x"
        assert found.count(pong) == 1
        assert len(found) - found.index(pong) > before - 2 * MAX_DATA - (1 << 16)


def test_queued_output_can_be_discarded(certificates: Certificates) -> None:
    """Only the encrypted part, and the unit that has begun, are sent."""
    with connected(certificates) as harness:
        harness.open()
        queued = block(harness)
        assert harness.connection.close(1000, "over", discard=True)
        left = harness.connection.queued_bytes
        assert left < 3 * MAX_DATA < queued
        found = harness.read_all()
        assert found.endswith(bytes([0x80 | CLOSE, 6]) + b"\x03\xe8over")
        assert harness.client.is_closed


@VERSIONS
def test_orderly_close(certificates: Certificates, version: ssl.TLSVersion) -> None:
    """Output, close frame, close_notify, the end of TCP; then input is discarded."""
    with connected(certificates, version=version) as harness:
        harness.open()
        harness.connection.send([b"last"])
        assert harness.connection.close(1000, "", discard=False)
        harness.wait()
        assert harness.client.read() == b"last" + bytes([0x80 | CLOSE, 2]) + b"\x03\xe8"
        assert harness.client.is_closed
        assert harness.client.is_ended
        assert harness.state == LINGERING
        harness.client.write(MESSAGE * 100)
        harness.wait()
        assert harness.handler.size == 0
        assert harness.state == LINGERING
        harness.client.close()
        harness.wait()
        assert harness.state == CLOSED
        assert harness.handler.calls == ["closed"]


def test_linger_timeout(certificates: Certificates) -> None:
    with connected(certificates) as harness:
        harness.open()
        harness.connection.close(1000, "", discard=False)
        assert harness.client.read()
        harness.wait(CLOSE_TIMEOUT - 0.1)
        assert harness.state == LINGERING
        harness.wait(0.2)
        assert harness.state == CLOSED


def test_close_notify_waits_for_room(certificates: Certificates) -> None:
    """It may be the part that the kernel no longer takes."""
    with connected(certificates) as harness:
        harness.open()
        filler = fill(harness.connection.write_fd)
        harness.connection.close(1000, "", discard=False)
        harness.wait()
        assert harness.state == CLOSING
        raw = b""
        while len(raw) < filler:
            raw += harness.socket.recv(1 << 20)
        harness.client.incoming.write(raw[filler:])
        assert harness.read_all() == bytes([0x80 | CLOSE, 2]) + b"\x03\xe8"
        assert harness.client.is_closed
        assert harness.state == LINGERING


@VERSIONS
def test_end_with_a_close_notify(
    certificates: Certificates, version: ssl.TLSVersion
) -> None:
    with connected(certificates, version=version) as harness:
        harness.open()
        harness.client.tls.write(MESSAGE)
        harness.client.close()
        harness.wait()
        assert harness.handler.size == len(MESSAGE)
        assert harness.handler.calls == ["client gone", "closed"]


@VERSIONS
def test_end_without_a_close_notify(
    certificates: Certificates, version: ssl.TLSVersion
) -> None:
    """TCP's end alone is an end as well: frames tell whether a message was cut."""
    with connected(certificates, version=version) as harness:
        harness.open()
        harness.client.write(MESSAGE)
        harness.socket.shutdown(socket.SHUT_WR)
        harness.wait()
        assert harness.handler.size == len(MESSAGE)
        assert harness.handler.calls == ["client gone", "closed"]


def test_close_notify_while_reading_is_paused(certificates: Certificates) -> None:
    with connected(certificates) as harness:
        harness.open()
        harness.connection.pause_reading()
        harness.client.tls.write(MESSAGE)
        harness.client.close()
        harness.wait()
        assert harness.handler.calls == []
        harness.connection.resume_reading()
        harness.wait()
        assert harness.handler.size == len(MESSAGE)
        assert harness.handler.calls == ["client gone", "closed"]


def test_end_comes_after_held_input(certificates: Certificates) -> None:
    """More frames than one turn takes, and the close_notify, in one read."""
    with connected(certificates) as harness:
        harness.open()
        harness.client.tls.write(MESSAGE * 3000)
        harness.client.close()
        seen: list[int] = []
        frames = harness.handler.on_frames

        def count(events: list[object], size: int) -> None:
            assert "client gone" not in harness.handler.calls
            seen.append(len(events))
            frames([], size)

        harness.handler.on_frames = count  # type: ignore[method-assign, assignment]
        harness.wait()
        assert sum(seen) == 3000
        assert len(seen) > 2
        assert harness.handler.calls == ["client gone", "closed"]


def test_close_notify_with_output_queued(certificates: Certificates) -> None:
    """The close frame, and all before it, still reaches a client that reads."""
    with connected(certificates) as harness:
        harness.open()
        block(harness)
        assert harness.connection.close(1000, "over", discard=False)
        harness.client.close()
        harness.wait()
        assert harness.handler.calls == []
        assert harness.read_all().endswith(b"over")
        assert harness.handler.calls == ["closed"]


def test_failure_of_an_open_connection(certificates: Certificates) -> None:
    """Data before it counts."""
    with connected(certificates) as harness:
        harness.open()
        harness.client.tls.write(MESSAGE)
        broken = b"\x17\x03\x03\0\x20" + bytes(32)
        harness.say(harness.client.outgoing.read() + broken)
        assert harness.handler.size == len(MESSAGE)
        assert harness.handler.calls == ["client gone", "closed"]


def test_reset_with_output_queued(certificates: Certificates) -> None:
    with connected(certificates) as harness:
        harness.open()
        block(harness)
        harness.socket.close()
        harness.wait()
        assert harness.handler.calls[-1] == "closed"
        assert harness.connection.queued_bytes == 0


def test_close_frame_to_a_client_that_has_gone(certificates: Certificates) -> None:
    with connected(certificates, pair=tcp_pair()) as harness:
        harness.open()
        block(harness, 1 << 24)
        harness.connection.close(1000, "over", discard=True)
        harness.socket.close()
        harness.wait()
        assert harness.state == CLOSED
        assert harness.handler.calls == ["closed"]


def test_answers_that_are_not_read_are_bounded(certificates: Certificates) -> None:
    """A client may ask for new keys without end."""
    with connected(certificates, version=TLS_1_3) as harness:
        harness.open()
        fill(harness.connection.write_fd)
        largest = 0
        while harness.state == OPEN:
            harness.client.request_keys()
            harness.wait()
            largest = max(largest, harness.connection.queued_bytes)
        assert MAX_SEALED < largest < MAX_SEALED + (1 << 10)
        assert harness.handler.calls == ["client gone", "closed"]


def test_part_of_a_record_is_a_sign_of_life(certificates: Certificates) -> None:
    """A slow client takes longer for one record than a ping waits."""
    with connected(
        certificates, "--ping-interval", "10", "--ping-timeout", "10"
    ) as harness:
        harness.open()
        harness.client.tls.write(frame(TEXT, b"x" * 16_000))
        record = harness.client.outgoing.read()
        for at in range(12):
            harness.say(record[at : at + 1])
            harness.wait(9)
            assert harness.client.read() == b""  # no ping was due
        assert harness.state == OPEN
        for _ in range(4):
            harness.wait(9)
            harness.client._take()
        assert harness.state == CLOSED
        assert "ping timeout" in harness.handler.calls
