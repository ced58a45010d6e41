"""history, stats and log: the rows and sums that are made of records.

tests/systemd/test_ctl.py reads records from a real journal.
"""

from __future__ import annotations

import os
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from chimirror.ctl import journal, timestamps, usage
from chimirror.ctl.commands import history, log, stats
from chimirror.ctl.journal import SESSION, TIMESTAMP
from chimirror.ctl.messages import CommandError
from chimirror.ctl.record_verifier import RecordVerifier
from chimirror.log.records import REFUSED, SESSION_ENDED, SESSION_STARTED
from chimirror.log.serving import SERVING
from fake_host import Machine, Screen, ctl, identity
from processes import let_others_in

Record = dict[str, str]
LATER = 1 << 50  # than any of these records
SCOPE = "session-1.scope"


class RecordedJournal(journal.JournalReader):
    """A journal with the records of one unit, or of the workers of a server.

    Attributes:
        starts: The records of starts of sessions.
        queries: The arguments of each query about ends.
    """

    def __init__(self, *records: Record, workers: tuple[Record, ...] = ()) -> None:
        self.records = list(records)
        self.workers = list(workers)
        self.queries: list[tuple[str, ...]] = []
        self.starts: list[Record] = []

    def serving(self, invocation: str) -> list[Record]:
        return []

    def session_starts(self, session: str) -> list[Record]:
        return [record for record in self.starts if record[SESSION] == session]

    def unit_records(self, identity: str) -> list[Record]:
        self.queries.append((identity,))
        return self.records

    def worker_ends(self, invocation: str, pid: str) -> list[Record]:
        self.queries.append((invocation, pid))
        return self.workers


def start(number: int, seconds: int) -> Record:
    return {
        "MESSAGE_ID": SESSION_STARTED,
        TIMESTAMP: str(seconds * 1_000_000),
        SESSION: identity(number),
        journal.UNIT: SCOPE,
        "CHIMIRROR_PEER": "192.0.2.1:1",
        "CHIMIRROR_COMMAND": "cat",
    }


def end(number: int, seconds: int, reason: str = "exit 0") -> Record:
    return start(number, seconds) | {
        "MESSAGE_ID": SESSION_ENDED,
        "CHIMIRROR_EXIT": "exit 0",
        "CHIMIRROR_REASON": reason,
        "CHIMIRROR_BYTES_IN": "10",
        "CHIMIRROR_BYTES_OUT": "20",
        "CHIMIRROR_MESSAGES_IN": "1",
        "CHIMIRROR_MESSAGES_OUT": "2",
        "CHIMIRROR_DURATION_USEC": "1500000",
    }


def ends(
    records: list[Record], live: set[str] | None, reader: RecordedJournal | None = None
) -> list[dict[str, object]]:
    found = history.EndedSessions(live, LATER, reader or RecordedJournal())
    return [row for row in map(found.row, reversed(records)) if row]


def journal_of(records: list[Record]) -> RecordedJournal:
    reader = RecordedJournal()
    reader.starts = [one for one in records if one["MESSAGE_ID"] == SESSION_STARTED]
    return reader


def test_an_end_is_a_row() -> None:
    (row,) = ends([start(1, 5), end(1, 7)], set())
    assert row == {
        "id": identity(1),
        "ended": 7_000_000,
        "peer": "192.0.2.1:1",
        "command": "cat",
        "application": "cat",
        "exit": "exit 0",
        "reason": "exit 0",
        "bytes_in": 10,
        "bytes_out": 20,
        "messages_in": 1,
        "messages_out": 2,
        "duration": 1.5,
    }


def test_an_application_may_have_a_name() -> None:
    (row,) = ends([end(1, 7) | {"CHIMIRROR_APPLICATION": "animals"}], set())
    assert (row["application"], row["command"]) == ("animals", "cat")


def test_a_live_session_has_no_row() -> None:
    assert ends([start(1, 5)], {identity(1)}) == []


