"""Keeps a bridge's status where it is looked for: a file, and `systemctl status`.

Written when something has changed, at most once a second; an idle session is looked at
ever more rarely, so that it sleeps. Nothing of it happens before the first tick after
the 101, and a session of less than a second is not told to the service manager at all:
that costs an import and a wake-up of process 1. sd_notify(3).
"""

from __future__ import annotations

from _json import encode_basestring_ascii

from chimirror import report
from chimirror.system import runtime
from chimirror.system.lean import environment, os
from chimirror.system.loop import NEVER
from chimirror.system.statusfile import StatusFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.service import Service
    from chimirror.session import Session

SOONEST, LATEST = 1.0, 10.0  # seconds between two looks
TOLD = 10.0  # seconds, at least, between two notifications


class Status:
    """The status of the one session of a bridge; to be removed with it."""

    def __init__(self, service: Service, session: Session) -> None:
        self._service = service
        self._session = session
        self._file = self._create()
        self._seen: tuple[object, ...] = ()
        self._pause = 0.0
        self._told = ""
        self._next_telling = service.loop.now + SOONEST
        self.armed = 0
        self.deadline = NEVER
        service.loop.arm(self, service.loop.now)

    def _create(self) -> StatusFile | None:
        place = runtime.sessions(environment(), os.geteuid())
        if place is None:
            return None
        path = f"{place}/{self._session.identity}"
        try:
            with runtime.Inside():
                return StatusFile(path)
        except OSError:
            return None  # not set up, or not for us: the session goes on without

    def on_timer(self, now: float) -> None:
        """Look, and write what has changed."""
        session = self._session
        seen = (
            session.connection.state,
            session.bytes_in,
            session.bytes_out,
            session.messages_in,
            session.messages_out,
        )
        if seen != self._seen:
            self._seen = seen
            self._pause = SOONEST
            if self._file is not None:
                self._file.write(_line(report.describe(self._service, session)))
        else:
            self._pause = min(2 * self._pause, LATEST)
        if now >= self._next_telling:
            self._tell(now)
        self._service.loop.arm(self, now + self._pause)

    def _tell(self, now: float) -> None:
        from chimirror.system import notify

        text = report.sentence(report.describe(self._service, self._session))
        if text != self._told:
            self._told = text
            self._next_telling = now + TOLD
            notify.tell(f"STATUS={text}")

    def remove(self) -> None:
        """The session is over."""
        self._service.loop.disarm(self)
        if self._file is not None:
            with runtime.Inside():
                self._file.remove()

    def on_event(self, fd: int, events: int) -> None:
        """We watch no descriptor."""

    def on_fault(self, error: Exception) -> None:
        """A bug of ours: the session does not pay for it."""
        self._service.fault(error, self._session.identity)


def _line(told: dict[str, str | int]) -> bytes:
    """An object on one line; without orjson, whose import costs 35 ms."""
    members = [f'"{name}":{_json(value)}' for name, value in told.items()]
    return ("{" + ",".join(members) + "}\n").encode()


def _json(value: str | int) -> str:
    return str(value) if isinstance(value, int) else encode_basestring_ascii(value)
