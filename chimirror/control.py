"""A worker's control socket: who may ask, and what the answers are.

JSON-RPC 2.0, one message per line, over a Unix socket in a directory of our user's
(chimirror-protocol(7)); root and our own user may ask (SO_PEERCRED). Nothing here
touches the data of a session, and nobody who floods or leaves it does.
"""

from __future__ import annotations

import os
from itertools import islice

from chimirror import report
from chimirror.system.acceptor import Acceptor
from chimirror.system.activation import peer_uid
from chimirror.system.listen import open_unix
from chimirror.system.outbox import HIGH
from chimirror.system.stream import Stream
from chimirror.wire.control import INVALID_PARAMS, METHOD_NOT_FOUND, Fault, respond

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from typing import Any

    from chimirror.service import Service
    from chimirror.session import Session
    from chimirror.wire.control import Params

PAGE = 1000  # sessions in one answer: 10 ms of work
LONGEST = 1 << 16  # bytes of a request


class Clerk(Stream):
    """Answers one client.

    Args:
        office: whose clerk this is.
        fd: the connection, non-blocking; ours from now on.
    """

    __slots__ = ("_listing", "_office", "_rest")

    def __init__(self, office: Office, fd: int) -> None:
        super().__init__(office.service.loop, fd, fd)
        self._office = office
        self._rest = b""
        self._listing: Iterator[Session] = iter(())

    def on_data(self, data: bytes) -> None:
        """Requests, or pieces of them."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if answer := respond(line, self._perform):
                self.put([answer])
        if len(self._rest) > LONGEST:
            self.on_leaving()
        elif self.backlog > HIGH:
            self.pause()

    def on_room(self) -> None:
        """The client has read on."""
        self.resume()

    def on_sent(self) -> None:
        """All is answered: that is the end for one who asks no more."""
        if self.ended:
            self.on_leaving()

    def on_input_end(self) -> None:
        """It asks no more; it may still want to read."""
        self.end_input()
        if not self.backlog:
            self.on_leaving()

    def on_leaving(self) -> None:
        """It has gone."""
        self.finish()
        self._office.clerks.discard(self)

    def on_fault(self, error: Exception) -> None:
        """A bug of ours: no session pays for it."""
        self.on_leaving()
        self._office.on_fault(error)

    # Methods

    def _perform(self, method: str, params: Params) -> object:
        if not isinstance(params, dict):
            raise Fault(INVALID_PARAMS, "params go by name")
        if method == "sessions":
            return self._sessions(params)
        if method == "close":
            return self._each(params, kill=False)
        if method == "kill":
            return self._each(params, kill=True)
        if method == "status":
            service = self._office.service
            return {"sessions": len(service.sessions), "connecting": service.connecting}
        raise Fault(METHOD_NOT_FOUND, f"no method {method!r}")

    def _sessions(self, params: dict[str, Any]) -> object:
        """A page of the live sessions; `more` goes on where the last one ended."""
        service = self._office.service
        if "more" not in params:
            self._listing = iter(list(service.sessions))
        page = list(islice(self._listing, PAGE))
        live = [one for one in page if one in service.sessions and one.opened]
        told = [report.describe(service, one) for one in live]
        return {"sessions": told, "more": len(page) == PAGE}

    def _each(self, params: dict[str, Any], *, kill: bool) -> object:
        """End sessions: those ids that are none of ours are not in the answer."""
        ids = params.get("ids")
        if not isinstance(ids, list):
            raise Fault(INVALID_PARAMS, '"ids" is a list of session ids')
        # A set: all of twenty thousand may be meant, and others are served meanwhile.
        wanted = {one for one in ids if isinstance(one, str)}
        sessions = self._office.service.sessions
        ours = [one for one in sessions if one.identity in wanted]
        for one in ours:
            if kill:
                one.abort()
            else:
                one.close(1001, "drain")
        return {"ids": [one.identity for one in ours]}


class Office:
    """Lets those in who may ask.

    Args:
        service: of this worker.
        directory: for the socket; nobody else may enter it.
        number: of this worker, and the socket's name.

    Raises:
        ListenError: there can be no socket.
    """

    def __init__(self, service: Service, directory: str, number: int) -> None:
        listener = open_unix(f"{directory}/{number}", 0o600)
        self.service = service
        self.clerks: set[Clerk] = set()
        self._allowed = {0, os.geteuid()}
        self._acceptor = Acceptor(service.loop, listener, self)

    def on_client(self, handle: socket.socket) -> None:
        """Somebody has connected."""
        if peer_uid(handle) not in self._allowed:
            handle.close()
            return
        handle.setblocking(False)
        self.clerks.add(Clerk(self, handle.detach()))

    def on_fault(self, error: Exception) -> None:
        """A bug of ours: no session pays for it."""
        self.service.fault(error, "(control)")

    def close(self) -> None:
        """Nobody may ask any more."""
        self._acceptor.close()
        for clerk in list(self.clerks):
            clerk.on_leaving()
