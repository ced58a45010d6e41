"""The bytes between one non-blocking socket, TLS or not, and one party's WebSocket.

It waits for nothing and decides nothing: it says what it wants polled, and moves what
can be moved now. Whoever polls, a thread or an event loop, owns it.
"""

from __future__ import annotations

import socket

from .dial import reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from .steps import Flow
    from .wire import Wire

    class Party(Protocol):
        """Who makes sense of what comes."""

        wire: Wire

        def received(self, data: bytes) -> None:
            """Take what has come."""

        @property
        def wants(self) -> bool:
            """Whether there is room for more."""

        def opened(self) -> Flow[None]:
            """Wait until it can be used."""

        @property
        def awaited(self) -> str:
            """What that waits for, should it be in vain."""

        def abort(self) -> None:
            """Close at once."""


READ = 64 * 1024


class Line:
    """A connection and the party that uses it."""

    __slots__ = ("_sock", "_party", "_again", "_secure")

    def __init__(self, sock: socket.socket, party: Party) -> None:
        self._sock = sock
        self._party = party
        self._again: tuple[type[OSError], ...] = (BlockingIOError,)
        self._secure = type(sock) is not socket.socket
        if self._secure:
            import ssl

            self._again += (ssl.SSLWantReadError, ssl.SSLWantWriteError)

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def reading(self) -> bool:
        """Whether the socket is to be read."""
        wire = self._party.wire
        return wire.lost is None and wire.reading(self._party.wants)

    @property
    def writing(self) -> bool:
        """Whether the socket is to be written."""
        return self._party.wire.waiting > 0

    def buffered(self) -> bool:
        """Whether TLS holds bytes that polling will not tell of."""
        return self._secure and self._sock.pending() > 0  # type: ignore[attr-defined]

    def receive(self) -> None:
        """Read once."""
        wire = self._party.wire
        try:
            data = self._sock.recv(READ)
        except self._again:
            return
        except OSError as error:
            wire.over(reason(error))
            return
        if data:
            self._party.received(data)
        else:
            wire.over("")

    def settle(self) -> bool:
        """Send what the kernel takes now, and do what the time asks for.

        Returns:
            Whether that has changed anything that somebody may wait for.
        """
        wire = self._party.wire
        before = wire.waiting, wire.lost
        try:
            while wire.waiting:
                wire.sent(self._sock.send(wire.outgoing()))
        except self._again:
            pass
        except OSError:
            wire.unsendable()  # why, the next read will say
        wire.tick()
        return (wire.waiting, wire.lost) != before

    def close(self) -> None:
        self._sock.close()
