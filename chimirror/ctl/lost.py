"""How a session ended whose end nobody was left to record: others tell.

Of a bridge, and of a whole server, systemd has recorded what became of them; of a
worker its supervisor has. A session that nobody tells of at all began, and is gone: a
machine that lost its power records no more.
"""

from __future__ import annotations

from signal import Signals

from chimirror.ctl.journal import EXIT, INVOCATION, PID, SESSION, WHEN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.ctl.journal import Journal, Record

    Row = dict[str, object]

LOST = "lost"  # the reason; where it is known, followed by what it was


class Inquest:
    """Asks the journal, and once only of what many sessions had in common."""

    def __init__(self, log: Journal) -> None:
        self._log = log
        self._workers: dict[tuple[str, str], list[Record]] = {}
        self._units: dict[str, list[Record]] = {}

    def end(self, start: Record) -> Row:
        """What is known of the end of a session that is not live.

        Args:
            start: the record of its start.
        """
        session, invocation = start.get(SESSION, ""), start.get(INVOCATION, "")
        if invocation in ("", session):
            return _of_unit("bridge", start, self._unit(session))
        for record in self._worker(invocation, start.get(PID, "")):
            if int(record[WHEN]) >= int(start[WHEN]):  # else it was a namesake's
                return _of_worker(start, record)
        return _of_unit("server", start, self._unit(invocation))

    def _worker(self, invocation: str, pid: str) -> list[Record]:
        key = invocation, pid
        if key not in self._workers:
            self._workers[key] = self._log.worker_ends(invocation, pid)
        return self._workers[key]

    def _unit(self, invocation: str) -> list[Record]:
        if invocation not in self._units:
            self._units[invocation] = self._log.unit_records(invocation)
        return self._units[invocation]


def _of_worker(start: Record, record: Record) -> Row:
    status = record.get(EXIT, "")
    result = "signal" if status.startswith("signal ") else "exit-code"
    reason = f"{LOST}: {result}"
    return {"reason": reason, "exit": f"worker {status}", **_at(start, record)}


def _of_unit(who: str, start: Record, told: list[Record]) -> Row:
    lost: Row = {"reason": LOST, "exit": "", "ended": int(start[WHEN])}
    for record in told:
        lost |= _at(start, record)
        if "EXIT_STATUS" in record:
            lost["exit"] = f"{who} {_status(record)}"
        if "UNIT_RESULT" in record:
            lost["reason"] = f"{LOST}: {record['UNIT_RESULT']}"
    return lost


def _at(start: Record, record: Record) -> Row:
    ended = int(record[WHEN])
    return {"ended": ended, "duration": (ended - int(start[WHEN])) / 1e6}


def _status(record: Record) -> str:
    """How a main process ended, as records of ours would say it."""
    text = record["EXIT_STATUS"]
    if record.get("EXIT_CODE") == "exited":
        return f"exit {text}"
    try:
        return f"signal {Signals(int(text)).name.removeprefix('SIG')}"
    except ValueError:
        return f"signal {text}"
