"""A bridge's listening Unix socket: made at a path that is nobody else's, and removed.

Unlike `listen`, which a starting bridge cannot afford, and which replaces what is
stale: a session's id is in this name, so that whatever is there already is no mistake
of ours, and stays. unix(7).
"""

from __future__ import annotations

from chimirror.system.lean import os, socket

BACKLOG = 16


class Doorbell:
    """See the module.

    Args:
        path: its directory is there, and ours to write to.
        mode: permissions; nobody can connect before they hold.

    Attributes:
        fd: non-blocking; -1 once removed.

    Raises:
        OSError: it cannot be made.
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
        """Take it away."""
        os.close(self.fd)
        self.fd = -1
        try:
            os.unlink(self._path)
        except OSError:
            pass  # somebody has tidied up
