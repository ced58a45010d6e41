"""The limit of sessions among bridges, and a user for each bridge.

Loaded for --max-sessions or --user-range, before a byte of the client is read. Under
systemd, each connection is a unit, an instance of the template (host.cgroup), whether
or not it becomes a session.

A session takes one of as many places as --max-sessions allows: a locked byte of the
table of users, which the kernel releases with the process. So connections without a
session take no place. They take units, of which the socket has few more than there are
places. Beyond the number of places, a unit that has waited for its client for
MIN_WAIT ends.
"""

from __future__ import annotations

from binascii import crc32

from chimirror.bridge import credentials, users
from chimirror.builtin_modules import os
from chimirror.host import cgroup
from chimirror.io.loop import NEVER
from chimirror.program import describe_os_error, fail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import NoReturn

    from chimirror.apps import Application
    from chimirror.config import Config
    from chimirror.session import Peer, SessionContext

RETRY_AFTER = 5  # seconds: this bridge cannot know when another session ends
MIN_WAIT = 1.0  # seconds that a client has for its request in any case
# Places in the table of users: a range of bytes for each template.
_FIRST_PLACE, _MAX_PLACES = 1 << 32, 1 << 24
# Places are taken from the lowest up: a lower limit then holds soon.
_TRIED_IN_ORDER, _TRIED_AT_RANDOM = 32, 4


class TemplateAdmission:
    """The admission of one session among the units of its template.

    Args:
        instances: the units.
        limit: the value of --max-sessions.
        table: descriptor of the table of users. Without it all instances count, even
            those without a session. If two bridges start at once for the last place,
            both may be refused. They are never both admitted.
    """

    __slots__ = ("_instances", "_limit", "_table")

    def __init__(
        self, instances: cgroup.TemplateInstances, limit: int, table: int | None = None
    ) -> None:
        self._instances = instances
        self._limit = min(limit, _MAX_PLACES)
        self._table = table

    def acquire(self, peer: Peer, app: Application, user: str = "") -> str | None:
        """Take a place. Returns "max-sessions" if there is none, else None."""
        return self._search(users.lock_byte)

    def find_exceeded(self, peer: Peer, app: Application, user: str = "") -> str | None:
        """Return what `acquire` would return. Takes no place."""
        return self._search(users.is_byte_free)

    def _search(self, try_byte: Callable[[int, int], bool]) -> str | None:
        """Return None if this works for the byte of any place."""
        table = self._table
        if table is None:
            is_free = not self.is_crowded()
        else:
            first = _FIRST_PLACE + crc32(self._instances.template) * _MAX_PLACES
            is_free = any(try_byte(table, first + at) for at in _places(self._limit))
        return None if is_free else "max-sessions"

    def is_crowded(self) -> bool:
        """Return True if there are more instances than sessions may be."""
        return self._instances.count() > self._limit

    def release(self, peer: Peer, app: Application, user: str = "") -> None:
        """Do nothing: the place is free once the process has ended."""

    def retry_after(self, cause: str) -> int:
        """Return the seconds after which a client may try again."""
        return RETRY_AFTER


def _places(limit: int) -> Iterator[int]:
    """Yield all places, in an order that finds a low free one among many soon."""
    yield from range(min(limit, _TRIED_IN_ORDER))
    end = _TRIED_IN_ORDER
    while end < limit:
        end = min(2 * end, limit)
        for _ in range(_TRIED_AT_RANDOM):
            yield int.from_bytes(os.urandom(4), "little") % end
    yield from range(_TRIED_IN_ORDER, limit)


class CrowdGuard:
    """Ends a bridge without a session while its template has too many instances.

    Args:
        context: of the one connection.
        admission: tells whether there are too many.
    """

    __slots__ = ("_admission", "_context", "_wait", "armed", "deadline")

    def __init__(self, context: SessionContext, admission: TemplateAdmission) -> None:
        self._context = context
        self._admission = admission
        self._wait = MIN_WAIT
        self.armed = 0
        self.deadline = NEVER
        context.loop.set_timer(self, context.loop.now + MIN_WAIT)

    def on_timer(self, now: float) -> None:
        """Called after each wait, which doubles: counting many units takes a while."""
        context = self._context
        waiting, ending = [*context.handshakes], [*context.responses]
        if not (waiting or ending):
            return  # a session, or over
        if not self._admission.is_crowded():
            self._wait *= 2
            context.loop.set_timer(self, now + self._wait)
            return
        for entry in waiting:
            entry.connection.expire()
        for entry in ending:
            entry.connection.abort()

    def on_error(self, error: Exception) -> None:
        """Called with an internal error. Writes it to the log."""
        self._context.log_internal_error(error, part="the admission")


def prepare_process(config: Config, session_id: str) -> TemplateAdmission | None:
    """Switch to a free user and prepare the admission, as the options ask.

    Args:
        config: The options of the command line.
        session_id: The id of this bridge's session.

    Returns:
        The admission, or None without --max-sessions.

    Raises:
        SystemExit: One of them failed. The reason is on standard error.
    """
    table = None
    try:
        if config.user_range is not None:
            secrets = credentials.read_credentials()
            user = users.switch_to_free_user(*config.user_range)
            if former := user.record_session(session_id):
                from chimirror.host import runtime_dir

                runtime_dir.remove_session_files(former)
            credentials.write_credentials(secrets)
            table = user.fd
        if config.max_sessions is not None:
            instances = cgroup.TemplateInstances()
            return TemplateAdmission(instances, config.max_sessions, table)
    except users.NoFreeUser:
        _fail("every user of --user-range is taken", os.EX_TEMPFAIL)
    except cgroup.NotATemplateUnit:
        _fail(
            "--max-sessions counts instances of a systemd template; this is none",
            os.EX_USAGE,
        )
    except OSError as error:
        text, status = describe_os_error(error)
        _fail(f"--user-range: {text}", status)
    return None


def _fail(text: str, status: int) -> NoReturn:
    fail(f"chimirror-bridge: {text}", status)
