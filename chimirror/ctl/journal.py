"""Reads selected records of the systemd journal, with systemd-python.

Matches on MESSAGE_ID use the index of the journal, and only the requested fields of a
record are copied. Follows systemd.journal-fields(7) and sd_journal(3).
"""

from __future__ import annotations

import os
import select
from glob import glob
from importlib import import_module

from chimirror.ctl.messages import CommandError
from chimirror.host import runtime_dir
from chimirror.log.records import MESSAGE, REFUSED, SESSION_ENDED, SESSION_STARTED
from chimirror.log.serving import SERVING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from chimirror.ctl.paths import HostPaths

    Record = dict[str, str]

# Records of systemd about a unit: the exit of its main process, and its result.
PROCESS_EXIT = "98e322203f7a4ed290d09fe03c09fe15"
UNIT_FAILED = "d9b373ed55a64feb8242e02dbe79a49c"
UNIT_SUCCEEDED = "7ad2d189f7e94e70a38c781354912448"
TIMESTAMP = "__REALTIME_TIMESTAMP"  # microseconds since 1970
CURSOR = "__CURSOR"
SESSION = "CHIMIRROR_SESSION"
# Fields that the journal adds: the sender of a record. A sender cannot set them.
PID = "_PID"
BOOT = "_BOOT_ID"
INVOCATION = "_SYSTEMD_INVOCATION_ID"
UNIT = "_SYSTEMD_UNIT"
USER_UNIT = "_SYSTEMD_USER_UNIT"
SENDER = (SESSION, PID, BOOT, INVOCATION, UNIT, USER_UNIT)
ABOUT_INVOCATION = "INVOCATION_ID"  # in records of systemd about a unit
SYSTEMD_PID = "1"
WORKER = "CHIMIRROR_WORKER"  # pid of a worker, in records of its supervisor
SUPERVISOR = "CHIMIRROR_SUPERVISOR"  # pid of a supervisor, in its first record
EXIT = "CHIMIRROR_EXIT"


class JournalReader:
    """An open journal.

    Raises:
        CommandError: There is no journal, this user may not read it, or systemd-python
            is missing.
    """

    def __init__(self, host: HostPaths) -> None:
        _require_readable(host)
        self._reader = _reader_class()()

    def __enter__(self) -> JournalReader:
        return self

    def __exit__(self, *error: object) -> None:
        self._reader.close()

    def backwards(
        self, message_ids: Sequence[str], wanted: Sequence[str], since: int = 0
    ) -> Iterator[Record]:
        """Iterate over records with these MESSAGE_IDs, the newest first.

        Args:
            message_ids: The MESSAGE_IDs.
            wanted: The fields to copy.
            since: Microseconds since 1970.
        """
        self._reader.flush_matches()
        for message_id in message_ids:
            self._reader.add_match(MESSAGE_ID=message_id)
        self._reader.seek_tail()
        while (record := self._reader.previous(wanted)) is not None:
            if int(record[TIMESTAMP]) < since:
                return
            yield record

    def forwards(
        self, message_ids: Sequence[str], wanted: Sequence[str], cursor: str = ""
    ) -> Iterator[Record]:
        """Iterate over records with these MESSAGE_IDs, the oldest first.

        Args:
            message_ids: The MESSAGE_IDs.
            wanted: The fields to copy.
            cursor: The CURSOR of a record: only later ones follow. If the journal has
                lost it, those that would follow it.

        Yields:
            Each record with its CURSOR.
        """
        self._match(message_ids, {})
        if cursor:
            self._reader.seek_cursor(cursor)
        while (record := self._reader.following(wanted)) is not None:
            # After seek_cursor() the record of the cursor comes first.
            if not (cursor and self._reader.test_cursor(cursor)):
                yield record | {CURSOR: self._reader.cursor()}

    def unit_records(self, identity: str) -> list[Record]:
        """Return the records of systemd about an invocation, the oldest first."""
        wanted = ("MESSAGE_ID", "UNIT_RESULT", "EXIT_CODE", "EXIT_STATUS")
        ids = (PROCESS_EXIT, UNIT_FAILED, UNIT_SUCCEEDED)
        match = {ABOUT_INVOCATION: identity, PID: SYSTEMD_PID}
        return self._matching(ids, match, wanted)

    def worker_ends(self, invocation: str, pid: str) -> list[Record]:
        """Return the records in a unit about workers with this pid, oldest first.

        PID is the process that wrote the record, which has to be the supervisor.
        """
        match = {INVOCATION: invocation, WORKER: pid}
        return self._matching((MESSAGE,), match, (PID, EXIT))

    def serving(self, invocation: str) -> list[Record]:
        """Return the records that name serving processes of a unit, oldest first.

        Returns none if a record of a session is older. The journal has lost its oldest
        records then, and an application may have written the others.
        """
        match = {INVOCATION: invocation}
        wanted = (*SENDER, SUPERVISOR, WORKER)
        found = self._matching((SERVING,), match, wanted)
        if found:
            self._match((SERVING, SESSION_STARTED, SESSION_ENDED, REFUSED), match)
            first = next(self.next_records(("MESSAGE_ID",)), {})
            if first.get("MESSAGE_ID") != SERVING:
                return []
        return found

    def session_starts(self, session: str) -> list[Record]:
        """Return the records that claim the start of a session, oldest first."""
        return self._matching((SESSION_STARTED,), {SESSION: session}, SENDER)

    def _matching(
        self, message_ids: Sequence[str], match: dict[str, str], wanted: Sequence[str]
    ) -> list[Record]:
        self._match(message_ids, match)
        return list(self.next_records(wanted))

    def _match(self, message_ids: Sequence[str], match: dict[str, str]) -> None:
        """Select records, and go before the oldest of them."""
        self._reader.flush_matches()
        for message_id in message_ids:
            self._reader.add_match(MESSAGE_ID=message_id)
        for name, value in match.items():
            self._reader.add_match(f"{name}={value}")
        self._reader.seek_head()

    def session_ids(self) -> set[str]:
        """Return the ids of all sessions in the index of the journal."""
        found = {str(session) for session in self._reader.query_unique(SESSION)}
        return set(filter(runtime_dir.is_session, found))

    def session_records(self, identity: str, wanted: Sequence[str]) -> Iterator[Record]:
        """Iterate over all records about a session or its unit, the oldest first.

        Any process may have written them.

        The iterator ends with the last record. next_records() continues from there.
        """
        self._reader.flush_matches()
        self._reader.fileno()  # opens the inotify watch: no later record is missed
        for index, name in enumerate((SESSION, INVOCATION, ABOUT_INVOCATION)):
            if index:
                self._reader.add_disjunction()
            self._reader.add_match(f"{name}={identity}")
        self._reader.seek_head()
        return self.next_records(wanted)

    def next_records(self, wanted: Sequence[str]) -> Iterator[Record]:
        """Iterate over the records that follow the current one."""
        while (record := self._reader.following(wanted)) is not None:
            yield record

    def wait(self) -> None:
        """Wait until a record is added.

        Ctrl-C ends the wait, which it does not in sd_journal_wait(3).
        """
        poll = select.poll()
        poll.register(self._reader.fileno(), self._reader.get_events())
        poll.poll(self._reader.get_timeout_ms())
        self._reader.process()