def test_no_session_is_lost_if_live_ones_are_unknown() -> None:
    assert ends([start(1, 5)], None) == []


def test_a_start_without_an_end_is_lost() -> None:
    (row,) = ends([start(1, 5)], set())
    assert (row["reason"], row["exit"], row["ended"]) == ("lost", "", 5_000_000)
    assert (row["bytes_in"], row["duration"]) == (None, None)


@pytest.mark.parametrize(
    ("code", "status", "message"),
    [
        ("killed", "9", "bridge signal KILL"),
        ("exited", "70", "bridge exit 70"),
        ("killed", "34", "bridge signal 34"),
        ("killed", "99", "bridge signal 99"),
        ("killed", "KILL", "bridge signal KILL"),
    ],
)
def test_lost_sessions_in_records_of_systemd(
    code: str, status: str, message: str
) -> None:
    reader = RecordedJournal(
        {
            TIMESTAMP: "8000000",
            "MESSAGE_ID": journal.PROCESS_EXIT,
            "EXIT_CODE": code,
            "EXIT_STATUS": status,
        },
        {
            TIMESTAMP: "9000000",
            "MESSAGE_ID": journal.UNIT_FAILED,
            "UNIT_RESULT": "oom-kill",
        },
    )
    (row,) = ends([start(1, 5)], set(), reader)
    assert (row["reason"], row["exit"]) == ("lost: oom-kill", message)
    assert (row["ended"], row["duration"]) == (9_000_000, 4.0)


KILLED = {"EXIT_CODE": "killed", "EXIT_STATUS": "9"}
OF_SERVER = {journal.INVOCATION: "5e", journal.PID: "77"}


def worker_death(seconds: int, status: str) -> Record:
    """Return the record of a supervisor about the end of a worker."""
    return {TIMESTAMP: str(seconds * 1_000_000), journal.EXIT: status}


@pytest.mark.parametrize(
    ("status", "reason"),
    [("signal KILL", "lost: signal"), ("exit 70", "lost: exit-code")],
)
def test_lost_sessions_in_records_of_a_supervisor(status: str, reason: str) -> None:
    reader = RecordedJournal(
        workers=(
            worker_death(3, "signal SEGV"),
            worker_death(8, status),
            worker_death(9, "exit 1"),
        )
    )
    starts = [start(1, 5) | OF_SERVER, start(2, 5) | OF_SERVER]
    for row in ends(starts, set(), reader):
        assert (row["exit"], row["reason"]) == (f"worker {status}", reason)
        assert (row["ended"], row["duration"]) == (8_000_000, 3.0)
    assert reader.queries == [("5e", "77")]  # one query serves both sessions


def test_a_whole_server_is_lost() -> None:
    reader = RecordedJournal(
        {TIMESTAMP: "8000000", **KILLED},
        {TIMESTAMP: "8000001", "UNIT_RESULT": "signal"},
    )
    starts = [start(1, 5) | OF_SERVER, start(2, 5) | OF_SERVER]
    for row in ends(starts, set(), reader):
        assert (row["exit"], row["reason"]) == ("server signal KILL", "lost: signal")
    assert reader.queries == [("5e", "77"), ("5e",)]


def test_a_unit_of_its_own_has_no_workers() -> None:
    reader = RecordedJournal({TIMESTAMP: "8000000", **KILLED})
    (row,) = ends([start(1, 5) | {journal.INVOCATION: identity(1)}], set(), reader)
    assert row["exit"] == "bridge signal KILL"
    assert reader.queries == [(identity(1),)]


def sums(
    records: list[Record], found: history.EndedSessions
) -> tuple[dict[str, float], Counter[tuple[str, str]]]:
    made = stats.Sums(found)
    made.add(reversed(records))
    return made.totals, made.causes


