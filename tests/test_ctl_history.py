"""history, stats and log: what is made of the journal's records.

Whether they are read from a journal at all is shown in test_ctl_live.py.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from chimirror.ctl import history, journal, log, usage, when
from chimirror.ctl.failure import Failure
from chimirror.ctl.journal import SESSION, WHEN
from chimirror.system.records import REFUSED, SESSION_ENDED, SESSION_STARTED
from hosts import Machine, ctl, identity

Record = dict[str, str]
LATER = 1 << 50  # than any of these records


class Log(journal.Journal):
    """What systemd has recorded of one unit, and a server of workers.

    Attributes:
        asked: for what, each time.
    """

    def __init__(self, *records: Record, workers: tuple[Record, ...] = ()) -> None:
        self.records = list(records)
        self.workers = list(workers)
        self.asked: list[tuple[str, ...]] = []

    def unit_records(self, identity: str) -> list[Record]:
        self.asked.append((identity,))
        return self.records

    def worker_ends(self, invocation: str, pid: str) -> list[Record]:
        self.asked.append((invocation, pid))
        return self.workers


def start(number: int, seconds: int) -> Record:
    return {
        "MESSAGE_ID": SESSION_STARTED,
        WHEN: str(seconds * 1_000_000),
        SESSION: identity(number),
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
    records: list[Record], live: set[str] | None, told: Log | None = None
) -> list[dict[str, object]]:
    found = history.Ends(live, LATER, told or Log())
    return [row for row in map(found.row, reversed(records)) if row]


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


def test_without_knowing_who_lives_nobody_is_lost() -> None:
    assert ends([start(1, 5)], None) == []


def test_a_start_without_an_end_is_lost() -> None:
    (row,) = ends([start(1, 5)], set())
    assert (row["reason"], row["exit"], row["ended"]) == ("lost", "", 5_000_000)
    assert (row["bytes_in"], row["duration"]) == (None, None)


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("killed", "9", "bridge signal KILL"),
        ("exited", "70", "bridge exit 70"),
        ("killed", "99", "bridge signal 99"),
        ("killed", "KILL", "bridge signal KILL"),
    ],
)
def test_systemd_tells_of_lost_ones(code: str, status: str, said: str) -> None:
    told = Log(
        {
            WHEN: "8000000",
            "MESSAGE_ID": journal.PROCESS_EXIT,
            "EXIT_CODE": code,
            "EXIT_STATUS": status,
        },
        {
            WHEN: "9000000",
            "MESSAGE_ID": journal.UNIT_FAILED,
            "UNIT_RESULT": "oom-kill",
        },
    )
    (row,) = ends([start(1, 5)], set(), told)
    assert (row["reason"], row["exit"]) == ("lost: oom-kill", said)
    assert (row["ended"], row["duration"]) == (9_000_000, 4.0)


KILLED = {"EXIT_CODE": "killed", "EXIT_STATUS": "9"}
OF_SERVER = {journal.INVOCATION: "5e", journal.PID: "77"}


def death(seconds: int, status: str) -> Record:
    """What a supervisor notes of a worker."""
    return {WHEN: str(seconds * 1_000_000), journal.EXIT: status}


@pytest.mark.parametrize(
    ("status", "reason"),
    [("signal KILL", "lost: signal"), ("exit 70", "lost: exit-code")],
)
def test_a_supervisor_tells_of_lost_ones(status: str, reason: str) -> None:
    told = Log(workers=(death(3, "signal SEGV"), death(8, status), death(9, "exit 1")))
    starts = [start(1, 5) | OF_SERVER, start(2, 5) | OF_SERVER]
    for row in ends(starts, set(), told):
        assert (row["exit"], row["reason"]) == (f"worker {status}", reason)
        assert (row["ended"], row["duration"]) == (8_000_000, 3.0)
    assert told.asked == [("5e", "77")]  # once for both


def test_a_whole_server_is_lost() -> None:
    told = Log({WHEN: "8000000", **KILLED}, {WHEN: "8000001", "UNIT_RESULT": "signal"})
    starts = [start(1, 5) | OF_SERVER, start(2, 5) | OF_SERVER]
    for row in ends(starts, set(), told):
        assert (row["exit"], row["reason"]) == ("server signal KILL", "lost: signal")
    assert told.asked == [("5e", "77"), ("5e",)]


def test_a_unit_of_its_own_has_no_workers() -> None:
    told = Log({WHEN: "8000000", **KILLED})
    (row,) = ends([start(1, 5) | {journal.INVOCATION: identity(1)}], set(), told)
    assert row["exit"] == "bridge signal KILL"
    assert told.asked == [(identity(1),)]


def test_sums() -> None:
    records = [
        *(start(1, 1), start(2, 2), start(3, 3), end(1, 5), end(2, 6, "exit 3")),
        end(3, 7, "signal KILL"),
        {"MESSAGE_ID": REFUSED, WHEN: "8", "CHIMIRROR_CAUSE": "max-sessions"},
        {
            "MESSAGE_ID": REFUSED,
            WHEN: "9",
            "CHIMIRROR_CAUSE": "max-sessions",
            "CHIMIRROR_SUPPRESSED": "40",
        },
    ]
    alive = history.Ends(set(), LATER, Log())
    totals, causes = history.tally(reversed(records), alive)
    assert (totals["started"], totals["ended"], totals["failed"]) == (3, 3, 2)
    assert (totals["bytes_in"], totals["messages_out"]) == (30, 6)
    assert totals["refused"] == 42
    assert causes == {
        ("ended", "exit 0"): 1,
        ("ended", "exit 3"): 1,
        ("ended", "signal KILL"): 1,
        ("refused", "max-sessions"): 2,
        ("refused", "not recorded one by one"): 40,
    }


def test_lost_ones_have_ended_and_failed() -> None:
    records = [start(1, 1), start(2, 2), start(3, 3), end(3, 4)]
    told = Log({WHEN: "8000000", **KILLED}, {WHEN: "8000001", "UNIT_RESULT": "signal"})
    found = history.Ends({identity(2)}, LATER, told)
    totals, causes = history.tally(reversed(records), found)
    assert (totals["started"], totals["ended"], totals["failed"]) == (3, 2, 1)
    assert (totals["bytes_in"], totals["messages_out"]) == (10, 2)
    assert causes == {("ended", "exit 0"): 1, ("ended", "lost: signal"): 1}
    totals, _ = history.tally(reversed(records), history.Ends(None, LATER, told))
    assert totals["ended"] == 1  # who lives is not known, so that nobody is lost


def test_who_has_begun_since_the_live_ones_were_looked_for_is_not_lost() -> None:
    records = [start(1, 1), start(2, 5), start(3, 6), end(3, 7)]
    found = history.Ends(set(), 5_000_000, Log())
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
    found = history._bounds(usage.parse(line.split()))
    assert (found[0] > 0, found[1]) == (since, most)


def test_bounds_that_make_no_sense(tmp_path: Path) -> None:
    for line in ("--lines 0", "--lines many", "--since later"):
        with pytest.raises(Failure) as caught:
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
    assert when.since(text, NOW) == int(point.timestamp() * 1_000_000)


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-13-01", "ago"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(Failure, match="is not a time"):
        when.since(text, NOW)


def test_no_journal(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="there is no journal here") as caught:
        ctl(Machine(tmp_path).host, "history")
    assert caught.value.status == os.EX_UNAVAILABLE


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_journal_of_others(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    file = machine.write("log/journal/0123/system.journal", "")
    file.chmod(0o600)
    for directory in list(file.parents)[:6]:
        directory.chmod(0o755)
    uid = os.geteuid()
    os.setresuid(65534, 65534, uid)
    try:
        with pytest.raises(Failure, match="in group systemd-journal") as caught:
            journal.Journal(machine.host)
    finally:
        os.setresuid(uid, uid, uid)
    assert caught.value.status == os.EX_NOPERM


def test_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path)
    machine.write("log/journal/0123/system.journal", "")
    monkeypatch.setitem(__import__("sys").modules, "systemd", None)
    with pytest.raises(Failure, match=r"install chimirror\[journal\]") as caught:
        journal.Journal(machine.host)
    assert caught.value.status == os.EX_UNAVAILABLE


def test_a_line_of_the_log_forges_no_other() -> None:
    stamp = {WHEN: "1790000000000000", "_PID": "7"}
    shown = log.line(
        {**stamp, "SYSLOG_IDENTIFIER": "a\nb", "MESSAGE": "one\ntwo\x1b[2J\x9b\n"}
    )
    head, second = shown.splitlines()
    assert head.endswith(" a\\x0ab[7]: one")
    assert second == "    two\\x1b[2J\\xc2\\x9b"
    assert log.line({WHEN: "1"}).endswith(" unknown: \n")
