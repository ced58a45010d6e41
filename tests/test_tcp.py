"""What the kernel says of real connections; and of what is none.

A peer that does not answer needs a network that loses packets: tests/test_liveness.py
pulls a cable. Here struct tcp_info is what a fake says.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

import pytest

from chimirror.system import tcp
from looping import fill
from settling import until


@pytest.fixture
def pair() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    with ours, far:
        yield ours, far


def test_a_peer_that_is_fine(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, far = pair
    ours.send(b"x")
    assert far.recv(1) == b"x"
    fd = ours.fileno()
    until(lambda: tcp.unsent(fd) == 0, "it is acknowledged")
    assert (tcp.stalled(fd), tcp.unanswered_for(fd)) == (False, 0.0)


def test_what_waits_for_a_reader_is_unsent(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    fd = pair[0].fileno()
    filled = fill(fd)
    assert 0 < tcp.unsent(fd) <= filled
    assert not tcp.unanswered_for(fd)


def test_our_half_ends(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, far = pair
    tcp.shutdown_write(ours.fileno())
    assert far.recv(1) == b""
    far.send(b"still")
    assert ours.recv(9) == b"still"


def test_the_end_of_what_has_gone_is_fine(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, far = pair
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    far.close()
    tcp.shutdown_write(ours.fileno())
    assert os.fstat(ours.fileno())


def test_what_is_no_tcp_is_fine() -> None:
    reader, writer = os.pipe()
    ours, far = socket.socketpair()
    with ours, far:
        for fd in (writer, ours.fileno()):
            assert (tcp.stalled(fd), tcp.unanswered_for(fd)) == (False, 0.0)
        ours.send(b"x")
        assert tcp.unsent(ours.fileno()) > 0
    os.close(reader)
    os.close(writer)
    assert (tcp.unsent(writer), tcp.stalled(writer)) == (0, False)


def told(retransmits: int, probes: int, last_ack: int) -> bytes:
    """struct tcp_info as linux/tcp.h has it: tcpi_retransmits is its third byte."""
    head = bytes([1, 0, retransmits, probes, 0, 0, 0, 0])
    return head + bytes(48) + last_ack.to_bytes(4, sys.byteorder)


@pytest.mark.parametrize(
    ("info", "stalled", "seconds"),
    [
        (told(0, 0, 70_000), False, 0.0),
        (told(0, 1, 70_000), False, 0.0),
        (told(0, 2, 70_000), True, 0.0),
        (told(1, 0, 1500), True, 1.5),
        (told(3, 0, 300), True, 0.3),
        (told(3, 3, 300)[:8], False, 0.0),  # a system that knows less
    ],
)
def test_repetitions(
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

    monkeypatch.setattr(tcp.socket, "socket", Handle)  # type: ignore[attr-defined]
    assert tcp.stalled(1) == stalled
    assert tcp.unanswered_for(1) == seconds
