"""Decides which records of the journal count: those of chimirror's own processes.

Every process may send the journal any field, an application in its sandbox too. Only
fields with an underscore are the journal's own. So the sender of a record is compared
with the processes that records of type SERVING name. Those were written before any
application of that bridge or server existed. Follows systemd.journal-fields(7).

The journal reads the unit of a sender from /proc. A bridge that exits at once after its
last record may be gone by then. Such a record counts if its process has recorded the
start of the session, or has announced itself.
"""

from __future__ import annotations

from chimirror.ctl import systemd
from chimirror.ctl.journal import (
    BOOT,
    INVOCATION,
    PID,
    SESSION,
    SUPERVISOR,
    TIMESTAMP,
    UNIT,
    USER_UNIT,
    WORKER,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from chimirror.ctl.journal import Record

    class TrustedRecords(Protocol):
        """Queries of the journal."""

        def serving(self, invocation: str) -> list[Record]: ...

        def session_starts(self, session: str) -> list[Record]: ...

        def worker_ends(self, invocation: str, pid: str) -> list[Record]: ...


# microseconds: a worker may write a record before its supervisor has named it
NAMING_DELAY = 10_000_000


class Service:
    """The processes of one bridge or server whose records count.

    Args:
        records: records of type SERVING of one invocation of a unit, oldest first.

    Attributes:
        first: the oldest of the records.
        pid: process id of the bridge, or of the supervisor.
        session: the session of the bridge. Empty for a server.
        is_usable: False if the oldest record is lost, or if the server runs in a PID
            namespace. The journal has other process ids than the server then.
    """

    def __init__(self, records: list[Record]) -> None:
        first = records[0]
        self.first = first
        self.pid = first.get(PID, "")
        self.session = first.get(SESSION, "")
        self.is_usable = bool(self.session) or first.get(SUPERVISOR) == self.pid
        self._complete: set[str] = set()
        # first and last time of each worker, by process id
        self._workers: dict[str, list[tuple[int, float]]] = {}
        for record in records:
            if record.get(PID) == self.pid and WORKER in record:
                began = int(record[TIMESTAMP]) - NAMING_DELAY
                lives = self._workers.setdefault(record[WORKER], [])
                lives.append((began, float("inf")))

    def needs_ends(self, pid: str) -> bool:
        """Return True if this is a worker, and `add_ends` has not been called for it.

        After its end, another process may have its number.
        """
        return pid in self._workers and pid not in self._complete

    def add_ends(self, pid: str, ends: list[Record]) -> None:
        """Add the ends of the workers with this process id, the oldest first."""
        self._complete.add(pid)
        times = [int(end[TIMESTAMP]) for end in ends if end.get(PID) == self.pid]
        self._workers[pid] = [
            (began, min((time for time in times if time > began), default=ended))
            for began, ended in self._workers[pid]
        ]

    def includes(self, record: Record) -> bool:
        """Return True if one of the processes sent this record."""
        pid, time = record.get(PID, ""), int(record[TIMESTAMP])
        if pid == self.pid:
            return True
        lives = self._workers.get(pid, ())
        return any(began <= time <= ended for began, ended in lives)


class RecordVerifier:
    """Verifier of records of sessions. Reads what it needs to know once.

    Args:
        journal: a reader that has no other use at the same time.
    """

    def __init__(self, journal: TrustedRecords) -> None:
        self._journal = journal
        self._services: dict[str, Service | None] = {}
        self._senders: dict[str, Record] = {}

    def forget(self) -> None:
        """Read everything again: new records may have been written."""
        self._services.clear()
        self._senders.clear()

    def service(self, invocation: str) -> Service | None:
        """Return the processes of an invocation, or None if no record names them."""
        if invocation not in self._services:
            records = self._journal.serving(invocation) if invocation else []
            service = Service(records) if records else None
            if service is not None and not service.is_usable:
                service = None
            self._services[invocation] = service
        return self._services[invocation]

    def is_genuine(self, record: Record) -> bool:
        """Return True if a process of chimirror wrote this record about a session.

        Args:
            record: has the fields of SENDER.
        """
        session = record.get(SESSION, "")
        if _is_of_ended_process(record):
            first = self._sender(session) or self._announcement(session)
            return _is_same_process(record, first)
        service = self._service_of(record)
        if service is not None:
            return self._is_of_service(service, record)
        if record.get(UNIT) == systemd.ZYGOTE:
            return False  # it writes no records, but its applications can
        return not session or _sender(record) == _sender(self._sender(session))

    def _service_of(self, record: Record) -> Service | None:
        """Return the named processes of the unit of a record.

        The programs that a user starts share the invocation of the user's manager or
        session, so no record names all of them.
        """
        is_shared = USER_UNIT in record or not record.get(UNIT, "").endswith(".service")
        return None if is_shared else self.service(record.get(INVOCATION, ""))

    def _is_of_service(self, service: Service, record: Record) -> bool:
        pid, session = record.get(PID, ""), record.get(SESSION, "")
        if service.session and session not in ("", service.session):
            return False
        if service.needs_ends(pid):
            invocation = record.get(INVOCATION, "")
            service.add_ends(pid, self._journal.worker_ends(invocation, pid))
        return service.includes(record)

    def _sender(self, session: str) -> Record:
        """Return the first record of the start of a session, or an empty record."""
        if session not in self._senders:
            starts = self._journal.session_starts(session) if session else []
            starts = [start for start in starts if self._may_start(start)]
            starts.sort(key=lambda start: start.get(INVOCATION) != session)
            self._senders[session] = starts[0] if starts else {}
        return self._senders[session]

    def _announcement(self, session: str) -> Record:
        """Return the first record of the bridge of a session, or an empty record.

        The unit of a bridge gives the session its invocation.
        """
        service = self.service(session)
        return service.first if service and service.session == session else {}

    def _may_start(self, start: Record) -> bool:
        """Return False for a start that an application of a known service wrote."""
        if _is_of_ended_process(start) or start.get(UNIT) == systemd.ZYGOTE:
            return False
        service = self._service_of(start)
        return service is None or self._is_of_service(service, start)


def _is_of_ended_process(record: Record) -> bool:
    """Return True if the sender had ended before the journal looked for its unit."""
    return not (record.get(INVOCATION) or record.get(UNIT))


def _is_same_process(record: Record, start: Record) -> bool:
    return all(record.get(name) == start.get(name, "") for name in (BOOT, PID))


def _sender(record: Record) -> tuple[str, ...]:
    return tuple(record.get(name, "") for name in (BOOT, INVOCATION, PID))
