r"""Records of sessions: written to the journal, or to stderr as text or JSON.

Guarantees: records never contain message data. Nothing here raises or blocks. Text of
a peer is escaped (`\x1b`) and shortened, so that it can forge no line and move no
cursor. systemd.journal-fields(7).

Sessions never wait for the log: a record that finds no room is dropped and counted.
A record of its own then reports the number. Lines of applications do wait.

Knows no WebSocket. The bridge loads this module before its first byte, so it imports
only C modules.
"""

from __future__ import annotations

import time

from chimirror.builtin_modules import environ_dict, os
from chimirror.log import sinks
from chimirror.log.record_writer import FINAL_TIMEOUT, RecordWriter
from chimirror.log.serving import DEBUG, SERVING
from chimirror.text import (
    counted,
    escape,
    escape_name,
    printable,
    short_id,
    shorten,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chimirror.log.output_logger import OutputLogger
    from chimirror.log.rate_limit import RateLimit
    from chimirror.log.record_writer import Loop
    from chimirror.log.sinks import Fields

# Fixed forever: catalogs and `chimirror-ctl history` search for them.
SESSION_STARTED = "f9a6ed4ca8e248cebd8a0c71c9f97faa"
SESSION_ENDED = "064a48bb2f274460b689d473bc586ced"
REFUSED = "95f8fe4526c74907bbb885f7ec4eb1be"
APPLICATION_OUTPUT = "dfc571fafe9b434381fa99fd41446661"
OUTPUT_FOLLOWED = "927097b4b3414e97ac3066d3a145b948"
MESSAGE = "8b08329f43e842fc9cb5365337435c7a"

WARNING, NOTICE, INFO = 4, 5, 6  # syslog(3)
MAX_MESSAGE = 16384  # characters: a traceback fits, and a datagram takes it
# Rejections recorded per period (seconds). A flood of requests must not become a
# flood of records.
MAX_REJECTIONS, REJECTION_PERIOD = 20, 10.0


class EventLog(RecordWriter):
    """Writer of the records of one process.

    Args:
        log_format: `auto`, `text` or `json`.
        stderr_was_connection: True if descriptor 2 was the connection (inetd). Then
            only the journal can be used.
        environ: environment of this process, for JOURNAL_STREAM.
        clock: monotonic time in seconds.
    """

    __slots__ = ("_limits", "_names_processes", "_rejections")

    def __init__(
        self,
        log_format: str = sinks.AUTO,
        *,
        stderr_was_connection: bool = False,
        environ: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        environ = environ_dict() if environ is None else environ
        found = sinks.format_of(2, log_format, environ)
        if stderr_was_connection:
            found = sinks.NATIVE
        super().__init__(sinks.open_sink(found), clock)
        is_unit = environ.get("SYSTEMD_EXEC_PID") == str(os.getpid())
        self._names_processes = is_unit and isinstance(self._sink, sinks.JournalSink)
        self._limits: list[RateLimit] = []
        self._rejections: RateLimit | None = None

    def attach(self, loop: Loop) -> None:
        """Write from this loop. What the parent has counted stays with the parent."""
        super().attach(loop)
        self._limits, self._rejections = [], None

    def finish(self, timeout: float = FINAL_TIMEOUT) -> None:
        """Report what was suppressed, and write everything before the exit."""
        for limit in self._limits:
            limit.finish()
        super().finish(timeout)

    def session_started(
        self,
        session: str,
        peer: str,
        command: str,
        path: str,
        origin: str,
        framing: str,
        start_usec: int,
        application: str = "",
        user: str = "",
        trace: str = "",
    ) -> None:
        """Record that the application of a session has started.

        Args:
            session: its id.
            peer: address of the client.
            command: command line of the application.
            path: path of the request.
            origin: Origin of the request, "" without one.
            framing: name of the framing.
            start_usec: microseconds from the request to the running application.
            application: name of the application, if it has one.
            user: name of the client, if it is known.
            trace: the traceparent of the request, if it has one.
        """
        peer, command, user = escape(peer), escape(command), escape_name(user)
        self._append(
            SESSION_STARTED,
            INFO,
            f"{session_name(session, user)} for {peer} started: {command}",
            [
                ("CHIMIRROR_SESSION", session),
                ("CHIMIRROR_PEER", peer),
                ("CHIMIRROR_USER", user),
                ("CHIMIRROR_COMMAND", command),
                ("CHIMIRROR_APPLICATION", application),
                ("CHIMIRROR_PATH", escape(path)),
                ("CHIMIRROR_ORIGIN", escape(origin)),
                ("CHIMIRROR_FRAMING", escape(framing)),
                ("CHIMIRROR_START_USEC", str(start_usec)),
                ("CHIMIRROR_TRACEPARENT", escape(trace)),
            ],
        )

    def start_failed(self, session: str, reason: str, user: str = "") -> None:
        """Record why the application of a session could not be started."""
        user = escape_name(user)
        text = f"{session_name(session, user)}: cannot start the application: {reason}"
        self.message(3, text, session=session, user=user)

    def session_ended(
        self,
        session: str,
        peer: str,
        command: str,
        bytes_in: int,
        bytes_out: int,
        messages_in: int,
        messages_out: int,
        exit: str,  # noqa: A002  # the name of its field
        reason: str,
        duration_usec: int,
        application: str = "",
        user: str = "",
        output: OutputLogger | None = None,
        trace: str = "",
    ) -> None:
        """Record that a session has ended completely, after its last line of output.

        Args:
            session: its id.
            peer: address of the client.
            command: command line of the application.
            bytes_in, bytes_out: bytes of messages from and to the client.
            messages_in, messages_out: number of messages from and to the client.
            exit: how the application ended, such as `exit 0`.
            reason: the reason of the close frame, in which data are escaped.
            duration_usec: microseconds since the handshake.
            application: name of the application, if it has one.
            user: name of the client, if it is known.
            output: its output, if some went to the log.
            trace: the traceparent of the request, if it has one.
        """
        # An escaped part of the reason is not escaped again.
        peer, user, reason = escape(peer), escape_name(user), shorten(printable(reason))
        text = f"{session_name(session, user)} for {peer} ended after "
        text += f"{duration_usec / 1e6:.1f} s: {reason}"
        fields = [
            ("CHIMIRROR_SESSION", session),
            ("CHIMIRROR_PEER", peer),
            ("CHIMIRROR_USER", user),
            ("CHIMIRROR_COMMAND", escape(command)),
            ("CHIMIRROR_APPLICATION", application),
            ("CHIMIRROR_BYTES_IN", str(bytes_in)),
            ("CHIMIRROR_BYTES_OUT", str(bytes_out)),
            ("CHIMIRROR_MESSAGES_IN", str(messages_in)),
            ("CHIMIRROR_MESSAGES_OUT", str(messages_out)),
            ("CHIMIRROR_EXIT", escape(exit)),
            ("CHIMIRROR_REASON", reason),
            ("CHIMIRROR_DURATION_USEC", str(duration_usec)),
            ("CHIMIRROR_TRACEPARENT", escape(trace)),
        ]

        def encode(dropped: int) -> bytes:
            if not dropped:
                return self._encode(SESSION_ENDED, INFO, text, fields)
            all_fields = [*fields, ("CHIMIRROR_DROPPED", str(dropped))]
            message = f"{text} ({counted(dropped, 'line')} dropped)"
            return self._encode(SESSION_ENDED, INFO, message, all_fields)

        self.append_after_output(output, encode)

    def request_rejected(
        self,
        peer: str,
        path: str | bytes,
        status: int,
        cause: str,
        detail: str,
        user: str = "",
    ) -> None:
        """Record a rejected request. In a flood, only the first few and a count.

        Args:
            peer: address of the client.
            path: path of the request, without its query. Empty if none was read.
            status: HTTP status of the response.
            cause: short fixed word.
            detail: the reason, one line.
            user: name of the client, if it is known.
        """
        if self._rejections is None:
            report = self._report_rejections
            self._rejections = self.limit(MAX_REJECTIONS, REJECTION_PERIOD, report)
        if not self._rejections.allows(cause):
            return
        peer, shown_path = escape(peer), escape(path)
        cause, detail, user = escape(cause), escape(detail), escape_name(user)
        # The address comes first: log watchers look for it there.
        place = _of(user) + (f" {shown_path}" if shown_path else "")
        self._append(
            REFUSED,
            NOTICE,
            f"refused {peer}{place}: {status} {cause}: {detail}",
            [
                ("CHIMIRROR_PEER", peer),
                ("CHIMIRROR_USER", user),
                ("CHIMIRROR_PATH", shown_path),
                ("CHIMIRROR_STATUS", str(status)),
                ("CHIMIRROR_CAUSE", cause),
                ("CHIMIRROR_DETAIL", detail),
            ],
        )

    def _report_rejections(self, cause: str, count: int) -> None:
        """Record how many more requests were rejected in the period that has ended."""
        requests = counted(count, "more request")
        cause = escape(cause)
        self._append(
            REFUSED,
            NOTICE,
            f"refused {requests} within {REJECTION_PERIOD:g} s: {cause}",
            [("CHIMIRROR_CAUSE", cause), ("CHIMIRROR_SUPPRESSED", str(count))],
        )

    def limit(
        self, limit: int, period: float, report: Callable[[str, int], None]
    ) -> RateLimit:
        """Return a limit on records of one kind, as RateLimit describes.

        Its last counts are reported before the process exits.
        """
        from chimirror.log.rate_limit import RateLimit

        made = RateLimit(limit, period, report, self._clock, self._loop)
        self._limits.append(made)
        return made

    def server_started(self) -> None:
        """Record that this process is a supervisor, before any application exists.

        Nothing is recorded unless it is the main process of a unit with a journal.
        """
        if self._names_processes:
            pid = str(os.getpid())
            text = f"supervisor (pid {pid}) serves sessions"
            self._append(SERVING, DEBUG, text, [("CHIMIRROR_SUPERVISOR", pid)])
            self._write_some()

    def worker_started(self, number: int, pid: int) -> None:
        """Record that a child of this process serves sessions."""
        if self._names_processes:
            text = f"worker {number} (pid {pid}) serves sessions"
            self._append(SERVING, DEBUG, text, [("CHIMIRROR_WORKER", str(pid))])

    def output_followed(self, session: str, uid: int, user: str = "") -> None:
        """Record that a user begins to follow the output of a session.

        Args:
            session: its id.
            uid: user of the control client.
            user: name of the client of the session, if it is known.
        """
        user = escape_name(user)
        text = f"{session_name(session, user)}: uid {uid} follows the output"
        fields = [
            ("CHIMIRROR_SESSION", session),
            ("CHIMIRROR_USER", user),
            ("CHIMIRROR_UID", str(uid)),
        ]
        self._append(OUTPUT_FOLLOWED, NOTICE, text, fields)

    def message(self, priority: int, text: str, **fields: object) -> None:
        """Record any other event of this program.

        Args:
            priority: of syslog(3): 3 is an error, 4 a warning.
            text: one or more lines.
            fields: become CHIMIRROR_<NAME>.
        """
        shown_fields = [
            (f"CHIMIRROR_{name.upper()}", _printable_lines(str(fields[name])))
            for name in fields
        ]
        self._append(MESSAGE, priority, _printable_lines(text), shown_fields)

    def _append(
        self, message_id: str, priority: int, text: str, fields: Fields
    ) -> None:
        self.append(self._encode(message_id, priority, text, fields))

    def _encode(
        self, message_id: str, priority: int, text: str, fields: Fields
    ) -> bytes:
        record = [("MESSAGE", text), *common_fields(message_id, priority)]
        return self._sink.encode([*record, *[field for field in fields if field[1]]])

    def _encode_constant(
        self, output: OutputLogger, stream: str
    ) -> tuple[bytes, bytes]:
        """Encode the parts that all lines of a stream share."""
        session = output.session_id
        fields = [*common_fields(APPLICATION_OUTPUT, INFO), *_session_fields(output)]
        fields.append(("CHIMIRROR_STREAM", stream))
        return self._sink.encode_constant(fields, short_id(session) + ": ")

    def _encode_dropped(self, count: int, output: OutputLogger | None) -> bytes:
        """Encode a record that reports dropped lines of a session, or other records."""
        text, fields = f"dropped {counted(count, 'record')}", []
        if output is not None:
            name = session_name(output.session_id, escape_name(output.user))
            text = f"dropped {counted(count, 'line')} of {name}"
            fields = _session_fields(output)
        text += ": the log did not take them"
        dropped = ("CHIMIRROR_DROPPED", str(count))
        return self._encode(MESSAGE, WARNING, text, [*fields, dropped])


def common_fields(message_id: str, priority: int) -> Fields:
    """Return the fields that all records have besides the message."""
    return [
        ("MESSAGE_ID", message_id),
        ("PRIORITY", str(priority)),
        ("SYSLOG_IDENTIFIER", "chimirror"),
    ]


def _session_fields(output: OutputLogger) -> Fields:
    """Return the fields of records about the output of a session."""
    fields = [("CHIMIRROR_SESSION", output.session_id)]
    return (
        [*fields, ("CHIMIRROR_USER", escape_name(output.user))]
        if output.user
        else fields
    )


def session_name(session: str, user: str) -> str:
    """Return the name of a session in messages.

    Args:
        session: its id.
        user: name of its client, escaped. Empty if it is not known.
    """
    return f"session {short_id(session)}{_of(user)}"


def _of(user: str) -> str:
    return f" of {user}" if user else ""


def _printable_lines(text: str) -> str:
    return printable(text[-MAX_MESSAGE:], "\n")
