"""The listening Unix socket of a bridge: made at a unique path, and removed.

A starting bridge cannot afford the imports of `listener`, which also replaces stale
sockets. Here the path contains a session id, so an existing file there is no leftover
of this program and stays. unix(7).
"""

from __future__ import annotations

from chimirror.builtin_modules import os, socket

BACKLOG = 16


class SessionSocket:
    """A listening socket at the path of one session.

    Args:
        path: its directory exists and is writable.
        mode: permissions. No client can connect before they are set.

    Attributes:
        fd: non-blocking, or -1 once removed.

    Raises:
        OSError: The socket cannot be made.
    """

    __slots__ = ("_path", "fd")

    def __init__(self, path: str, mode: int) -> None:
        self._path = path
        handle = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            handle.setblocking(False)
            before = os.umask(0o777 & ~mode)
            try:
                handle.bind(path)
            finally:
                os.umask(before)
            handle.listen(BACKLOG)
        except OSError:
            handle.close()
            raise
        self.fd = handle.detach()

    def remove(self) -> None:
        """Close the socket and remove its path."""
        os.close(self.fd)
        self.fd = -1
        try:
            os.unlink(self._path)
        except OSError:
            pass  # removed already by another process