def test_sums() -> None:
    refusal = {"MESSAGE_ID": REFUSED, TIMESTAMP: "8", journal.UNIT: SCOPE}
    refusal["CHIMIRROR_CAUSE"] = "max-sessions"
    records = [
        *(start(1, 1), start(2, 2), start(3, 3), end(1, 5), end(2, 6, "exit 3")),
        end(3, 7, "signal KILL"),
        refusal,
        refusal | {"CHIMIRROR_SUPPRESSED": "40"},
    ]
    alive = history.EndedSessions(set(), LATER, journal_of(records))
    totals, causes = sums(records, alive)
    assert (totals["started"], totals["ended"], totals["failed"]) == (3, 3, 2)
    assert (totals["bytes_in"], totals["messages_out"]) == (30, 6)
    assert totals["refused"] == 41
    assert causes == {
        ("ended", "exit 0"): 1,
        ("ended", "exit 3"): 1,
        ("ended", "signal KILL"): 1,
        ("refused", "max-sessions"): 41,
    }


def of(user: str, record: Record) -> Record:
    return record | {"CHIMIRROR_USER": user}


def test_sums_of_users() -> None:
    refusal = {"MESSAGE_ID": REFUSED, TIMESTAMP: "8", journal.UNIT: SCOPE}
    records = [
        of("ann", start(1, 1)),
        of("bob", start(2, 2)),
        start(3, 3),
        of("ann", end(1, 5)),
        end(3, 7),
        of("ann", end(4, 7)),
        of("eve", refusal | {"CHIMIRROR_CAUSE": "forbidden"}),
        refusal | {"CHIMIRROR_CAUSE": "unauthenticated"},
        refusal | {"CHIMIRROR_CAUSE": "forbidden", "CHIMIRROR_SUPPRESSED": "40"},
    ]
    alive = history.EndedSessions({identity(2)}, LATER, journal_of(records))
    made = stats.Sums(alive)
    made.add(reversed(records))
    none = {"refused": 0, "duration": 0, "bytes_in": 0, "bytes_out": 0}
    assert made.user_rows() == [
        {
            "user": "ann",
            "started": 1,
            "ended": 2,
            "refused": 0,
            "duration": 3.0,
            "bytes_in": 20,
            "bytes_out": 40,
        },
        {"user": "bob", "started": 1, "ended": 0, **none},
        {"user": "eve", "started": 0, "ended": 0, **none, "refused": 1},
    ]
    assert (made.totals["started"], made.totals["ended"]) == (3, 3)
    assert made.causes["refused", "forbidden"] == 41
    assert made.causes["refused", "unauthenticated"] == 1


def test_a_lost_session_is_of_its_user() -> None:
    records = [of("ann", start(1, 1))]
    found = history.EndedSessions(set(), LATER, journal_of(records))
    (row,) = [row for row in map(found.row, records) if row]
    assert (row["user"], row["reason"]) == ("ann", "lost")
    made = stats.Sums(history.EndedSessions(set(), LATER, journal_of(records)))
    made.add(records)
    assert [(row["user"], row["ended"]) for row in made.user_rows()] == [("ann", 1)]


def test_lost_sessions_have_ended_and_failed() -> None:
    records = [start(1, 1), start(2, 2), start(3, 3), end(3, 4)]
    reader = RecordedJournal(
        {TIMESTAMP: "8000000", **KILLED},
        {TIMESTAMP: "8000001", "UNIT_RESULT": "signal"},
    )
    reader.starts = records[:3]
    found = history.EndedSessions({identity(2)}, LATER, reader)
    totals, causes = sums(records, found)
    assert (totals["started"], totals["ended"], totals["failed"]) == (3, 2, 1)
    assert (totals["bytes_in"], totals["messages_out"]) == (10, 2)
    assert causes == {("ended", "exit 0"): 1, ("ended", "lost: signal"): 1}
    totals, _ = sums(records, history.EndedSessions(None, LATER, reader))
    # the live sessions are not known, so no session counts as lost
    assert totals["ended"] == 1


def test_sessions_that_began_later_are_not_lost() -> None:
    records = [start(1, 1), start(2, 5), start(3, 6), end(3, 7)]
    found = history.EndedSessions(set(), 5_000_000, RecordedJournal())
    rows = [row for row in map(found.row, reversed(records)) if row]
    assert [row["id"] for row in rows] == [identity(3), identity(1)]