def _reader_class() -> Any:
    """Return a subclass of the Reader of systemd-python that copies selected fields."""
    try:
        # Imported by name: a type checker mistakes the directory systemd/ for the
        # library.
        library: Any = import_module("systemd.journal").Reader
    except ImportError:
        text = (
            "systemd-python, which reads the journal, is not installed; "
            "install chimirror[journal], or the package python3-systemd"
        )
        raise CommandError(os.EX_UNAVAILABLE, text) from None

    class Reader(library):  # type: ignore[misc]  # it has no types
        """A reader of text fields. Copying whole records takes ten times as long."""

        def previous(self, wanted: Sequence[str]) -> Record | None:
            return self._copied(wanted) if self._previous() else None

        def following(self, wanted: Sequence[str]) -> Record | None:
            return self._copied(wanted) if self._next() else None

        def cursor(self) -> str:
            return str(self._get_cursor())

        def _copied(self, wanted: Sequence[str]) -> Record:
            record = {TIMESTAMP: str(self._get_realtime())}
            for name in wanted:
                try:
                    record[name] = self._get(name).decode("utf-8", "backslashreplace")
                except KeyError:
                    pass
            return record

    return Reader


def _require_readable(host: HostPaths) -> None:
    """Raise CommandError if this user can read no journal."""
    directories = [f"{host.run}/log/journal", f"{host.log}/journal"]
    directories += [
        path for directory in directories for path in glob(f"{directory}/*")
    ]
    # Only the system journal is needed. Journals of users are other files.
    files = [
        path
        for directory in directories
        for path in glob(f"{directory}/system*.journal")
    ]
    if any(os.access(path, os.R_OK) for path in files):
        return
    inaccessible = [path for path in (*files, *directories) if not _is_accessible(path)]
    if inaccessible:
        text = f"{inaccessible[0]}: permission denied; run it as root or in group "
        raise CommandError(os.EX_NOPERM, text + "systemd-journal")
    text = "there is no journal; a server writes its records to its standard error"
    raise CommandError(os.EX_UNAVAILABLE, text)


def _is_accessible(path: str) -> bool:
    """Return whether this user can read a path, or the path does not exist."""
    mode = os.R_OK | (os.X_OK if os.path.isdir(path) else 0)
    return os.access(path, mode) or not os.path.exists(path)
