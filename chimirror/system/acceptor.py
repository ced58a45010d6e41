"""Accepts local clients of a Unix socket, one at a time, and never spins.

When the kernel has no room it pauses and tries again. Knows no protocol.
"""

from __future__ import annotations

from chimirror.system.lean import socket
from chimirror.system.loop import NEVER, READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from chimirror.system.loop import Loop

    class Listening(Protocol):
        """A listening socket: listen.Listener, or a bridge's."""

        @property
        def fd(self) -> int: ...

        def remove(self) -> None: ...

    class Owner(Protocol):
        """Who is told."""

        def on_client(self, handle: socket.socket) -> None: ...

        def on_fault(self, error: Exception) -> None: ...


SHORTAGE_PAUSE = 0.25  # seconds without accepting, when the kernel has no room

_accept = socket.socket._accept  # type: ignore[attr-defined]  # noqa: SLF001


class Acceptor:
    """See the module.

    Args:
        listener: ours from now on.
        owner: handed each client.
    """

    __slots__ = ("_listener", "_loop", "_owner", "armed", "deadline")

    def __init__(self, loop: Loop, listener: Listening, owner: Owner) -> None:
        self._loop = loop
        self._listener = listener
        self._owner = owner
        self.armed = 0
        self.deadline = NEVER
        loop.watch(listener.fd, self, READ)

    def on_event(self, fd: int, events: int) -> None:
        """A client has connected."""
        listener = socket.socket(-1, -1, -1, fd)
        try:
            client = _accept(listener)[0]
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:  # no descriptor is left, or no memory
            self._loop.watch(fd, self, 0)
            self._loop.arm(self, self._loop.now + SHORTAGE_PAUSE)
            return
        finally:
            listener.detach()
        self._owner.on_client(socket.socket(-1, -1, -1, client))

    def on_timer(self, now: float) -> None:
        """Perhaps there is room again."""
        self._loop.watch(self._listener.fd, self, READ)

    def on_fault(self, error: Exception) -> None:
        """A bug of ours, or of the owner's."""
        self._owner.on_fault(error)

    def close(self) -> None:
        """Accept no more, and take the socket away."""
        self._loop.disarm(self)
        self._loop.watch(self._listener.fd, self, 0)
        self._listener.remove()
