"""The control socket of a worker, which sessions do not depend on.

Its directory may vanish, as $XDG_RUNTIME_DIR does at the last logout, or be full. The
worker then runs without control, and makes the socket again when that is possible.
Knows no session. chimirror-protocol(7), STATUS AND CONTROL SOCKETS.
"""

from __future__ import annotations

import os

from chimirror.host import runtime_dir
from chimirror.io.listener import ListenError, open_unix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.session import Closable, SessionContext

CHECK_INTERVAL = 5.0  # seconds between two looks at the path


class WorkerControlSocket:
    """The control socket of one worker.

    Args:
        context: of this worker.
        directory: of the control sockets of the server.
        number: of this worker, the name of its socket.
    """

    __slots__ = ("_context", "_directory", "_next_check", "_path", "_server", "_warned")

    def __init__(self, context: SessionContext, directory: str, number: int) -> None:
        self._context = context
        self._directory = directory
        self._path = f"{directory}/{number}"
        self._server: Closable | None = None
        self._next_check = 0.0
        self._warned = False

    def is_reachable(self) -> bool:
        """Return True if clients find the socket. Makes it again if it has vanished."""
        now = self._context.loop.now
        if now >= self._next_check:
            self._next_check = now + CHECK_INTERVAL
            if self._server is None or not os.path.exists(self._path):
                self._open()
        return self._server is not None

    def _open(self) -> None:
        self.close()
        try:
            runtime_dir.make_server_directory(self._directory, os.geteuid())
            listener = open_unix(self._path, 0o600)
        except (ListenError, OSError) as error:
            if not self._warned:
                self._warned = True
                text = f"new sessions have no control connections: {error}"
                cure = f"make {self._directory} writable, with free space"
                self._context.event_log.message(4, f"{text} ({cure})")
            return
        self._server = self._context.control.listen(listener)
        self._warned = False

    def close(self) -> None:
        """Close the socket and disconnect its clients."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
