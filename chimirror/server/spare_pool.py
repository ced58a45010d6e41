"""The spares of one application in one worker, and what they were started with.

Guarantees: no spare outlives a change of the options or of the files that it was
started with, once the change is known. Starts nothing itself.
"""

from __future__ import annotations

from collections import deque

from chimirror.builtin_modules import environ_dict
from chimirror.io.loop import NEVER
from chimirror.server.program_files import ProgramFiles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from chimirror.apps import Application
    from chimirror.server.spare import Spare
    from chimirror.server.spare_table import SpareTable

MAX_FAILURES = 3  # spares in a row that end by themselves
# Seconds after the first and the second of them. After the third there are no more.
BACK_OFF = (1.0, 5.0)
SHORTAGE_PAUSE = 5.0  # seconds after a start that lacked processes or descriptors


class SparePool:
    """The spares of one application.

    Args:
        app: the application.
        table: says how many workers share its spares, and whether they are off.

    Attributes:
        app: as given, or a later one with the same options.
        size: number of spares that this worker keeps.
        ready: spares that wait, the oldest first.
        next_start: no spare is started before this time.
        is_off: it gets no more spares.
    """

    __slots__ = (
        "_failures",
        "_files",
        "_identity",
        "app",
        "is_off",
        "key",
        "next_start",
        "ready",
        "size",
    )

    def __init__(self, app: Application, table: SpareTable) -> None:
        self.app = app
        self.size = -(-app.config.spares // table.workers)
        self.ready: deque[Spare] = deque()
        self._identity = _identity(app)
        self._files = ProgramFiles(app.program, environ_dict().get("PATH"))
        words = (app.name, self._files.signature, self._identity)
        self.key = hash(repr(words)) & 0x7FFF_FFFF_FFFF_FFFF or 1
        self._failures = 0
        self.next_start = 0.0
        self.is_off = False

    def matches(self, app: Application) -> bool:
        """Return True if spares of this pool can serve an application."""
        return app is self.app or _identity(app) == self._identity

    def have_files_changed(self) -> bool:
        """Return True if the files of the program are not those of this pool."""
        return self._files.have_changed()

    @property
    def keeps_stderr(self) -> bool:
        """Whether standard error is a pipe, as in sessions of the application."""
        config = self.app.config
        return config.stderr != "discard" and not config.pty

    @property
    def lacks_spares(self) -> bool:
        """Whether there are fewer spares than there should be."""
        return len(self.ready) < self.size and not self.is_off

    def on_taken(self) -> None:
        """Called when a client has got a spare: the next failure is the first."""
        self._failures = 0

    def on_shortage(self, now: float) -> None:
        """Called when a start has failed for lack of resources."""
        self.next_start = now + SHORTAGE_PAUSE

    def on_failure(self, now: float) -> bool:
        """Called when a spare has ended by itself, or could not be started.

        Returns:
            True if this application shall get no more spares.
        """
        self._failures += 1
        if self._failures < MAX_FAILURES:
            self.next_start = now + BACK_OFF[self._failures - 1]
        return self._failures >= MAX_FAILURES

    def expires_at(self) -> float:
        """Return the time at which the oldest spare is too old."""
        age = self.app.config.spare_age
        if age is None or not self.ready:
            return NEVER
        return self.ready[0].born_at + age


def _identity(app: Application) -> tuple[Any, ...]:
    """Return everything that a process of an application is started with."""
    program, config = app.program, app.config
    return (
        program.argv,
        program.directory,
        program.pty,
        program.control,
        program.user_ids,
        program.limits,
        app.environment,
        config.stderr == "discard",
        config.spares,
    )