@pytest.mark.parametrize(
    ("line", "since", "most"),
    [
        ("history", False, 100),
        ("history --since 1h", True, None),
        ("history --lines 5 --since 1h", True, 5),
        ("history --lines all", False, None),
    ],
)
def test_bounds(line: str, since: bool, most: int | None) -> None:
    found = history.bounds(usage.parse(line.split()))
    assert (found[0] > 0, found[1]) == (since, most)


def test_bounds_that_make_no_sense(tmp_path: Path) -> None:
    for line in ("--lines 0", "--lines many", "--since later"):
        with pytest.raises(CommandError) as caught:
            ctl(Machine(tmp_path / line).host, "history", *line.split())
        assert caught.value.status == os.EX_USAGE
        assert str(caught.value).startswith(line.split()[0])


NOW = datetime(2026, 11, 21, 12, 0).astimezone()


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("2h", NOW - timedelta(hours=2)),
        ("-90", NOW - timedelta(seconds=90)),
        ("1h 30min ago", NOW - timedelta(minutes=90)),
        ("today", NOW.replace(hour=0)),
        ("yesterday", NOW.replace(day=20, hour=0)),
        ("2026-11-02", NOW.replace(day=2, hour=0)),
        ("2026-11-02 10:30", NOW.replace(day=2, hour=10, minute=30)),
        ("2026-11-02 10:30:05", NOW.replace(day=2, hour=10, minute=30, second=5)),
    ],
)
def test_points_in_time(text: str, point: datetime) -> None:
    assert timestamps.since(text, NOW) == int(point.timestamp() * 1_000_000)


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-13-01", "ago"])
def test_invalid_times(text: str) -> None:
    with pytest.raises(CommandError, match="is not a time"):
        timestamps.since(text, NOW)


def test_no_journal(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="there is no journal") as caught:
        ctl(Machine(tmp_path).host, "history")
    assert caught.value.status == os.EX_UNAVAILABLE


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its user")
def test_an_unreadable_journal(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    file = machine.write("log/journal/0123/system.journal", "")
    file.chmod(0o600)
    let_others_in(file.parent)
    uid = os.geteuid()
    os.setresuid(65534, 65534, uid)
    try:
        with pytest.raises(CommandError, match="in group systemd-journal") as caught:
            journal.JournalReader(machine.host)
    finally:
        os.setresuid(uid, uid, uid)
    assert caught.value.status == os.EX_NOPERM


def test_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path)
    machine.write("log/journal/0123/system.journal", "")
    monkeypatch.setitem(__import__("sys").modules, "systemd", None)
    with pytest.raises(CommandError, match=r"install chimirror\[journal\]") as caught:
        journal.JournalReader(machine.host)
    assert caught.value.status == os.EX_UNAVAILABLE


# Records that chimirror did not write


UNITS = {journal.BOOT: "b0", journal.UNIT: "chimirror@1.service"}


def of_bridge(record: Record, pid: str, number: int = 1) -> Record:
    return record | UNITS | {journal.PID: pid, journal.INVOCATION: identity(number)}


class ForgedJournal(RecordedJournal):
    """A journal of a bridge, with pid 7, and of its application, with pid 8."""

    def serving(self, invocation: str) -> list[Record]:
        record = {TIMESTAMP: "1000000", SESSION: identity(1)}
        return [of_bridge(record, "7")] if invocation == identity(1) else []


def test_an_application_cannot_end_a_session() -> None:
    records = [
        of_bridge(start(1, 5), "7"),
        of_bridge(end(1, 6, "forged"), "8"),
        of_bridge(end(2, 6, "forged"), "8"),
        of_bridge(start(3, 6), "8"),
        of_bridge({"MESSAGE_ID": REFUSED, TIMESTAMP: "8"}, "8"),
    ]
    for live in ({identity(1)}, None):
        found = history.EndedSessions(live, LATER, ForgedJournal())
        totals, causes = sums(records, found)
        assert (totals["started"], totals["ended"], totals["refused"]) == (1, 0, 0)
        assert not causes
    records.append(of_bridge(end(1, 9), "7"))
    found = history.EndedSessions(set(), LATER, ForgedJournal())
    totals, causes = sums(records, found)
    assert (totals["started"], totals["ended"]) == (1, 1)
    assert causes == {("ended", "exit 0"): 1}


