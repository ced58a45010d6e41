"""A process's control socket: who may ask about its sessions, and steer them.

A Unix socket, of a worker in a directory of our user's, of a bridge beside its status
file (system.runtime), which lets nobody in but them. Root and our own user, known to
the kernel (SO_PEERCRED), are trusted; others have to know the secret of a session. What
all of them may ask is their clerk's matter, which is loaded with the first client.
"""

from __future__ import annotations

from chimirror.system.acceptor import Acceptor
from chimirror.system.activation import peer_uid
from chimirror.system.lean import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.clerk import Clerk
    from chimirror.service import Service
    from chimirror.system.acceptor import Listening
    from chimirror.system.lean import socket

STRANGERS = 16  # connections of those who are not trusted


class Office:
    """Lets those in who may ask.

    Args:
        service: of this process.
        listener: the socket; ours from now on.
    """

    def __init__(self, service: Service, listener: Listening) -> None:
        self.service = service
        self.clerks: set[Clerk] = set()
        self._trusted = {0, os.geteuid()}
        self._acceptor = Acceptor(service.loop, listener, self)

    def on_client(self, handle: socket.socket) -> None:
        """Somebody has connected."""
        trusted = peer_uid(handle) in self._trusted
        strangers = sum(not one.trusted for one in self.clerks)
        if not trusted and strangers >= STRANGERS:
            handle.close()
            return
        from chimirror.clerk import Clerk

        handle.setblocking(False)
        self.clerks.add(Clerk(self, handle.detach(), trusted=trusted))

    def on_fault(self, error: Exception) -> None:
        """A bug of ours: no session pays for it."""
        self.service.fault(error, "(control)")

    def close(self) -> None:
        """Nobody may ask any more."""
        self._acceptor.close()
        for clerk in list(self.clerks):
            clerk.dismiss()
