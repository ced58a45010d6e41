"""The verb that sums the records of sessions and requests: stats.

Records are read as by `history`. A refusal that only a record of suppressed ones counts
belongs to no user.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime

from chimirror.ctl import discovery, formats, timestamps
from chimirror.ctl.commands import history
from chimirror.ctl.journal import SENDER, JournalReader
from chimirror.ctl.lost_sessions import LOST
from chimirror.ctl.output import Column
from chimirror.log.records import REFUSED, SESSION_STARTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from chimirror.ctl.journal import Record
    from chimirror.ctl.output import OutputWriter
    from chimirror.ctl.paths import HostPaths
    from chimirror.ctl.usage import CommandLine

    Row = dict[str, object]

TOTALS = (
    Column("since", "SINCE", formats.local_time),
    Column("live", "LIVE", formats.number),
    Column("started", "STARTED", formats.number),
    Column("ended", "ENDED", formats.number),
    Column("failed", "FAILED", formats.number),
    Column("refused", "REFUSED", formats.number),
    Column("rate", "STARTS/MIN", lambda rate: f"{rate:.1f}"),
    Column("bytes_in", "IN", formats.size),
    Column("bytes_out", "OUT", formats.size),
    Column("messages_in", "MSG-IN", formats.number),
    Column("messages_out", "MSG-OUT", formats.number),
)
CAUSES = (
    Column("kind", "KIND"),
    Column("cause", "CAUSE"),
    Column("count", "COUNT", formats.number),
)
USERS = (
    Column("user", "USER", keep="start", least=8),
    Column("started", "STARTED", formats.number),
    Column("ended", "ENDED", formats.number),
    Column("refused", "REFUSED", formats.number),
    Column("duration", "TIME", formats.duration),
    Column("bytes_in", "IN", formats.size),
    Column("bytes_out", "OUT", formats.size),
)
FIELDS = (
    "MESSAGE_ID",
    *SENDER,
    "CHIMIRROR_REASON",
    "CHIMIRROR_CAUSE",
    "CHIMIRROR_SUPPRESSED",
    history.USER,
    *(f"CHIMIRROR_{name}" for name in history.COUNTS),
)
TRAFFIC_NAMES = tuple(name.lower() for name in history.COUNTS[:4])
FAILED = ("exit ", "signal ", "error", "out of", LOST)


def stats(given: CommandLine, host: HostPaths, output: OutputWriter) -> int:
    """Print totals and causes since a point in time."""
    now = datetime.now().astimezone()
    since = timestamps.since(given.options.get("--since", "1h"), now)
    with JournalReader(host) as log, JournalReader(host) as other:
        discovered_at = discovery.now()
        found = discovery.discover(host)
        status = found.warn_incomplete()
        ends = history.EndedSessions(found.live_ids(), discovered_at, other)
        sums = Sums(ends)
        sums.add(log.backwards((*history.MESSAGE_IDS, REFUSED), FIELDS, since))
    totals = sums.totals
    minutes = max(now.timestamp() - since / 1e6, 1) / 60
    totals |= {"since": since, "live": len(found.sessions)}
    totals["rate"] = round(totals["started"] / minutes, 3)
    rows: list[Row] = [
        {"kind": kind, "cause": cause, "count": number}
        for (kind, cause), number in sums.causes.most_common()
    ]
    users = sums.user_rows()
    if "--json" in given:
        output.json({**totals, "causes": rows, **({"users": users} if users else {})})
        return status
    full = "--no-trunc" in given
    output.pairs(TOTALS, totals)
    output.write("\n")
    output.table(CAUSES, rows, full=full)
    if users:
        output.write("\n")
        output.table(USERS, users, full=full)
    return status


class Sums:
    """Sums of records.

    Args:
        ends: finds the ends of sessions in the records.

    Attributes:
        totals: the sums of all, by the names of TOTALS.
        causes: number of each cause of a refusal and of each reason of an end.
        by_user: the sums of each user, by the names of USERS.
    """

    def __init__(self, ends: history.EndedSessions) -> None:
        self._ends = ends
        self.totals: dict[str, float] = dict.fromkeys((c.name for c in TOTALS), 0)
        self.causes: Counter[tuple[str, str]] = Counter()
        self.by_user: defaultdict[str, dict[str, float]] = defaultdict(
            lambda: dict.fromkeys((column.name for column in USERS[1:]), 0)
        )

    def add(self, records: Iterable[Record]) -> None:
        """Add records, the newest first. Those of other programs do not count."""
        for record in filter(self._ends.is_genuine, records):
            kind, user = record.get("MESSAGE_ID"), record.get(history.USER, "")
            if kind == REFUSED:
                self._add_refusal(record, user)
                continue
            if kind == SESSION_STARTED:
                self._add("started", 1, user)
            if row := self._ends.row(record):
                self._add_end(row, user)

    def user_rows(self) -> list[Row]:
        """Return a row for each user, the longest time first."""
        by_time = sorted(self.by_user.items(), key=lambda i: (-i[1]["duration"], i[0]))
        return [{"user": user, **sums} for user, sums in by_time]

    def _add(self, name: str, number: float, user: str) -> None:
        if name in self.totals:
            self.totals[name] += number
        if user and name in self.by_user[user]:
            self.by_user[user][name] += number

    def _add_refusal(self, record: Record, user: str) -> None:
        suppressed = record.get("CHIMIRROR_SUPPRESSED", "")
        # A record of suppressed refusals stands for that many, of one cause.
        number = int(suppressed) if suppressed.isdigit() else 1
        self.causes["refused", record.get("CHIMIRROR_CAUSE", "")] += number
        self._add("refused", number, user)

    def _add_end(self, row: Row, user: str) -> None:
        reason = str(row["reason"])
        self._add("ended", 1, user)
        self._add("failed", reason.startswith(FAILED) and reason != "exit 0", user)
        self.causes["ended", reason] += 1
        for name in (*TRAFFIC_NAMES, "duration"):
            number = row[name]
            self._add(name, number if isinstance(number, int | float) else 0, user)
