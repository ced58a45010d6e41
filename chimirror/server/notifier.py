"""Reports the state of the server to the service manager.

Sends readiness, status, watchdog messages and the stop of the server (sd_notify(3),
sd_watchdog_enabled(3)). A watchdog message is sent only while the event loops of all
workers and of the zygote run. Does nothing without a service manager. Knows numbers of
processes and sessions, but no process and no session.
"""

from __future__ import annotations

from chimirror.host import sd_notify
from chimirror.io.loop import NEVER, FatalErrorHandler
from chimirror.server.heartbeat import HeartbeatTable
from chimirror.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chimirror.io.loop import EventLoop

INTERVAL = 10.0  # maximum seconds between two checks
# seconds by which each check during the stop extends the timeout of the stop
STOP_EXTENSION = 2 * INTERVAL


class ServiceNotifier(FatalErrorHandler):
    """Sends messages to the service manager from a timer of the supervisor.

    Args:
        loop: event loop of the supervisor.
        environ: environment of the supervisor.
        pid: process id of the supervisor.
        processes: number of workers plus one for the zygote.
        count_sessions: returns the number of live sessions.
        is_draining: returns True while new sessions are rejected.

    Attributes:
        heartbeat: heartbeats of the processes. None if the service manager runs no
            watchdog.
    """

    def __init__(
        self,
        loop: EventLoop,
        environ: Mapping[str, str],
        pid: int,
        processes: int,
        count_sessions: Callable[[], int],
        is_draining: Callable[[], bool],
    ) -> None:
        self._loop = loop
        self._is_draining = is_draining
        self._count_sessions = count_sessions
        self._enabled = bool(environ.get("NOTIFY_SOCKET"))
        self._stopping = False
        self._last_text = ""
        self.armed = 0
        self.deadline = NEVER
        self.heartbeat: HeartbeatTable | None = None
        usec = environ.get("WATCHDOG_USEC", "")
        if usec.isdigit() and environ.get("WATCHDOG_PID", str(pid)) == str(pid):
            self.heartbeat = HeartbeatTable(processes, int(usec) / 1e6)
        self._interval = min(
            INTERVAL, self.heartbeat.interval / 2 if self.heartbeat else NEVER
        )

    def ready(self) -> None:
        """Report that the server accepts connections."""
        sd_notify.notify("READY=1")
        self.on_timer(self._loop.now)

    def stopping(self) -> None:
        """Report that the server stops and, from then on, that it needs more time.

        Draining may take longer than the stop timeout of the service manager.
        """
        self._stopping = True
        sd_notify.notify("STOPPING=1")
        self.on_timer(self._loop.now)

    def on_timer(self, now: float) -> None:
        """Called when a check is due. Sends watchdog, status and extension."""
        if not self._enabled:
            return
        lines = []
        if self._stopping:
            lines.append(f"EXTEND_TIMEOUT_USEC={int(STOP_EXTENSION * 1e6)}")
        if self.heartbeat is not None and not self.heartbeat.stale(self._loop.clock()):
            lines.append("WATCHDOG=1")
        sessions = self._count_sessions()
        text = counted(sessions, "live session")
        if self._stopping or self._is_draining():
            text = f"draining: {text}"
        if text != self._last_text:
            self._last_text = text
            lines.append(f"STATUS={text}")
        if lines:
            sd_notify.notify("\n".join(lines))
        self._loop.set_timer(self, now + self._interval)

    def clear_heartbeat(self, number: int) -> None:
        """Clear the heartbeat of a process that has ended: it is not stuck."""
        if self.heartbeat is not None:
            self.heartbeat.beat(number, 0.0)

    def close(self) -> None:
        """Stop the checks."""
        self._loop.cancel_timer(self)