def test_the_log_of_a_session_has_no_lines_of_others() -> None:
    """An application writes text to the journal like that of records."""
    systemd_end = {"MESSAGE_ID": journal.UNIT_SUCCEEDED, TIMESTAMP: "9"}
    systemd_end |= {journal.ABOUT_INVOCATION: identity(1), "MESSAGE": "Deactivated"}
    foreign = {journal.INVOCATION: identity(2), journal.PID: "9", **UNITS}
    said = {"MESSAGE": "of the application", TIMESTAMP: "7"}
    records = [
        of_bridge(start(1, 5) | {"MESSAGE": "started"}, "7"),
        of_bridge(said, "8"),
        of_bridge(end(1, 6) | {"MESSAGE": "its own forgery"}, "8"),
        end(1, 6) | {"MESSAGE": "forged"} | foreign,
        systemd_end | {"MESSAGE": "forged"} | foreign,
        systemd_end | {"MESSAGE": "forged", journal.PID: "10"},
    ]
    text, has_ended = printed(records)
    messages = [line.rpartition(": ")[2] for line in text.splitlines()]
    assert messages == ["started", "of the application", "its own forgery"]
    assert not has_ended
    for last in (of_bridge(end(1, 9), "7"), systemd_end | {journal.PID: "1"}):
        text, has_ended = printed([*records, last])
        assert len(text.splitlines()) == 4
        assert has_ended


def printed(records: list[Record]) -> tuple[str, bool]:
    """Return the lines that `log` prints, and whether the session has ended."""
    screen = Screen()
    found = log.SessionLog(identity(1), RecordVerifier(ForgedJournal()))
    found.print(records, screen)
    return screen.text, found.has_ended


class Index:
    """The library's reader: records of one MESSAGE_ID each, in their order."""

    def __init__(self, *kinds: str) -> None:
        self.kinds = kinds
        self.flush_matches()

    def flush_matches(self) -> None:
        self.matches: list[str] = []

    def add_match(self, text: str = "", **fields: str) -> None:
        self.matches += [text, *fields.values()]

    def seek_head(self) -> None:
        self.rest = [kind for kind in self.kinds if kind in self.matches]

    def following(self, wanted: object) -> Record | None:
        return {"MESSAGE_ID": self.rest.pop(0)} if self.rest else None


@pytest.mark.parametrize(
    ("kinds", "count"),
    [
        ((), 0),
        ((SERVING, SESSION_STARTED, SERVING), 2),
        ((SESSION_STARTED, SERVING), 0),
        ((SESSION_ENDED, SERVING), 0),
        ((REFUSED, SERVING), 0),
    ],
)
def test_processes_are_named_before_the_first_session(
    kinds: tuple[str, ...], count: int
) -> None:
    """Otherwise the journal has lost its oldest records."""
    reader = RecordedJournal()
    reader._reader = Index(*kinds)
    assert len(journal.JournalReader.serving(reader, "5e")) == count


def test_a_message_cannot_forge_a_record() -> None:
    stamp = {TIMESTAMP: "1790000000000000", "_PID": "7"}
    shown = log.line(
        {**stamp, "SYSLOG_IDENTIFIER": "a\nb", "MESSAGE": "one\ntwo\x1b[2J\x9b\n"}
    )
    head, second = shown.splitlines()
    assert head.endswith(" a\\x0ab[7]: one")
    assert second == "    two\\x1b[2J\\xc2\\x9b"
    assert log.line({TIMESTAMP: "1"}).endswith(" unknown: \n")
