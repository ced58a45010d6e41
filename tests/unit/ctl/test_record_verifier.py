"""Records that count: written by processes that chimirror itself has named."""

from __future__ import annotations

import pytest

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
from chimirror.ctl.record_verifier import NAMING_DELAY, RecordVerifier
from fake_host import identity

Record = dict[str, str]
BRIDGE_UNIT, SERVER_UNIT = "chimirror@1.service", "chimirror-server.service"
SECOND = 1_000_000
FIRST = 100 * SECOND  # time of the first record


class Records:
    """Journal of these records.

    Attributes:
        queries: Number of queries.
    """

    def __init__(
        self,
        serving: list[Record] | None = None,
        starts: list[Record] | None = None,
        ends: list[Record] | None = None,
    ) -> None:
        self.named, self.started, self.ended = serving or [], starts or [], ends or []
        self.queries = 0

    def serving(self, invocation: str) -> list[Record]:
        self.queries += 1
        return [one for one in self.named if one[INVOCATION] == invocation]

    def session_starts(self, session: str) -> list[Record]:
        self.queries += 1
        return [one for one in self.started if one[SESSION] == session]

    def worker_ends(self, invocation: str, pid: str) -> list[Record]:
        self.queries += 1
        return [one for one in self.ended if one[WORKER] == pid]


def record(pid: int, invocation: str, unit: str, about: Record) -> Record:
    sent = {PID: str(pid), INVOCATION: invocation, UNIT: unit, BOOT: "b0"}
    return {TIMESTAMP: str(FIRST), **sent, **about}


def after(seconds: int) -> Record:
    return {TIMESTAMP: str(FIRST + seconds * SECOND)}


def of_bridge(pid: int, session: int = 1, unit: int = 1) -> Record:
    return record(pid, identity(unit), BRIDGE_UNIT, {SESSION: identity(session)})


def of_server(pid: int, seconds: int = 0, session: int = 1) -> Record:
    about = {SESSION: identity(session)} | after(seconds)
    return record(pid, "5e", SERVER_UNIT, about)


def worker(supervisor: int, pid: int, seconds: int = 0) -> Record:
    """A record about the start or the end of a worker."""
    return record(supervisor, "5e", SERVER_UNIT, {WORKER: str(pid)} | after(seconds))


def named_server() -> list[Record]:
    """Supervisor 10 with workers 11 and 12."""
    supervisor = record(10, "5e", SERVER_UNIT, {SUPERVISOR: "10"})
    forged = worker(13, 13, 1)
    return [supervisor, worker(10, 11), worker(10, 12), forged]


# Bridges


def test_a_bridge_is_believed_and_its_application_is_not() -> None:
    verifier = RecordVerifier(Records([of_bridge(7), of_bridge(8)]))
    assert verifier.is_genuine(of_bridge(7))
    assert not verifier.is_genuine(of_bridge(8))


def test_a_unit_has_its_own_session_only() -> None:
    verifier = RecordVerifier(Records([of_bridge(7)], [of_bridge(7, session=2)]))
    assert not verifier.is_genuine(of_bridge(7, session=2))
    assert not verifier.is_genuine(of_bridge(8, session=2))


def test_an_application_writes_of_the_session_of_another_unit() -> None:
    """Even the first start record of it does not make the application its sender."""
    forged = of_bridge(8, session=2)
    true = of_bridge(9, session=2, unit=2)
    for named in ([of_bridge(7)], [of_bridge(7), true]):
        verifier = RecordVerifier(Records(named, [forged, true]))
        assert not verifier.is_genuine(forged)
        assert verifier.is_genuine(true)


def test_a_refusal_needs_no_named_process_if_no_application_was_started() -> None:
    refusal = record(7, identity(1), BRIDGE_UNIT, {})
    assert RecordVerifier(Records()).is_genuine(refusal)
    verifier = RecordVerifier(Records([of_bridge(7)]))
    assert verifier.is_genuine(refusal)
    assert not verifier.is_genuine(refusal | {PID: "8"})


def test_the_last_record_of_a_process_may_have_no_unit() -> None:
    """The journal finds no unit of a process that has ended. It knows its number."""
    start = of_bridge(7)
    last = without_unit(start)
    verifier = RecordVerifier(Records([start], [start, without_unit(of_bridge(8))]))
    assert verifier.is_genuine(last)
    assert not verifier.is_genuine(last | {PID: "8"})
    assert not verifier.is_genuine(last | {BOOT: "b1"})


def test_all_records_of_a_short_session_may_have_no_unit() -> None:
    """The bridge has announced itself, and has ended before the journal looks."""
    start = without_unit(of_bridge(7))
    verifier = RecordVerifier(Records([of_bridge(7)], [start]))
    assert verifier.is_genuine(start)
    assert not verifier.is_genuine(start | {PID: "8"})
    assert not verifier.is_genuine(start | {SESSION: identity(2)})


