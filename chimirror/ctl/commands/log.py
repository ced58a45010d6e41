"""The verb that prints the journal of one session: log."""

from __future__ import annotations

import os
import time

from chimirror.ctl import discovery, journal, session_info
from chimirror.ctl.journal import (
    ABOUT_INVOCATION,
    INVOCATION,
    PID,
    SENDER,
    SESSION,
    SYSTEMD_PID,
    TIMESTAMP,
    JournalReader,
)
from chimirror.ctl.messages import CommandError
from chimirror.ctl.record_verifier import RecordVerifier
from chimirror.log.records import APPLICATION_OUTPUT, SESSION_ENDED
from chimirror.text import printable, short_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from chimirror.ctl.journal import Record
    from chimirror.ctl.output import OutputWriter
    from chimirror.ctl.paths import HostPaths
    from chimirror.ctl.usage import CommandLine

FIELDS = (
    "MESSAGE",
    "MESSAGE_ID",
    "SYSLOG_IDENTIFIER",
    "_COMM",
    ABOUT_INVOCATION,
    *SENDER,
)


def log(given: CommandLine, host: HostPaths, output: OutputWriter) -> int:
    """Print the records of a session, and with --follow those that come."""
    (text,) = given.ids
    with JournalReader(host) as reader, JournalReader(host) as other:
        identity = _session_id(text, host, reader)
        session_log = SessionLog(identity, RecordVerifier(other))
        session_log.print(reader.session_records(identity, FIELDS), output)
        while "--follow" in given and not session_log.has_ended:
            reader.wait()
            session_log.print(reader.next_records(FIELDS), output)
    return os.EX_OK


def _session_id(text: str, host: HostPaths, reader: JournalReader) -> str:
    """Return the id of the session with this prefix, live or in the journal."""
    live = {session.id for session in discovery.discover(host).sessions}
    identity = session_info.match_id(text, live | reader.session_ids())
    if identity is None:
        prefix = session_info.parse_prefix(text)
        missing = f"no session {prefix}, neither live nor in the journal"
        raise CommandError(os.EX_NOINPUT, missing)
    return identity


class SessionLog:
    """Records of one session, without those that other sessions wrote about it.

    Args:
        session: Its id.
        verifier: Verifier of records.

    Attributes:
        has_ended: Whether the last record of the session has been printed.
    """

    def __init__(self, session: str, verifier: RecordVerifier) -> None:
        self._session = session
        self._verifier = verifier
        self.has_ended = False

    def print(self, records: Iterable[Record], output: OutputWriter) -> None:
        """Print the records that belong to the session."""
        self._verifier.forget()
        for record in records:
            is_systemd, is_genuine = self._is_systemd(record), self._is_genuine(record)
            if is_systemd or is_genuine or record.get(INVOCATION) == self._session:
                output.write(line(record))
            kind = record.get("MESSAGE_ID")
            if (is_genuine and kind == SESSION_ENDED) or (
                is_systemd and kind in (journal.UNIT_FAILED, journal.UNIT_SUCCEEDED)
            ):
                self.has_ended = True

    def _is_systemd(self, record: Record) -> bool:
        """Return True for a record of systemd about the unit of the session."""
        about = record.get(ABOUT_INVOCATION)
        return record.get(PID) == SYSTEMD_PID and about == self._session

    def _is_genuine(self, record: Record) -> bool:
        """Return True for a record of chimirror about the session."""
        is_about = record.get(SESSION) == self._session
        return is_about and self._verifier.is_genuine(record)


def line(record: Record) -> str:
    """Format a record as journalctl(1) does."""
    seconds = int(record[TIMESTAMP]) / 1e6
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    sender = record.get("SYSLOG_IDENTIFIER") or record.get("_COMM", "unknown")
    pid = record.get("_PID", "")
    # Further lines of a message are indented, so that none looks like a record.
    message = record.get("MESSAGE", "")
    if record.get("MESSAGE_ID") == APPLICATION_OUTPUT:
        message = message.removeprefix(short_id(record.get(SESSION, "")) + ": ")
    text = printable(message.rstrip(), "\n").replace("\n", "\n    ")
    return f"{stamp} {printable(sender)}{f'[{pid}]' if pid else ''}: {text}\n"
