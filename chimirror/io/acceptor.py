"""Accept loop: accepts connections on listening sockets, and pauses on a shortage.

When accept(2) fails for lack of descriptors or memory, all listeners rest for
SHORTAGE_PAUSE, so the loop never spins. The handler gets one report for each such
shortage. Knows no protocol and no limits. accept(2).
"""

from __future__ import annotations

from chimirror.builtin_modules import socket
from chimirror.io.loop import EXCLUSIVE, NEVER, READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    from chimirror.io.loop import EventLoop

    class ListeningSocket(Protocol):
        """A listening socket: a Listener or a SessionSocket."""

        @property
        def fd(self) -> int: ...

        def remove(self) -> None: ...

    class AcceptHandler(Protocol):
        """Callbacks of an Acceptor."""

        def on_connection(self, fd: int, address: object) -> None:
            """Called with each new connection. The handler owns the descriptor."""

        def on_accept_failed(self, error: Exception, shortage: bool) -> None:
            """Called when accepting pauses.

            A shortage is reported once, until a connection is accepted again.

            Args:
                error: the reason.
                shortage: False for an internal error.
            """


SHORTAGE_PAUSE = 0.25  # seconds without accepting after a shortage in the kernel
# The client disconnected while queued, or a firewall rule refused it.
_IGNORED_ERRORS = (BlockingIOError, ConnectionAbortedError, PermissionError)

_accept = socket.socket._accept  # type: ignore[attr-defined]  # noqa: SLF001


class Acceptor:
    """Accept loop over one or more listening sockets.

    Args:
        loop: reports readiness.
        listeners: non-blocking descriptors. Their owner closes them.
        handler: receives each connection.
        batch: connections per listener and turn.

    Attributes:
        open: True while connections are accepted.
    """

    __slots__ = (
        "_batch",
        "_enabled",
        "_failures",
        "_handler",
        "_listeners",
        "_loop",
        "armed",
        "deadline",
        "open",
    )

    def __init__(
        self,
        loop: EventLoop,
        listeners: Iterable[int],
        handler: AcceptHandler,
        *,
        batch: int = 1,
    ) -> None:
        self._loop = loop
        self._listeners = {fd: socket.socket(-1, -1, -1, fd) for fd in listeners}
        self._handler = handler
        self._batch = batch
        self._enabled = False
        self._failures = 0  # failures since the last accepted connection
        self.armed = 0
        self.deadline = NEVER
        self.open = False

    def enable(self, enabled: bool = True) -> None:
        """Accept connections, or stop. Takes effect after a running shortage."""
        self._enabled = enabled
        self._watch()

    def _watch(self) -> None:
        is_open = self._enabled and self.deadline == NEVER
        if is_open != self.open:
            self.open = is_open
            for fd in self._listeners:
                self._loop.watch(fd, self, READ | EXCLUSIVE if is_open else 0)

    def on_event(self, fd: int, events: int) -> None:
        """Called when connections are queued. Accepts at most one batch."""
        listener = self._listeners[fd]
        for _ in range(self._batch):
            if not self.open:
                return
            try:
                connection, address = _accept(listener)
            except _IGNORED_ERRORS:
                return
            except OSError as error:
                self._pause(error, shortage=True)
                return
            self._failures = 0
            self._handler.on_connection(connection, address)

    def accept_queued(self) -> None:
        """Accept one batch of each listener now, even during a shortage."""
        self._loop.cancel_timer(self)
        self._watch()
        for fd in list(self._listeners):
            self.on_event(fd, READ)

    def _pause(self, error: Exception, *, shortage: bool) -> None:
        self._loop.set_timer(self, self._loop.now + SHORTAGE_PAUSE)
        self._watch()
        self._failures += 1
        if self._failures == 1:
            self._handler.on_accept_failed(error, shortage)

    def on_timer(self, now: float) -> None:
        """Called when the pause is over. Accepts again."""
        self.deadline = NEVER
        self._watch()

    def on_error(self, error: Exception) -> None:
        """Called when the handler raised. Pauses, and accepting goes on later."""
        self._pause(error, shortage=False)

    def shrink_backlog(self) -> None:
        """Shrink the backlog of TCP listeners to one. The kernel drops further SYNs.

        Such a client tries again after a second, and may then reach another listener. A
        client of a Unix socket would fail instead, so those backlogs stay.
        """
        for listener in self._listeners.values():
            if listener.family != socket.AF_UNIX:
                listener.listen(0)

    def close(self) -> None:
        """Stop accepting for good. The listeners stay open."""
        self._loop.cancel_timer(self)
        self.enable(False)
        for listener in self._listeners.values():
            listener.detach()
        self._listeners = {}
