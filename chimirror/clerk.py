"""One client of a control socket: who it is, and what it may ask.

JSON-RPC 2.0, one message per line (chimirror-protocol(7)). It begins with `authorize`,
which makes it one of the hands at a session's helm. Root and our own user need no
secret for that, and may also ask about all sessions of this process.

Nothing here touches the data of a session, and nobody who floods or leaves it does.
"""

from __future__ import annotations

from itertools import islice

from chimirror import keys, report
from chimirror.hand import Hand
from chimirror.helm import Helm
from chimirror.wire.control import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    NOT_AUTHORIZED,
    Fault,
    serve,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chimirror.control import Office
    from chimirror.service import Service
    from chimirror.session import Session
    from chimirror.wire.control import Call, Object

PAGE = 1000  # sessions in one answer: 10 ms of work
UNKNOWN = "no such session, or not its secret"


class Clerk(Hand):
    """Answers one client.

    Args:
        office: whose clerk this is.
        fd: the connection, non-blocking; ours from now on.
        trusted: whether the client is root, or our own user.
    """

    __slots__ = ("_listing", "_office", "_refused")

    def __init__(self, office: Office, fd: int, *, trusted: bool) -> None:
        loop = office.service.loop
        super().__init__(loop, fd, trusted=trusted)
        self._office = office
        self._listing: Iterator[Session] = iter(())
        self._refused = False  # a first request that is wrong is the last one
        if not trusted:
            loop.arm(self, loop.now + office.service.config.handshake_timeout)

    def on_line(self, line: bytes) -> None:
        """A request, or a batch of them."""
        serve(line, self._perform, self.reply)
        if self._refused:
            self.dismiss()

    def on_timer(self, now: float) -> None:
        """It has not said who it is in time; or see Hand."""
        if self.helm is None:
            self.dismiss()
        else:
            super().on_timer(now)

    def on_dismissed(self) -> None:
        """Forget it."""
        self._office.clerks.discard(self)

    def on_fault(self, error: Exception) -> None:
        """A bug of ours: no session pays for it."""
        self.dismiss()
        self._office.on_fault(error)

    # Methods

    def _perform(self, call: Call) -> None:
        if self.helm is not None:
            self.helm.perform(call, self)
        elif call.method == "authorize":
            self._authorize(call)
        elif not self.trusted:
            raise self._refuse(NOT_AUTHORIZED, "begin with authorize")
        elif call.method in METHODS:
            call.answer(METHODS[call.method](self, call.named))
        else:
            raise Fault(METHOD_NOT_FOUND, f"no method {call.method!r}")

    def _refuse(self, code: int, text: str) -> Fault:
        """The last answer that it gets."""
        self._refused = True
        return Fault(code, text)

    def _authorize(self, call: Call) -> None:
        """Make the client a hand of one session, if it may be that.

        Whether there is such a session is not told either.
        """
        identity, secret = call.named.get("session"), call.named.get("secret")
        service = self.service
        session = service.sessions.get(identity) if isinstance(identity, str) else None
        if session is not None and not session.opened:
            session = None
        if secret is not None or not self.trusted:
            key = session.seal() if session is not None else b""
            self.trusted = False
            if not isinstance(secret, str) or not keys.matches(secret, key):
                session = None
        if session is None or self._refused:
            raise self._refuse(NOT_AUTHORIZED, UNKNOWN)
        self._join(Helm.of(service, session))
        call.answer({})

    def _join(self, helm: Helm) -> None:
        try:
            helm.join(self)
        except Fault as fault:
            raise self._refuse(fault.code, str(fault)) from None
        self.helm = helm
        self._loop.disarm(self)

    @property
    def service(self) -> Service:
        """Whose sessions are asked for."""
        return self._office.service

    def page(self, *, more: bool) -> list[Session]:
        """Some of the sessions; those that follow the last ones."""
        if not more:
            self._listing = iter(list(self.service.sessions.values()))
        return list(islice(self._listing, PAGE))


# Methods of those who need no secret


def _sessions(clerk: Clerk, params: Object) -> Object:
    """A page of the live sessions."""
    service = clerk.service
    page = clerk.page(more="more" in params)
    live = [one for one in page if one.identity in service.sessions and one.opened]
    told = [report.describe(service, one) for one in live]
    return {"sessions": told, "more": len(page) == PAGE}


def _close(clerk: Clerk, params: Object) -> Object:
    ours = _chosen(clerk, params)
    for one in ours:
        one.close(1001, "drain")
    return {"ids": [one.identity for one in ours]}


def _kill(clerk: Clerk, params: Object) -> Object:
    ours = _chosen(clerk, params)
    for one in ours:
        one.abort()
    return {"ids": [one.identity for one in ours]}


def _chosen(clerk: Clerk, params: Object) -> list[Session]:
    """Those that are meant; ids that are none of ours are passed over."""
    ids = params.get("ids")
    if not isinstance(ids, list):
        raise Fault(INVALID_PARAMS, '"ids" is a list of session ids')
    sessions = clerk.service.sessions
    wanted = {one for one in ids if isinstance(one, str)}
    return [sessions[one] for one in wanted if one in sessions]


def _status(clerk: Clerk, _params: Object) -> Object:
    service = clerk.service
    return {"sessions": len(service.sessions), "connecting": service.connecting}


METHODS: dict[str, Callable[[Clerk, Object], Object]] = {
    "sessions": _sessions,
    "close": _close,
    "kill": _kill,
    "status": _status,
}
