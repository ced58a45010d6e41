"""TCP state from the kernel, for real connections and for other descriptors.

A peer that does not answer needs a network that loses packets:
tests/programs/test_liveness.py pulls a cable. Here a fake returns struct tcp_info.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

import pytest

from chimirror.io import tcp_info
from loops import fill
from processes import until


@pytest.fixture
def pair() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    with ours, far:
        yield ours, far


def test_a_healthy_peer(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, far = pair
    ours.send(b"x")
    assert far.recv(1) == b"x"
    fd = ours.fileno()
    until(lambda: tcp_info.unacked_bytes(fd) == 0, "it is acknowledged")
    assert (tcp_info.is_retransmitting(fd), tcp_info.seconds_since_ack(fd)) == (
        False,
        0.0,
    )


def test_unread_data_is_unacknowledged(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    fd = pair[0].fileno()
    filled = fill(fd)
    assert 0 < tcp_info.unacked_bytes(fd) <= filled
    assert not tcp_info.seconds_since_ack(fd)


def test_unsent_data_are_limited(pair: tuple[socket.socket, socket.socket]) -> None:
    """A receiver with a small buffer leaves the data to the sender."""
    ours, far = pair
    far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
    tcp_info.limit_unsent(ours.fileno(), 1 << 16)
    assert fill(ours.fileno()) < 1 << 18


def test_the_unsent_data_of_other_descriptors_are_not_limited() -> None:
    reading, writing = os.pipe()
    ours, far = socket.socketpair()
    with ours, far:
        for fd in (reading, writing, ours.fileno()):
            tcp_info.limit_unsent(fd, 1 << 16)
    os.close(reading)
    os.close(writing)


def test_shutdown_write(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, far = pair
    tcp_info.shutdown_write(ours.fileno())
    assert far.recv(1) == b""
    far.send(b"still")
    assert ours.recv(9) == b"still"


def test_shutdown_after_disconnect(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, far = pair
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    far.close()
    tcp_info.shutdown_write(ours.fileno())
    assert os.fstat(ours.fileno())


def test_other_sockets_count_as_healthy() -> None:
    reader, writer = os.pipe()
    ours, far = socket.socketpair()
    with ours, far:
        for fd in (writer, ours.fileno()):
            assert (tcp_info.is_retransmitting(fd), tcp_info.seconds_since_ack(fd)) == (
                False,
                0.0,
            )
        ours.send(b"x")
        assert tcp_info.unacked_bytes(ours.fileno()) > 0
    os.close(reader)
    os.close(writer)
    assert (tcp_info.unacked_bytes(writer), tcp_info.is_retransmitting(writer)) == (
        0,
        False,
    )


def report(retransmits: int, probes: int, last_ack: int) -> bytes:
    """struct tcp_info as linux/tcp.h has it: tcpi_retransmits is its third byte."""
    head = bytes([1, 0, retransmits, probes, 0, 0, 0, 0])
    return head + bytes(48) + last_ack.to_bytes(4, sys.byteorder)


@pytest.mark.parametrize(
    ("info", "stalled", "seconds"),
    [
        (report(0, 0, 70_000), False, 0.0),
        (report(0, 1, 70_000), False, 0.0),
        (report(0, 2, 70_000), True, 0.0),
        (report(1, 0, 1500), True, 1.5),
        (report(3, 0, 300), True, 0.3),
        (report(3, 3, 300)[:8], False, 0.0),  # a shorter structure, from another system
    ],
)
def test_retransmissions(
    info: bytes,
    stalled: bool,
    seconds: float,
    pair: tuple[socket.socket, socket.socket],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Handle:
        def __init__(self, *_: int) -> None:
            pass

        def getsockopt(self, level: int, option: int, size: int) -> bytes:
            assert (level, option) == (socket.IPPROTO_TCP, socket.TCP_INFO)
            assert size <= 104  # of the first version that had tcpi_total_retrans
            return info

        def detach(self) -> int:
            return -1

    monkeypatch.setattr(tcp_info.socket, "socket", Handle)  # type: ignore[attr-defined]
    assert tcp_info.is_retransmitting(1) == stalled
    assert tcp_info.seconds_since_ack(1) == seconds
