"""Packets arrive whole, in order and with their descriptors, or not at all."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import mmap
from typing import Any

import pytest

from chimirror.io import packet_socket
from chimirror.io.loop import READ, EventLoop
from chimirror.io.packet_socket import PacketSocket
from loops import turn_until


class Handler:
    """Handler that records its calls."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self.fds: list[int] = []
        self.lost = 0

    def on_packet(self, link: PacketSocket, packet: bytes, fds: list[int]) -> None:
        self.packets.append(packet)
        self.fds += fds
        if packet == b"bug":
            raise LookupError("a bug")

    def on_lost(self, link: PacketSocket) -> None:
        self.lost += 1

    def on_error(self, error: Exception) -> None:
        self.packets.append(repr(error).encode())


@contextmanager
def ends() -> Iterator[tuple[EventLoop, PacketSocket, PacketSocket, Handler]]:
    """Return a loop, the two ends of a link, and the handler of the second end."""
    loop, handler = EventLoop(), Handler()
    one, other = packet_socket.pair()
    first, second = (
        PacketSocket(loop, Handler(), one),
        PacketSocket(loop, handler, other),
    )
    yield loop, first, second, handler
    first.close()
    second.close()
    for fd in handler.fds:
        os.close(fd)
    loop.close_all()


def test_unread_packets_are_queued_in_order() -> None:
    with ends() as (loop, first, second, handler):
        sent: list[bytes] = []
        loop.watch(second.fd, second, 0)
        while first.queued_packets < 5:
            sent.append(b"%05d" % len(sent) * 1000)
            first.send(sent[-1], (os.open(os.devnull, os.O_RDONLY),))
            assert len(sent) < 5000
        loop.watch(second.fd, second, READ)
        turn_until(loop, lambda: len(handler.packets) == len(sent))
        assert handler.packets == sent
        assert len(handler.fds) == len(sent)
        assert all(os.fstat(fd) for fd in handler.fds)
        assert (first.queued_packets, first.queued_bytes) == (0, 0)


def test_packets_before_the_end_arrive() -> None:
    with ends() as (loop, first, _, handler):
        first.send(b"one")
        first.send(b"two")
        first.close()
        turn_until(loop, lambda: handler.lost)
        assert (handler.packets, handler.lost) == ([b"one", b"two"], 1)
        first.send(b"three", (os.open(os.devnull, os.O_RDONLY),))  # no peer


def test_queued_descriptors_are_closed_with_the_link() -> None:
    with ends() as (loop, first, second, _):
        loop.watch(second.fd, second, 0)
        while not first.queued_packets:
            first.send(b"x" * 10_000)
        reader, writer = os.pipe()
        first.send(b"late", (writer,))
        first.close()
        assert os.read(reader, 1) == b""
        os.close(reader)


def test_a_lost_peer_is_reported_once() -> None:
    with ends() as (loop, first, second, handler):
        first.close()
        loop.run_once()
        second.send(b"hello")
        turn_until(loop, lambda: handler.lost)
        second.send(b"hello")
        assert handler.lost == 1


def test_a_packet_that_is_too_large() -> None:
    with ends() as (loop, first, _, handler):
        with pytest.raises(OSError, match="Message too long"):
            first.send(b"x" * (1 << 24))
        first.send(b"small")
        turn_until(loop, lambda: handler.packets)
        assert handler.packets == [b"small"]


def test_the_largest_packet_arrives_whole() -> None:
    with ends() as (loop, first, _, handler):
        packet = b"x" * first._max_packet
        first.send(packet)
        turn_until(loop, lambda: handler.packets)
        assert handler.packets == [packet]
        with pytest.raises(OSError, match="Message too long"):
            first.send(packet + b"x")


def test_a_packet_that_was_cut_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packet_socket, "_buffer", mmap(-1, 4096))
    with ends() as (loop, first, _, handler):
        reader, writer = os.pipe()
        first.send(b"x" * 4097, (writer,))
        first.send(b"next")
        turn_until(loop, lambda: b"next" in handler.packets)
        assert handler.packets[0].startswith(b"PacketError('it is larger than")
        assert os.read(reader, 1) == b"", "its descriptor is closed"
        os.close(reader)


@pytest.mark.parametrize("bound", ["MAX_QUEUED_PACKETS", "MAX_QUEUED_BYTES"])
def test_a_peer_that_reads_nothing_is_lost(
    bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packet_socket, bound, 5)
    with ends() as (loop, first, second, _):
        handler = Handler()
        first._handler = handler
        loop.watch(second.fd, second, 0)
        while first.fd >= 0:
            first.send(b"x" * 10_000, (os.open(os.devnull, os.O_RDONLY),))
        assert handler.lost == 0, "it is reported in a later turn"
        turn_until(loop, lambda: handler.lost)
        assert (first.queued_packets, first.queued_bytes) == (0, 0)
        assert first.has_overflowed
        first.send(b"late")


class Full:
    """A socket with which the kernel allows no descriptors in flight."""

    def __init__(self, handle: socket.socket) -> None:
        self.handle = handle
        self.shortages = 0

    def sendmsg(self, buffers: Any, control: Any) -> int:
        if self.shortages:
            self.shortages -= 1
            raise OSError(errno.ENOBUFS, "No buffer space available")
        if control:
            raise OSError(errno.ETOOMANYREFS, "Too many references")
        return self.handle.sendmsg(buffers)

    def __getattr__(self, name: str) -> object:
        return getattr(self.handle, name)


def test_without_room_for_descriptors_the_packet_goes_alone() -> None:
    with ends() as (loop, first, _, handler):
        first._handle = Full(first._handle)  # type: ignore[assignment]
        reader, writer = os.pipe()
        first.send(b"packet", (writer,))
        assert os.read(reader, 1) == b""
        os.close(reader)
        turn_until(loop, lambda: handler.packets)
        assert (handler.packets, handler.fds) == ([b"packet"], [])


def test_without_memory_the_packet_is_sent_later() -> None:
    with ends() as (loop, first, _, handler):
        full = Full(first._handle)
        full.shortages = 2
        first._handle = full  # type: ignore[assignment]
        first.send(b"packet")
        assert first.queued_packets == 1
        turn_until(loop, lambda: handler.packets)
        assert first.queued_packets == 0


def test_an_error_of_the_handler_is_passed_to_it() -> None:
    with ends() as (loop, first, _, handler):
        first.send(b"bug")
        first.send(b"next")
        turn_until(loop, lambda: b"next" in handler.packets)
        assert handler.packets == [b"bug", b"LookupError('a bug')", b"next"]


def test_release_after_fork_closes_only_the_descriptor() -> None:
    with ends() as (loop, first, _, handler):
        pid = os.fork()
        if pid == 0:
            first.release_after_fork()
            first.release_after_fork()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        first.send(b"hello")
        turn_until(loop, lambda: handler.packets)
