"""One bridge among many: how many there may be, and a user that is its own.

Loaded where --max-sessions or --user-range asks for it, before a byte of the client is
read. Under systemd each session is a unit; what they know of each other is that they
stand beside each other (system.cgroup) and which users are taken (system.users).
"""

from __future__ import annotations

import sys

from chimirror.service import complain, explain
from chimirror.system import cgroup, credentials, users
from chimirror.system.lean import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.apps import App
    from chimirror.options import Config
    from chimirror.service import Peer

ROOM_AGAIN = 5  # seconds; when a session ends is not ours to know


class Crowd:
    """The admission of one session among the units of its template.

    All of them are counted, also those that have not got as far as we have: of two
    that come at once for the last place, both may be refused, and never both let in.
    """

    __slots__ = ("_limit", "_siblings")

    def __init__(self, siblings: cgroup.Siblings, limit: int) -> None:
        self._siblings = siblings
        self._limit = limit

    def enter(self, peer: Peer, app: App) -> str | None:
        """Whether there is room for us."""
        return "max-sessions" if self._siblings.count() > self._limit else None

    def leave(self, peer: Peer, app: App) -> None:
        """Our unit goes by itself."""

    def retry_after(self, cause: str) -> int:
        """Seconds after which asking again may help."""
        return ROOM_AGAIN


def join(config: Config, session: str) -> Crowd | None:
    """Become a user of our own and find out who is beside us, as the options ask.

    Args:
        session: what ours is called.

    Raises:
        SystemExit: it cannot be done; why is on standard error.
    """
    try:
        if config.user_range is not None:
            secrets = credentials.read()
            user = users.become_one_of(*config.user_range)
            if former := user.sign(session):
                from chimirror.system import runtime

                runtime.forget(former)
            credentials.hand_down(secrets)
        if config.max_sessions is not None:
            return Crowd(cgroup.Siblings(), config.max_sessions)
    except users.NoUser:
        text, status = "every user of --user-range is taken", os.EX_TEMPFAIL
    except cgroup.NoTemplate:
        text = "--max-sessions counts instances of a systemd template; this is none"
        status = os.EX_USAGE
    except OSError as error:
        text, status = explain(error)
        text = f"--user-range: {text}"
    else:
        return None
    sys.exit(complain(f"chimirror-bridge: {text}", status))
