"""Counters of the sessions of bridges, from records of the journal and live sessions.

Records come once and in their order, the oldest first. So the counters can be kept in a
file between runs: the journal may lose old records, and the counters stay. Only bridges
in units count. A server counts its sessions by itself. Knows neither the journal nor
the file.

A session counts as live with the traffic that it has reported, and once it has ended
with that of its record. If it has ended without a record, its last report counts.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from chimirror.ctl import json_fields, systemd
from chimirror.ctl.journal import BOOT, INVOCATION, PID, SESSION, TIMESTAMP, UNIT
from chimirror.log.records import REFUSED, SESSION_ENDED, SESSION_STARTED
from chimirror.metrics import families
from chimirror.metrics.labels import LOST, reason_label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from chimirror.ctl.journal import Record
    from chimirror.ctl.json_fields import Object
    from chimirror.ctl.session_info import SessionInfo
    from chimirror.metrics.exposition import Value

MESSAGE_IDS = (SESSION_STARTED, SESSION_ENDED, REFUSED)
START = "CHIMIRROR_START_USEC"
TRAFFIC = ("BYTES_IN", "BYTES_OUT", "MESSAGES_IN", "MESSAGES_OUT")
FIELDS = (
    *("MESSAGE_ID", SESSION, PID, BOOT, INVOCATION, UNIT, "_SYSTEMD_USER_UNIT", START),
    *(f"CHIMIRROR_{name}" for name in ("APPLICATION", "REASON", "CAUSE", "SUPPRESSED")),
    *(f"CHIMIRROR_{name}" for name in TRAFFIC),
)
STATES = ("open", "closing")  # a session without a status has not opened yet
STARTING = "starting"


class OpenSession(NamedTuple):
    """A session that has begun, and of which no end is known.

    Attributes:
        application: Its name, or empty.
        started: Microseconds since 1970.
        boot, pid: The process that recorded the start, as the journal names it.
    """

    application: str
    started: int
    boot: str
    pid: str


class BridgeTotals:
    """The counters.

    Attributes:
        ended: Number of ended sessions, by application and label of the reason.
        refused: Number of refused requests, by cause.
        traffic: Traffic of ended sessions, as TRAFFIC.
        starts: Number of starts in each bucket of START_SECONDS.
        start_usec: Microseconds of all starts together.
        open: Sessions that have begun, by id.
        reports: The last known traffic of live sessions, by id.
        ending: Ids of sessions that have recorded their end, and may still be live.
        lost: Ids of sessions that the last run counted as lost.
    """

    def __init__(self) -> None:
        self.ended: Counter[tuple[str, str]] = Counter()
        self.refused: Counter[str] = Counter()
        self.traffic = [0] * len(TRAFFIC)
        self.starts = [0] * (len(families.START_BUCKETS) + 1)
        self.start_usec = 0
        self.open: dict[str, OpenSession] = {}
        self.reports: dict[str, list[int]] = {}
        self.ending: set[str] = set()
        self.lost: set[str] = set()

    def add(
        self, records: Iterable[Record], is_genuine: Callable[[Record], bool]
    ) -> None:
        """Add records of MESSAGE_IDS, the oldest first.

        Args:
            records: Records with FIELDS, each once.
            is_genuine: Returns True if a process of chimirror wrote a record.
        """
        for record in records:
            kind, session = record.get("MESSAGE_ID"), record.get(SESSION, "")
            if session in self.lost:
                continue  # a late record: a session counts once
            begun = self.open.get(session)
            is_of_bridge = systemd.SESSION_UNIT.fullmatch(record.get(UNIT, ""))
            if kind == SESSION_ENDED and begun and _wrote(begun, record):
                self._end(session, begun.application, record)
            elif not is_of_bridge or not is_genuine(record):
                continue
            elif kind == SESSION_STARTED:
                if not begun:
                    self._start(session, record)
            elif kind == SESSION_ENDED:
                self._end(session, _application(record), record)
            else:
                suppressed = record.get("CHIMIRROR_SUPPRESSED", "")
                number = int(suppressed) if suppressed.isdecimal() else 1
                self.refused[record.get("CHIMIRROR_CAUSE", "")] += number

    def settle(
        self, sessions: Sequence[SessionInfo], discovered_at: int, *, complete: bool
    ) -> None:
        """Add the live sessions, and end those that are live no longer.

        Args:
            sessions: The live sessions of bridges.
            discovered_at: The time of that list, in microseconds since 1970. All
                records until then have been added.
            complete: False if sessions may be missing in the list.
        """
        for info in sessions:
            if info.bytes_in is not None and info.id not in self.ending:
                self.reports[info.id] = _traffic(info)
        live = {info.id for info in sessions}
        if not complete:
            return
        self.lost.clear()
        for session, begun in list(self.open.items()):
            if session not in live and begun.started < discovered_at:
                del self.open[session]
                self.lost.add(session)
                self._count(begun.application, LOST, self.reports.pop(session, None))
        # What is left began before the journal's oldest record. Its traffic stays.
        for session in self.reports.keys() - live - self.open.keys():
            self._add_traffic(self.reports.pop(session))
        self.ending &= live

    def _start(self, session: str, record: Record) -> None:
        """Count the start of a session by its record."""
        self.open[session] = _opened(record)
        text = record.get(START, "")
        if text.isdecimal():
            self.starts[families.bucket_of(int(text) / 1e6)] += 1
            self.start_usec += int(text)

    def _end(self, session: str, application: str, record: Record) -> None:
        """Count the end of a session by its record."""
        texts = [record.get(f"CHIMIRROR_{name}", "") for name in TRAFFIC]
        traffic = [int(text) if text.isdecimal() else 0 for text in texts]
        label = reason_label(record.get("CHIMIRROR_REASON", ""))
        self._count(application, label, traffic)
        self.open.pop(session, None)
        self.reports.pop(session, None)
        self.ending.add(session)

    def _count(self, application: str, label: str, traffic: list[int] | None) -> None:
        self.ended[application, label] += 1
        self._add_traffic(traffic or [])

    def _add_traffic(self, traffic: list[int]) -> None:
        for index, number in enumerate(traffic):
            self.traffic[index] += number

    def counters(self) -> dict[str, dict[tuple[str, ...], Value]]:
        """Return the samples of all counters."""
        total = list(self.traffic)
        for report in self.reports.values():
            total = [number + more for number, more in zip(total, report, strict=True)]
        directions = [("in",), ("out",)]
        return {
            families.SESSIONS_ENDED.name: {
                (app, end): n for (app, end), n in self.ended.items()
            },
            families.REFUSALS.name: {(name,): n for name, n in self.refused.items()},
            families.BYTES.name: dict(zip(directions, total[:2], strict=True)),
            families.MESSAGES.name: dict(zip(directions, total[2:], strict=True)),
            families.START_SECONDS.name: {
                (): families.Histogram(self.starts, self.start_usec / 1e6)
            },
        }

    # The form in a file

    def to_json(self) -> Object:
        """Return everything as a JSON object."""
        return {
            "ended": [[*key, number] for key, number in sorted(self.ended.items())],
            "refused": dict(sorted(self.refused.items())),
            "traffic": self.traffic,
            "starts": self.starts,
            "start_usec": self.start_usec,
            "open": {session: list(begun) for session, begun in self.open.items()},
            "reports": self.reports,
            "ending": sorted(self.ending),
            "lost": sorted(self.lost),
        }

    @classmethod
    def from_json(cls, value: Object) -> BridgeTotals:
        """Read what to_json() has returned.

        Raises:
            Malformed: The object has another form.
        """
        found = cls()
        for row in _list(value.get("ended")):
            application, label, number = _items(row, str, str, int)
            found.ended[application, label] = number
        for cause in json_fields.as_object(value.get("refused")):
            found.refused[cause] = json_fields.count(value["refused"], cause)
        counts = (int,) * len(TRAFFIC)
        found.traffic = _items(value.get("traffic"), *counts)
        found.starts = _items(value.get("starts"), *((int,) * len(found.starts)))
        found.start_usec = json_fields.count(value, "start_usec")
        for session, fields in json_fields.as_object(value.get("open")).items():
            found.open[session] = OpenSession(*_items(fields, str, int, str, str))
        for session, fields in json_fields.as_object(value.get("reports")).items():
            found.reports[session] = _items(fields, *counts)
        found.ending = set(json_fields.texts(value, "ending"))
        found.lost = set(json_fields.texts(value, "lost"))
        return found


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise json_fields.Malformed("a list is missing")
    return value


def _items(value: object, *types: type) -> list[Any]:
    """Return a list with items of these types."""
    items = _list(value)
    if [type(item) for item in items] != [*types]:
        raise json_fields.Malformed("a list has other items")
    return items


def gauges(sessions: Sequence[SessionInfo]) -> dict[tuple[str, ...], Value]:
    """Count live sessions by application and state. Without any, one sample is 0."""
    found: Counter[tuple[str, ...]] = Counter(
        (info.application, info.state if info.state in STATES else STARTING)
        for info in sessions
    )
    return dict(found) if found else {("", "open"): 0}


def _opened(record: Record) -> OpenSession:
    started, boot = int(record[TIMESTAMP]), record.get(BOOT, "")
    return OpenSession(_application(record), started, boot, record.get(PID, ""))


def _application(record: Record) -> str:
    """Return the name of an application: its own, or that of its units."""
    name = record.get("CHIMIRROR_APPLICATION", "")
    return name or systemd.application(record.get(UNIT, ""))


def _wrote(begun: OpenSession, record: Record) -> bool:
    """Return True if the process that recorded the start wrote this record."""
    return (record.get(BOOT), record.get(PID)) == (begun.boot, begun.pid)


def _traffic(info: SessionInfo) -> list[int]:
    numbers = (info.bytes_in, info.bytes_out, info.messages_in, info.messages_out)
    return [number or 0 for number in numbers]
