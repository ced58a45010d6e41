"""Connections of the endpoints, where the kernel refuses something."""

from __future__ import annotations

import socket

import pytest

from chimirror.io.loop import EventLoop
from chimirror.server.short_connections import ShortConnection, ShortServer


def test_a_connection_that_cannot_be_polled_is_closed() -> None:
    """Otherwise each such connection would cost the supervisor a descriptor."""

    def connect(server: ShortServer, loop: EventLoop, fd: int) -> ShortConnection:
        raise OSError("the limit of epoll(7) is reached")

    loop = EventLoop()
    server = ShortServer(loop, (), connect, print)
    ours, theirs = socket.socketpair()
    with ours:
        with pytest.raises(OSError, match="the limit of epoll"):
            server.on_connection(theirs.detach(), "")
        assert ours.recv(1) == b""
    server.close()
    loop.close_all()
