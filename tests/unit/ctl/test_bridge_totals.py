"""Counters of bridges: the records that count, and the state between two runs.

tests/systemd/test_ctl_metrics.py reads records from a real journal.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from chimirror.ctl import bridge_totals, json_fields
from chimirror.ctl.bridge_totals import BridgeTotals
from chimirror.ctl.journal import BOOT, INVOCATION, PID, SESSION, TIMESTAMP, UNIT
from chimirror.ctl.session_info import UNKNOWN, SessionInfo
from chimirror.log.records import REFUSED, SESSION_ENDED, SESSION_STARTED
from chimirror.metrics import exposition
from fake_host import identity

Record = dict[str, str]
NOW = 1000


def record(number: int, kind: str, /, **fields: str) -> Record:
    """Return a record of the bridge of a session."""
    return {
        "MESSAGE_ID": kind,
        TIMESTAMP: "1",
        SESSION: identity(number),
        UNIT: f"chimirror@{number}.service",
        INVOCATION: identity(number),
        BOOT: "b",
        PID: str(100 + number),
        **{f"CHIMIRROR_{name}": value for name, value in fields.items()},
    }


def start(number: int, **fields: str) -> Record:
    return record(number, SESSION_STARTED, **fields)


def end(number: int, reason: str = "exit 0", **fields: str) -> Record:
    counts = {name: str(10 + i) for i, name in enumerate(bridge_totals.TRAFFIC)}
    return record(number, SESSION_ENDED, REASON=reason, **counts | fields)


def live(number: int, *counts: int, state: str = "open") -> SessionInfo:
    info = SessionInfo(identity(number), 1, 1, state=state)
    if counts:
        info.bytes_in, info.bytes_out, info.messages_in, info.messages_out = counts
    return info


def genuine(record: Record) -> bool:
    return record.get("forged") is None


def ended(totals: BridgeTotals) -> dict[tuple[str, ...], object]:
    return dict(totals.counters()["chimirror_sessions_ended_total"])


def traffic(totals: BridgeTotals) -> list[object]:
    samples = totals.counters()
    return [
        samples[f"chimirror_{name}_total"][direction,]
        for name in ("bytes", "messages")
        for direction in ("in", "out")
    ]


def run(
    totals: BridgeTotals,
    *records: Record,
    sessions: tuple[SessionInfo, ...] = (),
    complete: bool = True,
) -> BridgeTotals:
    """Return the counters after one run, as the next one reads them."""
    totals.add(records, genuine)
    totals.settle(sessions, NOW, complete=complete)
    return BridgeTotals.from_json(json.loads(json.dumps(totals.to_json())))


def test_ends_by_application_and_reason() -> None:
    unit = {UNIT: "chimirror-chess@1.service"}
    totals = run(
        BridgeTotals(),
        *(start(1), end(1), start(2), end(2, "error: no such file")),
        *(start(3, APPLICATION="sh") | unit, end(3, APPLICATION="sh") | unit),
        *(start(4) | unit, end(4) | unit, end(5, "")),
    )
    assert ended(totals) == {
        ("", "exit 0"): 1,
        ("", "error"): 1,
        ("sh", "exit 0"): 1,
        ("chess", "exit 0"): 1,
        ("", "unknown"): 1,
    }
    assert traffic(totals) == [50, 55, 60, 65]
    assert not totals.open


def test_records_that_do_not_count() -> None:
    of_server = {UNIT: "chimirror-server.service"}
    of_agent = {UNIT: "chimirror-agent@1-2.service"}
    totals = run(
        BridgeTotals(),
        *(end(1) | of_server, end(2) | {"forged": "yes"}, end(3) | of_agent),
        *(start(4) | of_server, {"MESSAGE_ID": SESSION_ENDED, TIMESTAMP: "1"}),
    )
    assert ended(totals) == {}
    assert traffic(totals) == [0, 0, 0, 0]


def test_an_end_whose_start_counted_needs_no_other_record() -> None:
    """The journal may have lost them, and may not know the unit of a dead process."""
    totals = run(BridgeTotals(), start(1), sessions=(live(1),))
    last = {**end(1), "forged": "yes"}
    del last[UNIT], last[INVOCATION]
    totals = run(totals, {**last, PID: "7"}, {**last, BOOT: "c"}, sessions=(live(1),))
    assert ended(totals) == {}
    assert ended(run(totals, last)) == {("", "exit 0"): 1}


def test_times_of_starts() -> None:
    """Each session counts once, and one without a time does not."""
    starts = [start(1, START_USEC="900"), start(2, START_USEC="2000000"), start(3)]
    totals = run(BridgeTotals(), *starts, starts[0], sessions=(live(1), live(2)))
    totals = run(totals, start(4, START_USEC="x"), end(2), start(5, START_USEC="90"))
    lines = exposition.render(totals.counters()).decode().splitlines()
    found = dict(line.rsplit(" ", 1) for line in lines if "start_seconds" in line)
    bucket = 'chimirror_start_seconds_bucket{{le="{}"}}'.format
    assert (found[bucket("0.001")], found[bucket("1.0")]) == ("2", "2")
    assert found[bucket("2.5")] == found["chimirror_start_seconds_count"] == "3"
    assert found["chimirror_start_seconds_sum"] == "2.00099"


def test_refusals() -> None:
    refused = record(1, REFUSED, CAUSE="origin")
    many = record(1, REFUSED, CAUSE="origin", SUPPRESSED="40")
    other = record(2, REFUSED, CAUSE="host")
    totals = run(BridgeTotals(), refused, many, other, other | {"forged": "yes"})
    assert totals.counters()["chimirror_refusals_total"] == {
        ("origin",): 41,
        ("host",): 1,
    }


def test_live_traffic_becomes_that_of_the_end() -> None:
    totals = run(BridgeTotals(), start(1), sessions=(live(1, 5, 6, 7, 8),))
    assert traffic(totals) == [5, 6, 7, 8]
    totals = run(totals, sessions=(live(1, 9, 9, 9, 9),))
    assert traffic(totals) == [9, 9, 9, 9]
    # The unit may be there for a while after its last record.
    for _ in range(2):
        records = [end(1)] if totals.open else []
        totals = run(totals, *records, sessions=(live(1, 10, 11, 12, 13),))
        assert traffic(totals) == [10, 11, 12, 13]
    totals = run(totals)
    assert traffic(totals) == [10, 11, 12, 13]
    assert not totals.ending


def test_a_session_that_ended_without_a_record() -> None:
    totals = run(
        BridgeTotals(), start(1, APPLICATION="sh"), sessions=(live(1, 5, 6, 7, 8),)
    )
    for _ in range(2):
        totals = run(totals)
        assert ended(totals) == {("sh", "lost"): 1}
        assert traffic(totals) == [5, 6, 7, 8]


def test_a_late_record_of_a_lost_session() -> None:
    """No counter goes back, so the session stays lost."""
    totals = run(BridgeTotals(), start(1), sessions=(live(1, 5, 6, 7, 8),))
    totals = run(run(totals), end(1))
    assert ended(totals) == {("", "lost"): 1}
    assert traffic(totals) == [5, 6, 7, 8]
    assert not totals.lost


def test_traffic_of_a_session_without_records() -> None:
    """The journal has lost its start, and it was killed: no counter goes back."""
    totals = run(BridgeTotals(), sessions=(live(1, 5, 6, 7, 8),))
    for _ in range(2):
        totals = run(totals)
        assert traffic(totals) == [5, 6, 7, 8]
        assert ended(totals) == {}


def test_sessions_that_are_not_lost() -> None:
    later = start(2) | {TIMESTAMP: str(NOW)}
    totals = run(BridgeTotals(), later, start(1), sessions=(live(1),))
    assert ended(totals) == {}
    # Some directory could not be read.
    totals = run(totals, complete=False)
    assert ended(totals) == {}
    assert ended(run(totals)) == {("", "lost"): 1}


def test_gauges() -> None:
    sessions = [live(1), live(2, state="closing"), live(3, state=UNKNOWN), live(4)]
    assert bridge_totals.gauges(sessions) == {
        ("", "open"): 2,
        ("", "closing"): 1,
        ("", "starting"): 1,
    }
    assert bridge_totals.gauges([]) == {("", "open"): 0}


def damaged() -> Iterator[dict[str, object]]:
    good = run(BridgeTotals(), start(1), sessions=(live(1, 1, 1, 1, 1),)).to_json()
    for name in good:
        yield {key: value for key, value in good.items() if key != name}
        yield good | {name: -1}
    yield good | {"ended": [["a", "b"]]}
    yield good | {"ended": [["a", "b", True]]}
    yield good | {"refused": {"a": -1}}
    yield good | {"traffic": [1, 2, 3]}
    yield good | {"starts": [1, 2, 3]}
    yield good | {"open": {"a": ["", "1", "", ""]}}


@pytest.mark.parametrize("value", [*damaged()])
def test_damaged_files(value: dict[str, object]) -> None:
    with pytest.raises(json_fields.Malformed):
        BridgeTotals.from_json(value)
