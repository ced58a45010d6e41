"""A relay that passes each byte on by itself."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with suppress(OSError):  # the other direction has ended
        while data := source.recv(1):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextmanager
def one_by_one(connect: Callable[[], socket.socket]) -> Iterator[socket.socket]:
    """Connect through the relay. Yields the client's end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        inner, _ = listener.accept()
    with inner, connect() as outer:
        ways = [(inner, outer), (outer, inner)]
        threads = [threading.Thread(target=_pass_on, args=way) for way in ways]
        for thread in threads:
            thread.start()
        try:
            with client:
                yield client
        finally:
            for end in (inner, outer):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()
