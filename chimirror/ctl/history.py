"""The verbs that read the journal of many sessions: history, stats.

Records are read from the end. A start without an end, of a session that is not live,
is one whose bridge, worker or server was killed: then others tell how (lost).
"""

from __future__ import annotations

import os
from collections import Counter
from datetime import datetime

from chimirror.ctl import listing, sources, table, when
from chimirror.ctl.failure import Failure
from chimirror.ctl.journal import INVOCATION, PID, SESSION, WHEN, Journal
from chimirror.ctl.lost import LOST, Inquest
from chimirror.ctl.table import Column
from chimirror.system.records import REFUSED, SESSION_ENDED, SESSION_STARTED
from chimirror.units import count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from chimirror.ctl.host import Host
    from chimirror.ctl.journal import Record
    from chimirror.ctl.table import Output
    from chimirror.ctl.usage import Given

    Row = dict[str, object]

COLUMNS = (
    Column("ended", "ENDED", lambda usec: listing.moment(int(usec))),
    Column("id", "ID"),
    Column("peer", "PEER"),
    Column("duration", "DURATION", table.duration),
    Column("exit", "EXIT"),
    Column("reason", "REASON"),
    Column("bytes_in", "IN", table.size),
    Column("bytes_out", "OUT", table.size),
    Column("messages_in", "MSG-IN", table.number, spare=True),
    Column("messages_out", "MSG-OUT", table.number, spare=True),
    Column("command", "COMMAND"),
)
TEXTS = ("PEER", "COMMAND", "APPLICATION", "EXIT", "REASON")
COUNTS = ("BYTES_IN", "BYTES_OUT", "MESSAGES_IN", "MESSAGES_OUT", "DURATION_USEC")
TOLD = tuple(f"CHIMIRROR_{name}" for name in (*TEXTS, *COUNTS))
FIELDS = ("MESSAGE_ID", SESSION, PID, INVOCATION, *TOLD)
NEWEST = 100  # sessions, where nothing else is asked for


def history(given: Given, host: Host, output: Output) -> int:
    """Ended sessions, the newest last."""
    since, most = _bounds(given)
    wanted = (listing.peers(given), listing.applications(given))
    rows: list[Row] = []
    with Journal(host) as log, Journal(host) as other:
        asked = sources.now()
        ends = Ends(sources.gather(host).known(), asked, other)
        for row in map(ends.row, log.backwards(KINDS, FIELDS, since)):
            if row and all(test(row) for test in wanted):
                rows.append(row)
            if len(rows) == most:
                break
    rows.sort(key=lambda row: str(row["ended"]).zfill(20))
    if "--json" in given:
        output.json(rows)
        return os.EX_OK
    if output.width:
        for row in rows:
            row["id"] = str(row["id"])[:8]
    output.table(COLUMNS, rows)
    return os.EX_OK


KINDS = (SESSION_STARTED, SESSION_ENDED)


def _bounds(given: Given) -> tuple[int, int | None]:
    since = given.options.get("--since")
    lines = given.options.get("--lines")
    if lines is None:
        most = NEWEST if since is None else None
    else:
        try:
            most = None if lines == "all" else count(lines)
        except ValueError as error:
            raise Failure(os.EX_USAGE, f"--lines: {error}, or all") from None
    now = datetime.now().astimezone()
    return (when.since(since, now) if since is not None else 0), most


class Ends:
    """The ends that records tell of, and those that nobody was left to record.

    Args:
        live: sessions whose end is still to come; None if we do not know all of them.
        asked: when those were looked for: who has begun since may live, too.
        log: where to look for how those ended that could not say.
    """

    def __init__(self, live: set[str] | None, asked: int, log: Journal) -> None:
        self._all_known = live is not None
        self._asked = asked
        self._over = set(live or ())
        self._inquest = Inquest(log)

    def row(self, record: Record) -> Row | None:
        """The end of a session that a record tells of, if it does.

        Args:
            record: of KINDS; the newest come first: an end is seen before its start.
        """
        identity = record.get(SESSION, "")
        if record.get("MESSAGE_ID") == SESSION_ENDED:
            self._over.add(identity)
            return _row(record)
        if not self._all_known or identity in self._over:
            return None
        if int(record[WHEN]) >= self._asked:
            return None
        self._over.add(identity)
        return _row(record) | self._inquest.end(record)


