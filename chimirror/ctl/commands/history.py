"""The verb that lists ended sessions: history.

Records are read from the newest to the oldest, and only those of chimirror's own
processes count. A start without an end belongs to a live session, or to one that was
killed with its bridge, worker or server. The fields of such an end come from
`lost_sessions`.
"""

from __future__ import annotations

import os
from datetime import datetime

from chimirror.config.quantities import count
from chimirror.ctl import discovery, formats, session_info, timestamps
from chimirror.ctl.commands import sessions
from chimirror.ctl.journal import SENDER, SESSION, TIMESTAMP, JournalReader
from chimirror.ctl.lost_sessions import LostSessionLookup
from chimirror.ctl.messages import CommandError
from chimirror.ctl.output import Column
from chimirror.ctl.record_verifier import RecordVerifier
from chimirror.log.records import SESSION_ENDED, SESSION_STARTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.ctl.journal import Record
    from chimirror.ctl.output import OutputWriter
    from chimirror.ctl.paths import HostPaths
    from chimirror.ctl.usage import CommandLine

    Row = dict[str, object]

# A narrow terminal omits the columns with the highest rank first.
COLUMNS = (
    Column("ended", "ENDED", formats.local_time, short=formats.short_time),
    Column("id", "ID"),
    Column("peer", "PEER"),
    Column("duration", "DURATION", formats.duration, rank=1),
    Column("exit", "EXIT", rank=2),
    Column("reason", "REASON", keep="start", least=18),
    Column("bytes_in", "IN", formats.size, rank=3),
    Column("bytes_out", "OUT", formats.size, rank=3),
    Column("messages_in", "MSG-IN", formats.number, rank=4),
    Column("messages_out", "MSG-OUT", formats.number, rank=4),
    Column("command", "COMMAND", keep="end", least=12),
)
TEXTS = ("PEER", "COMMAND", "APPLICATION", "EXIT", "REASON")
COUNTS = ("BYTES_IN", "BYTES_OUT", "MESSAGES_IN", "MESSAGES_OUT", "DURATION_USEC")
USER = "CHIMIRROR_USER"
REPORTED = (USER, *(f"CHIMIRROR_{name}" for name in (*TEXTS, *COUNTS)))
FIELDS = ("MESSAGE_ID", *SENDER, *REPORTED)
DEFAULT_LINES = 100  # sessions, without --lines and --since


def history(given: CommandLine, host: HostPaths, output: OutputWriter) -> int:
    """Print ended sessions, the newest last."""
    since, max_rows = bounds(given)
    filters = sessions.common_filters(given)
    rows: list[Row] = []
    with JournalReader(host) as log, JournalReader(host) as other:
        discovered_at = discovery.now()
        live = discovery.discover(host).live_ids()
        ends = EndedSessions(live, discovered_at, other)
        records = log.backwards(MESSAGE_IDS, FIELDS, since)
        for row in map(ends.row, filter(ends.is_genuine, records)):
            if row and all(test(row) for test in filters):
                rows.append(row)
            if len(rows) == max_rows:
                break
    sort_rows(rows)
    if "--json" in given:
        output.json(rows)
        return os.EX_OK
    full = "--no-trunc" in given
    if output.width and not full:
        session_info.shorten_ids(rows, live or ())
    columns = sessions.with_user(COLUMNS, rows, output)
    output.table(columns, rows, "ended session", full=full)
    return os.EX_OK


def sort_rows(rows: list[Row]) -> None:
    """Sort rows by the time of the end, the newest last."""
    rows.sort(key=lambda row: str(row["ended"]).zfill(20))


MESSAGE_IDS = (SESSION_STARTED, SESSION_ENDED)


def bounds(given: CommandLine) -> tuple[int, int | None]:
    """Return --since in microseconds since 1970, and the number of rows of --lines.

    Raises:
        CommandError: One of them is wrong.
    """
    since = given.options.get("--since")
    lines = given.options.get("--lines")
    if lines is None:
        max_rows = DEFAULT_LINES if since is None else None
    else:
        try:
            max_rows = None if lines == "all" else count(lines)
        except ValueError as error:
            raise CommandError(os.EX_USAGE, f"--lines: {error}, or all") from None
    now = datetime.now().astimezone()
    return (timestamps.since(since, now) if since is not None else 0), max_rows


class EndedSessions:
    """The ends of sessions: those that are recorded, and those of killed sessions.

    Args:
        live: The live sessions, or None if not all of them are known.
        discovered_at: The time of that list. Sessions that began later may be live.
        log: A second reader, for the ends of killed sessions and the verifier.
    """

    def __init__(
        self, live: set[str] | None, discovered_at: int, log: JournalReader
    ) -> None:
        self._all_known = live is not None
        self._discovered_at = discovered_at
        self._ended = set(live or ())
        self._verifier = RecordVerifier(log)
        self._lost_sessions = LostSessionLookup(log, self._verifier)

    def is_genuine(self, record: Record) -> bool:
        """Return True if a process of chimirror wrote this record."""
        return self._verifier.is_genuine(record)

    def row(self, record: Record) -> Row | None:
        """Return the end of a session if this record shows it, or None.

        Args:
            record: One of MESSAGE_IDS, and genuine. Records come newest first, so an
                end comes before its start.
        """
        identity = record.get(SESSION, "")
        if record.get("MESSAGE_ID") == SESSION_ENDED:
            self._ended.add(identity)
            return _row(record)
        if not self._all_known or identity in self._ended:
            return None
        if int(record[TIMESTAMP]) >= self._discovered_at:
            return None
        self._ended.add(identity)
        return _row(record) | self._lost_sessions.end(record)


def _row(record: Record) -> Row:
    row: Row = {"id": record.get(SESSION, ""), "ended": int(record[TIMESTAMP])}
    for name in TEXTS:
        row[name.lower()] = record.get(f"CHIMIRROR_{name}", "")
    for name in COUNTS:
        text = record.get(f"CHIMIRROR_{name}", "")
        row[name.lower()] = int(text) if text.isdigit() else None
    usec = row.pop("duration_usec")
    row["duration"] = usec / 1e6 if isinstance(usec, int) else None
    row["application"] = row["application"] or row["command"]
    if user := record.get(USER):
        row["user"] = user
    return row