@pytest.mark.parametrize("session", [identity(1), ""])
def test_a_process_that_has_ended_invents_nothing(session: str) -> None:
    """An application starts a child that sends a record and exits at once."""
    forged = without_unit(of_bridge(8)) | {SESSION: session}
    assert not RecordVerifier(Records(starts=[forged])).is_genuine(forged)


def without_unit(sent: Record) -> Record:
    return {name: sent[name] for name in (TIMESTAMP, SESSION, PID, BOOT)}


# Servers


def test_workers_that_the_supervisor_names_are_believed() -> None:
    verifier = RecordVerifier(Records(named_server()))
    for pid, genuine in ((10, True), (11, True), (12, True), (13, False), (14, False)):
        assert verifier.is_genuine(of_server(pid, 5, session=pid)) == genuine


def test_a_worker_may_be_named_a_little_later() -> None:
    verifier = RecordVerifier(Records(named_server()))
    delay = NAMING_DELAY // SECOND
    assert verifier.is_genuine(of_server(11, -delay))
    assert not verifier.is_genuine(of_server(11, -delay - 1))


def test_after_its_end_a_worker_has_no_number() -> None:
    """Only the supervisor records the end. Later a worker has the number again."""
    ends = [worker(13, 11, 2), worker(10, 11, 6)]
    journal = Records(named_server(), ends=ends)
    verifier = RecordVerifier(journal)
    times = [-5, 1, 5, 6, 7, 50, 100]
    genuine = [time for time in times if verifier.is_genuine(of_server(11, time))]
    assert genuine == [-5, 1, 5, 6]
    assert journal.queries == 2
    named = [*named_server(), worker(10, 11, 60)]
    verifier = RecordVerifier(Records(named, ends=ends))
    genuine = [time for time in times if verifier.is_genuine(of_server(11, time))]
    assert genuine == [-5, 1, 5, 6, 50, 100]


def test_new_workers_are_found_after_forgetting() -> None:
    journal = Records(named_server())
    verifier = RecordVerifier(journal)
    assert not verifier.is_genuine(of_server(15, 9))
    journal.named.append(worker(10, 15, 9))
    verifier.forget()
    assert verifier.is_genuine(of_server(15, 9))


# Without named processes


def unnamed(pid: int) -> Record:
    """A record of a program that no unit of its own runs."""
    return record(pid, "c0", "session-1.scope", {SESSION: identity(1)})


@pytest.mark.parametrize(
    "shared",
    [
        {},
        {UNIT: "cron.service"},
        {UNIT: "user@1.service", USER_UNIT: "a.service"},
    ],
)
def test_the_first_start_binds_a_session(shared: Record) -> None:
    true = unnamed(7) | shared
    verifier = RecordVerifier(Records(starts=[true, unnamed(8) | shared]))
    assert verifier.is_genuine(true)
    for changes in ({PID: "8"}, {INVOCATION: "c1"}, {BOOT: "b1"}):
        assert not verifier.is_genuine(true | changes)


def test_a_session_without_a_start_is_not_believed() -> None:
    assert not RecordVerifier(Records()).is_genuine(unnamed(7))


def test_processes_that_share_an_invocation_are_not_named_by_each_other() -> None:
    """Several servers of one user. Each is believed about its own sessions."""
    user = {UNIT: "user@1.service", USER_UNIT: "a.service", INVOCATION: "5e"}
    starts = [of_server(20, session=1) | user, of_server(21, session=2) | user]
    verifier = RecordVerifier(Records(named_server(), starts))
    assert all(verifier.is_genuine(start) for start in starts)


def test_a_server_with_process_ids_of_its_own_names_no_process() -> None:
    """With PrivatePIDs= the journal has other process ids than the supervisor."""
    named = [record(10, "5e", SERVER_UNIT, {SUPERVISOR: "1"}), worker(10, 2)]
    verifier = RecordVerifier(Records(named, [of_server(11), of_server(14)]))
    assert verifier.is_genuine(of_server(11))
    assert not verifier.is_genuine(of_server(14))


def test_a_server_without_its_first_record_names_no_process() -> None:
    """The journal has dropped it, and kept that of a later worker."""
    named = [worker(10, 15)]
    verifier = RecordVerifier(Records(named, [of_server(11), of_server(14)]))
    assert verifier.is_genuine(of_server(11))
    assert not verifier.is_genuine(of_server(14))


def test_the_zygote_writes_no_records() -> None:
    """Its applications can."""
    forged = record(7, "7a", "chimirror-zygote.service", {SESSION: identity(1)})
    verifier = RecordVerifier(Records(starts=[forged]))
    assert not verifier.is_genuine(forged)