def _row(record: Record) -> Row:
    row: Row = {"id": record.get(SESSION, ""), "ended": int(record[WHEN])}
    for name in TEXTS:
        row[name.lower()] = record.get(f"CHIMIRROR_{name}", "")
    for name in COUNTS:
        text = record.get(f"CHIMIRROR_{name}", "")
        row[name.lower()] = int(text) if text.isdigit() else None
    usec = row.pop("duration_usec")
    row["duration"] = usec / 1e6 if isinstance(usec, int) else None
    row["application"] = row["application"] or row["command"]
    return row


# stats


TOTALS = (
    Column("since", "SINCE", lambda usec: listing.moment(int(usec))),
    Column("live", "LIVE", table.number),
    Column("started", "STARTED", table.number),
    Column("ended", "ENDED", table.number),
    Column("failed", "FAILED", table.number),
    Column("refused", "REFUSED", table.number),
    Column("rate", "STARTS/MIN", lambda rate: f"{rate:.1f}"),
    Column("bytes_in", "IN", table.size),
    Column("bytes_out", "OUT", table.size),
    Column("messages_in", "MSG-IN", table.number),
    Column("messages_out", "MSG-OUT", table.number),
)
CAUSES = (
    Column("kind", "KIND"),
    Column("cause", "CAUSE"),
    Column("count", "COUNT", table.number),
)
COUNTED = (
    "MESSAGE_ID",
    SESSION,
    PID,
    INVOCATION,
    "CHIMIRROR_REASON",
    "CHIMIRROR_CAUSE",
    "CHIMIRROR_SUPPRESSED",
    *(f"CHIMIRROR_{name}" for name in COUNTS[:4]),
)
CARRIED = tuple(name.lower() for name in COUNTS[:4])
FAILED = ("exit ", "signal ", "error", "out of", LOST)


def stats(given: Given, host: Host, output: Output) -> int:
    """Totals and causes since some time."""
    now = datetime.now().astimezone()
    since = when.since(given.options.get("--since", "1h"), now)
    with Journal(host) as log, Journal(host) as other:
        asked = sources.now()
        found = sources.gather(host)
        status = found.complain()
        records = log.backwards((*KINDS, REFUSED), COUNTED, since)
        totals, causes = tally(records, Ends(found.known(), asked, other))
    minutes = max(now.timestamp() - since / 1e6, 1) / 60
    totals |= {"since": since, "live": len(found.sessions)}
    totals["rate"] = round(totals["started"] / minutes, 3)
    rows: list[Row] = [
        {"kind": kind, "cause": cause, "count": number}
        for (kind, cause), number in sorted(causes.items(), key=lambda one: -one[1])
    ]
    if "--json" in given:
        output.json({**totals, "causes": rows})
        return status
    output.pairs(TOTALS, totals)
    output.write("\n")
    output.table(CAUSES, rows)
    return status


def tally(
    records: Iterable[Record], ends: Ends
) -> tuple[dict[str, float], Counter[tuple[str, str]]]:
    """Sums, and how often each cause of a refusal and each reason of an end."""
    totals: dict[str, float] = dict.fromkeys((one.name for one in TOTALS), 0)
    causes: Counter[tuple[str, str]] = Counter()
    for record in records:
        kind = record.get("MESSAGE_ID")
        if kind == REFUSED:
            _add_refusal(record, totals, causes)
            continue
        totals["started"] += kind == SESSION_STARTED
        if row := ends.row(record):
            _add_end(row, totals, causes)
    return totals, causes


def _add_refusal(
    record: Record, totals: dict[str, float], causes: Counter[tuple[str, str]]
) -> None:
    suppressed = record.get("CHIMIRROR_SUPPRESSED", "")
    causes["refused", record.get("CHIMIRROR_CAUSE", "")] += 1
    totals["refused"] += 1
    if suppressed.isdigit():
        # Of which causes these were, nobody wrote down.
        causes["refused", "not recorded one by one"] += int(suppressed)
        totals["refused"] += int(suppressed)


def _add_end(
    row: Row, totals: dict[str, float], causes: Counter[tuple[str, str]]
) -> None:
    reason = str(row["reason"])
    totals["ended"] += 1
    totals["failed"] += reason.startswith(FAILED) and reason != "exit 0"
    causes["ended", reason] += 1
    for name in CARRIED:
        number = row[name]
        totals[name] += number if isinstance(number, int) else 0
