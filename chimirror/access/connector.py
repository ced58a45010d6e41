"""Connects to one of the addresses of an authorizer, without waiting in any call.

The addresses are tried in their order, each but the last for at most ATTEMPT seconds.
The caller bounds the whole. A Unix socket whose queue is full is tried again. Sends
nothing. connect(2), unix(7).
"""

from __future__ import annotations

from errno import EINPROGRESS

from chimirror.builtin_modules import os, socket
from chimirror.host.runtime_dir import SavedGroup
from chimirror.io.loop import NEVER, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from chimirror.access.endpoint import SocketAddress
    from chimirror.io.loop import EventLoop

    class ConnectorOwner(Protocol):
        """Callbacks of a Connector."""

        def on_connected(self, fd: int) -> None:
            """Called with a connected socket, non-blocking. Owned by the callee."""

        def on_connect_failed(self, reason: str) -> None:
            """Called when no address has accepted."""

        def on_error(self, error: Exception) -> None: ...


ATTEMPT = 1.0  # seconds for an address that is not the last
RETRY_INTERVAL = 0.05  # seconds until a full queue is tried again


class Connector:
    """One attempt to connect.

    Args:
        owner: called once, possibly within `start`.
        loop: event loop of this process.
        addresses: at least one.
    """

    __slots__ = ("_addresses", "_fd", "_index", "_loop", "_owner", "armed", "deadline")

    def __init__(
        self,
        owner: ConnectorOwner,
        loop: EventLoop,
        addresses: tuple[SocketAddress, ...],
    ) -> None:
        self._owner = owner
        self._loop = loop
        self._addresses = addresses
        self._index = 0
        self._fd = -1
        self.armed = 0
        self.deadline = NEVER

    def start(self) -> None:
        """Try the present address."""
        family, address = self._addresses[self._index]
        try:
            handle = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            self._fail(error)
            return
        self._fd = handle.detach()
        os.set_blocking(self._fd, False)
        try:
            self._connect(family, address)
        except BlockingIOError as error:
            if error.errno == EINPROGRESS:
                self._loop.watch(self._fd, self, WRITE)
                if self._index + 1 < len(self._addresses):
                    self._loop.set_timer(self, self._loop.now + ATTEMPT)
            else:
                self._close()
                self._loop.set_timer(self, self._loop.now + RETRY_INTERVAL)
        except OSError as error:
            self._fail(error)
        else:
            self._succeed()

    def _connect(self, family: int, address: object) -> None:
        handle = socket.socket(family, socket.SOCK_STREAM, 0, self._fd)
        try:
            if family == socket.AF_UNIX:
                # A socket in /run/chimirror may admit the group of bridges alone.
                with SavedGroup():
                    handle.connect(address)  # type: ignore[arg-type]
            else:
                handle.connect(address)  # type: ignore[arg-type]
        finally:
            handle.detach()

    def on_event(self, fd: int, events: int) -> None:
        """Called when the attempt has succeeded or failed."""
        handle = socket.socket(-1, -1, -1, fd)
        try:
            number = handle.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        finally:
            handle.detach()
        if number:
            self._fail(OSError(number, os.strerror(number)))
        else:
            self._succeed()

    def on_timer(self, now: float) -> None:
        """Called when an address does not answer, or a queue was full."""
        if self._fd >= 0:
            self._close()
            self._index += 1
        self.start()

    def _succeed(self) -> None:
        self._loop.cancel_timer(self)
        fd, self._fd = self._fd, -1
        self._loop.watch(fd, self, 0)
        self._owner.on_connected(fd)

    def _fail(self, error: OSError) -> None:
        self._close()
        self._index += 1
        if self._index < len(self._addresses):
            self.start()
        else:
            self._owner.on_connect_failed(error.strerror or str(error))

    def _close(self) -> None:
        self._loop.cancel_timer(self)
        if self._fd >= 0:
            self._loop.close(self._fd)
            self._fd = -1

    def abort(self) -> None:
        """Stop trying. Nothing is called any more."""
        self._close()

    def on_error(self, error: Exception) -> None:
        """Called on an internal error."""
        self._close()
        self._owner.on_error(error)
