"""Kills a zygote that hangs in a start, for example on a file system without an answer.

All starts wait for a zygote that hangs, and the watchdog of the service manager would
end all sessions. The next zygote does not get the start that hung. Knows no processes.
"""

from __future__ import annotations

from chimirror.io.loop import NEVER, FatalErrorHandler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from chimirror.io.loop import EventLoop
    from chimirror.spawn.start_marks import StartMarks

START_TIMEOUT = 10.0  # seconds for one start
CHECK_INTERVAL = 5.0  # seconds


class ZygoteGuard(FatalErrorHandler):
    """The timer of the supervisor that looks at the start in progress.

    Args:
        loop: event loop of the supervisor.
        marks: has the time at which the start in progress began.
        kill: called with the reason to kill the zygote.
    """

    def __init__(
        self, loop: EventLoop, marks: StartMarks, kill: Callable[[str], None]
    ) -> None:
        self._loop = loop
        self._marks = marks
        self._kill = kill
        self._is_killed = False  # not again: it may take the kernel long
        self.armed = 0
        self.deadline = NEVER

    def enable(self) -> None:
        """Begin to look."""
        self._loop.set_timer(self, self._loop.now + CHECK_INTERVAL)

    def disable(self) -> None:
        """Look no more."""
        self._loop.cancel_timer(self)

    def on_timer(self, now: float) -> None:
        """Called at intervals. Kills a zygote whose start takes too long."""
        is_stuck = self._marks.seconds_busy(self._loop.clock()) > START_TIMEOUT
        if is_stuck and not self._is_killed:
            self._kill(f"it has hung in a start for {START_TIMEOUT:g} s")
        self._is_killed = is_stuck
        self.enable()
