"""Finds the end of a session that was killed before it recorded its end.

systemd records the exit of a bridge and of a whole server. A supervisor records the
exit of its workers. If the machine lost power there is no such record. Then the start
of the session is all that is known.
"""

from __future__ import annotations

from chimirror.ctl.journal import EXIT, INVOCATION, PID, SESSION, TIMESTAMP
from chimirror.process.children import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.ctl.journal import JournalReader, Record
    from chimirror.ctl.record_verifier import RecordVerifier

    Row = dict[str, object]

LOST = "lost"  # the reason, followed by the result if one is recorded


class LostSessionLookup:
    """Journal queries for the ends of lost sessions.

    Records that many sessions share, of a worker or a unit, are read once.

    Args:
        reader: a reader of the journal, which the verifier uses too.
        verifier: knows which process is the supervisor of a server.
    """

    def __init__(self, reader: JournalReader, verifier: RecordVerifier) -> None:
        self._journal = reader
        self._verifier = verifier
        self._workers: dict[tuple[str, str], list[Record]] = {}
        self._units: dict[str, list[Record]] = {}

    def end(self, start: Record) -> Row:
        """Return the known fields of the end of a session that is not live.

        Args:
            start: The record of its start.
        """
        session, invocation = start.get(SESSION, ""), start.get(INVOCATION, "")
        if invocation in ("", session):
            return _unit_end("bridge", start, self._unit(session))
        for record in self._worker(invocation, start.get(PID, "")):
            if int(record[TIMESTAMP]) >= int(
                start[TIMESTAMP]
            ):  # otherwise an earlier worker had the same pid
                return _worker_end(start, record)
        return _unit_end("server", start, self._unit(invocation))

    def _worker(self, invocation: str, pid: str) -> list[Record]:
        key = invocation, pid
        if key not in self._workers:
            service = self._verifier.service(invocation)
            self._workers[key] = [
                end
                for end in self._journal.worker_ends(invocation, pid)
                if service is None or end.get(PID) == service.pid
            ]
        return self._workers[key]

    def _unit(self, invocation: str) -> list[Record]:
        if invocation not in self._units:
            self._units[invocation] = self._journal.unit_records(invocation)
        return self._units[invocation]


def _worker_end(start: Record, record: Record) -> Row:
    status = record.get(EXIT, "")
    result = "signal" if status.startswith("signal ") else "exit-code"
    reason = f"{LOST}: {result}"
    return {"reason": reason, "exit": f"worker {status}", **_at(start, record)}


def _unit_end(process: str, start: Record, records: list[Record]) -> Row:
    row: Row = {"reason": LOST, "exit": "", "ended": int(start[TIMESTAMP])}
    for record in records:
        row |= _at(start, record)
        if "EXIT_STATUS" in record:
            row["exit"] = f"{process} {_status(record)}"
        if "UNIT_RESULT" in record:
            row["reason"] = f"{LOST}: {record['UNIT_RESULT']}"
    return row


def _at(start: Record, record: Record) -> Row:
    ended = int(record[TIMESTAMP])
    return {"ended": ended, "duration": (ended - int(start[TIMESTAMP])) / 1e6}


def _status(record: Record) -> str:
    """Return the exit of a main process in the form of chimirror's own records."""
    text = record["EXIT_STATUS"]
    if record.get("EXIT_CODE") == "exited":
        return f"exit {text}"
    return describe(-int(text)) if text.isdecimal() else f"signal {text}"
