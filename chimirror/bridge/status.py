"""Publishes the status of a bridge in a file and in `systemctl status`.

Written if it has changed, at most once a second. The interval grows while the session
is idle, so that the process sleeps. Nothing is written before the first tick after the
101 response. The service manager hears nothing of a session that lasts less than a
second, because a notification costs an import and wakes process 1. sd_notify(3).
"""

from __future__ import annotations

from _json import encode_basestring_ascii

from chimirror.builtin_modules import environ_dict, os
from chimirror.host import runtime_dir
from chimirror.io.loop import NEVER
from chimirror.session import summary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.session import SessionContext, SessionEntry

MIN_INTERVAL, MAX_INTERVAL = 1.0, 10.0  # seconds between two checks
NOTIFY_INTERVAL = 10.0  # minimum seconds between two notifications


class StatusReporter:
    """Publisher of the status of a bridge's session, to be removed with it."""

    def __init__(self, context: SessionContext, session: SessionEntry) -> None:
        self._context = context
        self._session = session
        self._file = self._create()
        self._counters: tuple[object, ...] = ()
        self._interval = 0.0
        self._last_text = ""
        self._next_notify = context.loop.now + MIN_INTERVAL
        self.armed = 0
        self.deadline = NEVER
        context.loop.set_timer(self, context.loop.now)

    def _create(self) -> StatusFile | None:
        directory = runtime_dir.sessions(environ_dict(), os.geteuid())
        if directory is None:
            return None
        path = f"{directory}/{self._session.session_id}"
        try:
            with runtime_dir.SavedGroup():
                return StatusFile(path)
        except OSError:
            return None  # not set up, or no permission: the session has no file

    def on_timer(self, now: float) -> None:
        """Called at the end of each interval; writes the status if it has changed."""
        session = self._session
        counters = (
            session.connection.state,
            session.bytes_in,
            session.bytes_out,
            session.messages_in,
            session.messages_out,
        )
        if counters != self._counters:
            self._counters = counters
            self._interval = MIN_INTERVAL
            if self._file is not None:
                self._file.write(_line(summary.summarize(self._context, session)))
        else:
            self._interval = min(2 * self._interval, MAX_INTERVAL)
        if now >= self._next_notify:
            self._notify(now)
        self._context.loop.set_timer(self, now + self._interval)

    def _notify(self, now: float) -> None:
        from chimirror.host import sd_notify

        text = summary.status_line(summary.summarize(self._context, self._session))
        if text != self._last_text:
            self._last_text = text
            self._next_notify = now + NOTIFY_INTERVAL
            sd_notify.notify(f"STATUS={text}")

    def remove(self) -> None:
        """Stop the timer and remove the file. Called when the session has ended."""
        self._context.loop.cancel_timer(self)
        if self._file is not None:
            with runtime_dir.SavedGroup():
                self._file.remove()

    def on_error(self, error: Exception) -> None:
        """Called on an internal error; logs it, and the session goes on."""
        session = self._session
        self._context.log_internal_error(error, session.session_id, session.user)


def _line(values: dict[str, str | int]) -> bytes:
    """Write a JSON object on one line, without orjson: its import takes 35 ms."""
    members = [f'"{name}":{_json(value)}' for name, value in values.items()]
    return ("{" + ",".join(members) + "}\n").encode()


def _json(value: str | int) -> str:
    return str(value) if isinstance(value, int) else encode_basestring_ascii(value)


class StatusFile:
    """A new file that holds one line.

    Args:
        path: The path, in a directory that this process can write to.

    Raises:
        OSError: The file cannot be made.
    """

    __slots__ = ("_fd", "_path")

    def __init__(self, path: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o600)
        self._path = path

    def write(self, line: bytes) -> None:
        """Replace the content. Half a line is no status, so it is not left there."""
        try:
            written = os.pwrite(self._fd, line, 0)
            os.ftruncate(self._fd, written if written == len(line) else 0)
        except OSError:
            pass  # no space: the session does not depend on it

    def remove(self) -> None:
        """Close and remove the file."""
        os.close(self._fd)
        try:
            os.unlink(self._path)
        except OSError:
            pass  # already removed
