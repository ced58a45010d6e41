"""Tells the service manager how a server is: ready, busy, alive, on its way out.

sd_notify(3), sd_watchdog_enabled(3). The watchdog is told that all is well only while
the loop of every worker, and of the zygote, turns. Without a service manager nothing
of it happens.
"""

from __future__ import annotations

from chimirror.system import notify
from chimirror.system.loop import NEVER
from chimirror.system.pulse import Pulse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chimirror.system.loop import Loop

INTERVAL = 10.0  # seconds between two looks, at most
EXTENSION = 2 * INTERVAL  # seconds more to stop in, each time we look


class Herald:
    """See the module.

    Args:
        loop: of the supervisor.
        environ: its environment.
        pid: its number.
        processes: how many workers there are, and one more: the zygote.
        count: asked for the number of live sessions.

    Attributes:
        pulse: of the processes; None where no watchdog waits.
    """

    def __init__(
        self,
        loop: Loop,
        environ: Mapping[str, str],
        pid: int,
        processes: int,
        count: Callable[[], int],
    ) -> None:
        self._loop = loop
        self._count = count
        self._needed = bool(environ.get("NOTIFY_SOCKET"))
        self._stopping = False
        self._told = ""
        self.armed = 0
        self.deadline = NEVER
        self.pulse: Pulse | None = None
        usec = environ.get("WATCHDOG_USEC", "")
        if usec.isdigit() and environ.get("WATCHDOG_PID", str(pid)) == str(pid):
            self.pulse = Pulse(processes, int(usec) / 1e6)
        self._interval = min(INTERVAL, self.pulse.interval / 2 if self.pulse else NEVER)

    def ready(self) -> None:
        """The server accepts connections."""
        notify.tell("READY=1")
        self.on_timer(self._loop.now)

    def stopping(self) -> None:
        """It drains: that may take longer than the manager would wait."""
        self._stopping = True
        notify.tell("STOPPING=1")
        self.on_timer(self._loop.now)

    def on_timer(self, now: float) -> None:
        """Look, and tell."""
        if not self._needed:
            return
        words = []
        if self._stopping:
            words.append(f"EXTEND_TIMEOUT_USEC={int(EXTENSION * 1e6)}")
        if self.pulse is not None and not self.pulse.stuck(self._loop.clock()):
            words.append("WATCHDOG=1")
        sessions = self._count()
        text = f"{sessions} live session{'s' * (sessions != 1)}"
        if self._stopping:
            text = f"draining: {text}"
        if text != self._told:
            self._told = text
            words.append(f"STATUS={text}")
        if words:
            notify.tell("\n".join(words))
        self._loop.arm(self, now + self._interval)

    def forget(self, number: int) -> None:
        """This process has ended, which is not the same as being stuck."""
        if self.pulse is not None:
            self.pulse.beat(number, 0.0)

    def end(self) -> None:
        """There is nobody left to tell of."""
        self._loop.disarm(self)

    def on_event(self, fd: int, events: int) -> None:
        """We watch no descriptor."""

    def on_fault(self, error: Exception) -> None:
        """A bug of ours: sessions do not pay for it."""
        raise error
