"""Packets arrive whole, in order and with their descriptors, or not at all."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from chimirror.system import link
from chimirror.system.link import Link
from chimirror.system.loop import READ, Loop
from looping import turn_until


class Owner:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self.pipes: list[int] = []
        self.lost = 0

    def on_packet(self, link: Link, packet: bytes, pipes: list[int]) -> None:
        self.packets.append(packet)
        self.pipes += pipes
        if packet == b"bug":
            raise LookupError("a bug")

    def on_lost(self, link: Link) -> None:
        self.lost += 1

    def on_fault(self, error: Exception) -> None:
        self.packets.append(repr(error).encode())


@contextmanager
def ends() -> Iterator[tuple[Loop, Link, Link, Owner]]:
    """A loop, its two ends of a link, and who is told at the second."""
    loop, owner = Loop(), Owner()
    one, other = link.pair()
    first, second = Link(loop, Owner(), one), Link(loop, owner, other)
    yield loop, first, second, owner
    first.close()
    second.close()
    for fd in owner.pipes:
        os.close(fd)
    loop.close_all()


def test_what_the_peer_does_not_read_waits_in_order() -> None:
    with ends() as (loop, first, second, owner):
        sent: list[bytes] = []
        loop.watch(second.fd, second, 0)
        while first.backlog < 5:
            sent.append(b"%05d" % len(sent) * 1000)
            first.send(sent[-1], (os.open(os.devnull, os.O_RDONLY),))
            assert len(sent) < 5000
        loop.watch(second.fd, second, READ)
        turn_until(loop, lambda: len(owner.packets) == len(sent))
        assert owner.packets == sent
        assert len(owner.pipes) == len(sent)
        assert all(os.fstat(fd) for fd in owner.pipes)
        assert first.backlog == 0


def test_what_was_sent_before_the_end_arrives() -> None:
    with ends() as (loop, first, _, owner):
        first.send(b"one")
        first.send(b"two")
        first.close()
        turn_until(loop, lambda: owner.lost)
        assert (owner.packets, owner.lost) == ([b"one", b"two"], 1)
        first.send(b"three", (os.open(os.devnull, os.O_RDONLY),))  # into the void


def test_descriptors_that_wait_are_closed_with_the_link() -> None:
    with ends() as (loop, first, second, _):
        loop.watch(second.fd, second, 0)
        while not first.backlog:
            first.send(b"x" * 10_000)
        reader, writer = os.pipe()
        first.send(b"late", (writer,))
        first.close()
        assert os.read(reader, 1) == b""
        os.close(reader)


def test_a_peer_that_has_gone_is_told_once() -> None:
    with ends() as (loop, first, second, owner):
        first.close()
        loop.turn()
        second.send(b"hello")
        turn_until(loop, lambda: owner.lost)
        second.send(b"hello")
        assert owner.lost == 1


def test_a_packet_that_is_too_large() -> None:
    with ends() as (loop, first, _, owner):
        with pytest.raises(OSError, match="Message too long"):
            first.send(b"x" * (1 << 24))
        first.send(b"small")
        turn_until(loop, lambda: owner.packets)
        assert owner.packets == [b"small"]


class Full:
    """A socket for which the kernel lets no descriptors be in flight."""

    def __init__(self, handle: socket.socket) -> None:
        self.handle = handle

    def sendmsg(self, buffers: Any, control: Any) -> int:
        if control:
            raise OSError(errno.ETOOMANYREFS, "Too many references")
        return self.handle.sendmsg(buffers)

    def __getattr__(self, name: str) -> object:
        return getattr(self.handle, name)


def test_without_room_for_descriptors_the_packet_goes_alone() -> None:
    with ends() as (loop, first, _, owner):
        first._handle = Full(first._handle)  # type: ignore[assignment]
        reader, writer = os.pipe()
        first.send(b"packet", (writer,))
        assert os.read(reader, 1) == b""
        os.close(reader)
        turn_until(loop, lambda: owner.packets)
        assert (owner.packets, owner.pipes) == ([b"packet"], [])


def test_a_bug_of_the_owner_is_its_own() -> None:
    with ends() as (loop, first, _, owner):
        first.send(b"bug")
        first.send(b"next")
        turn_until(loop, lambda: b"next" in owner.packets)
        assert owner.packets == [b"bug", b"LookupError('a bug')", b"next"]


def test_a_fork_lets_go_of_it_alone() -> None:
    with ends() as (loop, first, _, owner):
        pid = os.fork()
        if pid == 0:
            first.abandon()
            first.abandon()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        first.send(b"hello")
        turn_until(loop, lambda: owner.packets)
