"""Queues in front of the log: order of service, bounds, waiting for room, the end."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from chimirror.io.loop import READ, EventLoop
from chimirror.log import record_writer, sinks, stream_sinks
from chimirror.log.output_logger import OutputLogger
from chimirror.log.record_writer import (
    GONE_TIMEOUT,
    MAX_RECORDS,
    MAX_VAIN_WAKEUPS,
    SHARE,
)
from chimirror.log.records import (
    APPLICATION_OUTPUT,
    MESSAGE,
    SESSION_ENDED,
    EventLog,
)
from fake_journal import FakeJournal
from fake_sink import FakeSink, event_log_to
from loops import FakeTimeWithPoller, Timer, event_loop, turn_until

CHUNK = 64 * 1024  # one read of a pipe


class Source:
    """Application that writes endlessly, but only while its stream is not paused."""

    def __init__(self, log: EventLog, session: str = "1d" * 16) -> None:
        self.output = OutputLogger(log, session, self)
        self.paused: set[str] = set()
        self.most = 0  # bytes held at once

    def pause_stream(self, stream: str) -> None:
        assert stream not in self.paused
        self.paused.add(stream)

    def resume_stream(self, stream: str) -> None:
        self.paused.remove(stream)

    def write(self, data: bytes, stream: str = "stderr") -> None:
        assert stream not in self.paused
        self.output.write(stream, data)
        self.most = max(self.most, self.output.size)


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    fake_time = FakeTimeWithPoller()
    with event_loop(lambda: fake_time, fake_time) as made:
        yield made


@pytest.fixture
def sink() -> FakeSink:
    return FakeSink()


@pytest.fixture
def log(loop: EventLoop, sink: FakeSink) -> EventLog:
    return event_log_to(sink, loop)


def pass_time(loop: EventLoop, seconds: float) -> None:
    timer = Timer(loop)
    loop.set_timer(timer, loop.now + seconds)
    turn_until(loop, lambda: timer.calls)


def numbers(first: int, count: int) -> bytes:
    return b"".join(b"%d\n" % number for number in range(first, first + count))


# Order of service


class Neighbor:
    """Another session, which echoes one byte."""

    def __init__(self, loop: EventLoop) -> None:
        self.client, self.server = socket.socketpair()
        self.loop = loop
        loop.watch(self.server.fileno(), self, READ)

    def on_event(self, fd: int, events: int) -> None:
        self.server.send(self.server.recv(1))

    def on_error(self, error: Exception) -> None:
        raise error

    def close(self) -> None:
        self.loop.watch(self.server.fileno(), self, 0)
        self.client.close()
        self.server.close()


def test_a_turn_writes_a_bounded_number_of_lines(
    loop: EventLoop, log: EventLog, sink: FakeSink
) -> None:
    """`yes x >&2` fills a read with 32,768 lines. A neighbor is served in each turn."""
    source, neighbor = Source(log), Neighbor(loop)
    source.write(b"x\n" * (CHUNK // 2))
    for turn in range(1, CHUNK // 2 // SHARE + 1):
        neighbor.client.send(b"a")
        loop.run_once()
        assert neighbor.client.recv(1) == b"a"
        assert len(sink.records) == turn * SHARE
    assert not source.paused
    neighbor.close()


def test_applications_are_served_by_turns(
    loop: EventLoop, log: EventLog, sink: FakeSink
) -> None:
    for name in ("a", "b", "c"):
        Source(log, name).write(b"%b\n" % name.encode() * 100)
    for _ in "abca":
        loop.run_once()
    shares = b"".join(sink.records).decode()
    assert shares == "".join(name * SHARE for name in "abca")


def test_the_two_streams_of_an_application_are_served_by_turns(
    loop: EventLoop, log: EventLog, sink: FakeSink
) -> None:
    source = Source(log)
    source.write(b"o\n" * 100, "stdout")
    source.write(b"e\n" * SHARE)
    for _ in range(4):
        loop.run_once()
    shares = b"".join(sink.records).decode()
    assert shares == "o" * SHARE + "e" * SHARE + "o" * 2 * SHARE
    assert source.paused == {"stdout"}


def test_records_of_sessions_come_before_lines(
    loop: EventLoop, log: EventLog, sink: FakeSink
) -> None:
    Source(log).write(b"x\n" * 1000)
    loop.run_once()
    log.message(3, "urgent")
    loop.run_once()
    assert b"urgent" in sink.records[SHARE]


def test_few_lines_pause_nothing(
    loop: EventLoop, log: EventLog, sink: FakeSink
) -> None:
    source = Source(log)
    for _ in range(5):
        source.write(b"one\ntw")
        source.write(b"o\n")
        loop.run_once()
        assert not source.paused
    assert sink.records == [b"one", b"two"] * 5


def test_the_last_record_of_a_session_follows_its_lines(
    loop: EventLoop, log: EventLog, sink: FakeSink
) -> None:
    source = Source(log, "s")
    source.write(b"x\n" * 100 + b"unfinished")
    source.output.finish()
    end(log, "s", source.output)
    end(log, "other")
    turn_until(loop, lambda: log.written == 103)
    assert b"other" in sink.records[0]
    assert sink.records[101] == b"unfinished"
    assert b" s " in sink.records[102]


def end(log: EventLog, session: str, output: OutputLogger | None = None) -> None:
    ways = ("exit 0", "exit 0")
    log.session_ended(session, "p", "c", 0, 0, 0, 0, *ways, 1, output=output)


# Waiting for room


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeJournal]:
    path = str(tmp_path / "journal")
    monkeypatch.setattr(sinks, "JOURNAL", path)
    fake = FakeJournal(path)
    yield fake
    fake.server.close()


@pytest.fixture
def journal_log(loop: EventLoop, journal: FakeJournal) -> Iterator[EventLog]:
    made = EventLog(stderr_was_connection=True, environ={})
    made.attach(loop)
    yield made
    made._sink.close()


def test_nothing_is_lost_with_a_slow_journal(
    loop: EventLoop, journal_log: EventLog, journal: FakeJournal
) -> None:
    """It reads one record now and then. Meanwhile nothing turns in vain."""
    source, turns, total = Source(journal_log), 0, 3000
    source.write(numbers(0, total))
    read = []
    while journal_log.written < total:
        loop.run_once()
        turns += 1
        assert (source.paused == {"stderr"}) == (source.output.size > 0)
        read += journal.make_room(journal_log._sink.fileno())
    read += journal.rest()
    assert [record["MESSAGE"] for record in read] == [
        f"1d1d1d1d: {number}" for number in range(total)
    ]
    assert (journal_log.dropped, source.paused) == (0, set())
    assert turns <= total + 10


def test_nothing_is_lost_with_a_slow_reader_of_standard_error(loop: EventLoop) -> None:
    read, write = os.pipe()
    log = EventLog(environ={})
    log._sink = stream_sinks.JSONSink(write)
    log.attach(loop)
    source = Source(log)
    source.write(numbers(0, 3000))
    found = b""
    while log.written < 3000:
        if log._is_waiting:
            found += os.read(read, 5000)
        loop.run_once()
    found += os.read(read, 1 << 20)
    lines = [json.loads(line)["MESSAGE"] for line in found.splitlines()]
    assert lines == [str(number) for number in range(3000)]
    assert (log.dropped, source.paused) == (0, set())
    log._sink.close()
    os.close(read)
    os.close(write)


def test_one_chunk_and_one_line_are_held(
    loop: EventLoop, log: EventLog, sink: FakeSink
) -> None:
    """An application writes whenever it is read. The log stands still, then moves."""
    source = Source(log)
    sink.room = 0
    for _ in range(100):
        if not source.paused:
            source.write(b"y" * 99 + b"x\n" * CHUNK)
        loop.run_once()
        sink.room += 50
    assert source.most <= 2 * CHUNK + 99
    assert log.dropped == 0


def test_while_the_log_is_full_streams_are_paused_at_once(
    loop: EventLoop, log: EventLog, sink: FakeSink
) -> None:
    sink.room = 0
    first, second = Source(log, "a"), Source(log, "b")
    first.write(b"x\n")
    loop.run_once()
    second.write(b"x\n")
    assert (first.paused, second.paused) == ({"stderr"}, {"stderr"})
    sink.room = None
    pass_time(loop, 1)
    assert (first.paused, second.paused) == (set(), set())
    assert len(sink.records) == 2


def test_room_that_others_take_is_no_busy_loop(
    loop: EventLoop, log: EventLog, sink: FakeSink
) -> None:
    """The descriptor seems to have room, but every write finds none."""
    sink.room = 0
    one, other = socket.socketpair()
    with one, other:
        sink.fd = one.fileno()
        Source(log).write(b"x\n")
        pass_time(loop, 10.0)
        assert sink.attempts <= 42 * (MAX_VAIN_WAKEUPS + 1)
        sink.room = 1
        pass_time(loop, 1.0)
        assert sink.records == [b"x"]


def test_a_file_that_cannot_be_polled_is_tried_again(
    loop: EventLoop, log: EventLog, sink: FakeSink, tmp_path: Path
) -> None:
    sink.room = 0
    with open(tmp_path / "file", "w") as file:
        sink.fd = file.fileno()
        Source(log).write(b"x\n")
        pass_time(loop, 1.0)
        sink.room = 1
        pass_time(loop, 1.0)
    assert sink.records == [b"x"]


# Bounds


def test_records_of_sessions_do_not_wait_without_bound(
    loop: EventLoop, log: EventLog, sink: FakeSink
) -> None:
    sink.room = 0
    for _ in range(3):
        for _ in range(MAX_RECORDS):
            log.message(6, "text")
        loop.run_once()
    assert log.dropped == 2 * MAX_RECORDS
    sink.room = None
    pass_time(loop, 1.0)
    first, *others = sink.records
    assert len(others) == MAX_RECORDS == log.written
    assert first.startswith(b"dropped 2048 records: the log did not take them ")
    assert not [record for record in others if b"dropped" in record]


def test_the_last_lines_of_ended_applications_are_bounded(
    loop: EventLoop, log: EventLog, sink: FakeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 4
    monkeypatch.setattr(record_writer, "MAX_ENDED_BYTES", count * CHUNK)
    sink.room = 0
    for number in range(count + 2):
        source = Source(log, str(number))
        source.write(b"x" * 99 + b"\n" + b"x\n" * (CHUNK // 2 - 50))
        source.output.finish()
        loop.run_once()
    assert log.dropped == 2 * (CHUNK // 2 - 49)
    assert log._ended_bytes == count * CHUNK
    sink.room = None
    turn_until(loop, lambda: log.written == count * (CHUNK // 2 - 49))
    assert log._ended_bytes == 0
    assert not log._queue
    sink.records.clear()
    end(log, "5", source.output)
    loop.run_once()
    report, last = sink.records
    assert report.startswith(b"dropped %d lines of session 5: " % (CHUNK // 2 - 49))
    assert b" (%d lines dropped) " % (CHUNK // 2 - 49) in last
    assert last.endswith(b" %d" % (CHUNK // 2 - 49))


def test_a_session_without_dropped_lines_reports_none(
    loop: EventLoop, log: EventLog, sink: FakeSink
) -> None:
    """Records of other sessions were dropped meanwhile."""
    sink.room = 0
    source = Source(log, "s")
    source.write(b"x\n")
    source.output.finish()
    end(log, "s", source.output)
    for _ in range(MAX_RECORDS + 1):
        log.message(6, "text")
    loop.run_once()
    sink.room = None
    turn_until(loop, lambda: log.written == MAX_RECORDS + 2)
    assert sink.records[0].startswith(b"dropped 1 record: ")
    assert b"x" in sink.records
    last = sink.records[-1]
    assert last.startswith(b"session s for p ended after 0.0 s: exit 0 ")


def test_a_record_that_no_datagram_takes_is_dropped(
    loop: EventLoop, log: EventLog, sink: FakeSink
) -> None:
    sink.failure = OSError(errno.EMSGSIZE, "Message too long")
    log.message(3, "too long")
    loop.run_once()
    sink.failure = None
    log.message(3, "short")
    loop.run_once()
    report, record = sink.records
    assert (log.dropped, log.written) == (1, 1)
    assert report.startswith(b"dropped 1 record: ")
    assert record.startswith(b"short ")


# A log that is gone


def test_a_journal_that_comes_back_in_time_loses_nothing(
    loop: EventLoop, journal_log: EventLog, journal: FakeJournal, tmp_path: Path
) -> None:
    journal.server.close()
    os.unlink(tmp_path / "journal")
    source = Source(journal_log)
    source.write(numbers(0, 8))
    journal_log.message(3, "text")
    pass_time(loop, GONE_TIMEOUT - 1)
    assert source.paused
    journal.server = FakeJournal(str(tmp_path / "journal")).server
    pass_time(loop, 1)
    found = [record["MESSAGE"] for record in journal.rest()]
    assert found == ["text", *(f"1d1d1d1d: {number}" for number in range(8))]
    assert (journal_log.dropped, source.paused) == (0, set())


def test_no_application_waits_for_ever_for_a_journal_that_is_gone(
    loop: EventLoop, journal_log: EventLog, journal: FakeJournal, tmp_path: Path
) -> None:
    """Lines are dropped after a timeout, a bounded number each turn, and counted."""
    journal.server.close()
    os.unlink(tmp_path / "journal")
    source = Source(journal_log)
    source.write(b"x\n" * 1000)
    pass_time(loop, GONE_TIMEOUT - 1)
    assert (journal_log.dropped, len(source.paused)) == (0, 1)
    turn_until(loop, lambda: journal_log.dropped)
    assert journal_log.dropped == SHARE
    pass_time(loop, 2)
    assert (journal_log.dropped, source.paused) == (1000, set())
    source.write(b"y\n" * 10)
    loop.run_once()
    assert (journal_log.dropped, source.paused) == (1010, set()), "it waits no more"
    journal.server = FakeJournal(str(tmp_path / "journal")).server
    pass_time(loop, 1)
    source.write(b"z\n")
    loop.run_once()
    report, record = journal.rest()
    text = "dropped 1010 lines of session 1d1d1d1d: the log did not take them"
    assert (report["MESSAGE"], report["MESSAGE_ID"]) == (text, MESSAGE)
    assert (report["CHIMIRROR_DROPPED"], report["PRIORITY"]) == ("1010", "4")
    assert report["CHIMIRROR_SESSION"] == "1d" * 16
    text, kind = "1d1d1d1d: z", APPLICATION_OUTPUT
    assert (record["MESSAGE"], record["MESSAGE_ID"]) == (text, kind)
    source.output.finish()
    end(journal_log, "1d" * 16, source.output)
    loop.run_once()
    (last,) = journal.rest()
    assert (last["MESSAGE_ID"], last["CHIMIRROR_DROPPED"]) == (SESSION_ENDED, "1010")


# The end


def test_the_process_exits_when_all_is_written(
    loop: EventLoop, journal_log: EventLog, journal: FakeJournal
) -> None:
    """At the end the writer waits for the journal, here for another process."""
    source = Source(journal_log)
    source.write(numbers(0, 100))
    source.output.finish()
    end(journal_log, "1d" * 16, source.output)
    loop.run_once()
    report, result = os.pipe()
    pid = os.fork()
    if not pid:
        journal.server.setblocking(True)
        for _ in range(101):
            os.write(result, journal.read()["MESSAGE"][:12].encode() + b"\n")
        os._exit(0)
    os.close(result)
    journal_log.finish()
    os.waitpid(pid, 0)
    said = os.read(report, 1 << 16).decode().splitlines()
    os.close(report)
    assert said == [*(f"1d1d1d1d: {number}" for number in range(100)), "session 1d1d"]


@pytest.mark.parametrize("trouble", ["full", "gone"])
def test_the_exit_does_not_wait_for_ever(
    loop: EventLoop,
    journal_log: EventLog,
    journal: FakeJournal,
    tmp_path: Path,
    trouble: str,
) -> None:
    if trouble == "gone":
        journal.server.close()
        os.unlink(tmp_path / "journal")
    Source(journal_log).write(numbers(0, 1000))
    loop.run_once()
    journal_log.finish(0)
    assert journal_log.dropped == 1000 - len(
        journal.rest() if trouble == "full" else []
    )


def test_the_time_of_a_blocked_log_counts_from_before_the_exit(
    loop: EventLoop, journal_log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers of a server and its supervisor wait for the same log."""
    Source(journal_log).write(numbers(0, 1000))
    pass_time(loop, 60)
    waits: list[float] = []
    monkeypatch.setattr(
        record_writer, "_await_room", lambda _, time: waits.append(time)
    )
    journal_log.finish(60)
    assert not waits


class RecordsOnlySink(FakeSink):
    """Log without room for lines."""

    def write(self, records: list[bytes]) -> int:
        return 0 if b"x" in records else super().write(records)


def test_the_last_records_count_the_lines_that_are_left(loop: EventLoop) -> None:
    sink = RecordsOnlySink()
    log = event_log_to(sink, loop)
    for name in ("a", "b"):
        source = Source(log, name)
        source.write(b"x\n" * 100)
        source.output.finish()
        end(log, name, source.output)
    loop.run_once()
    log.finish(0)
    first_report, first, second_report, second = sink.records
    assert first_report.startswith(b"dropped 100 lines of session a: ")
    assert b"exit 0 (100 lines dropped) " in first
    assert second_report.startswith(b"dropped 100 lines of session b: ")
    assert b"exit 0 (100 lines dropped) " in second


def test_records_of_the_parent_are_not_written_twice(
    loop: EventLoop, journal_log: EventLog, journal: FakeJournal
) -> None:
    """A worker inherits the queue of its supervisor, which waits for the journal."""
    for _ in range(50):
        journal_log.message(3, "of the parent")
    loop.run_once()
    pid = os.fork()
    if not pid:
        with event_loop() as own:
            journal_log.attach(own)
            journal_log.finish()
        os._exit(0)
    os.waitpid(pid, 0)
    found: list[dict[str, str]] = []
    while journal_log.written < 50:
        found += journal.rest()
        loop.run_once()
    found += journal.rest()
    assert len(found) == 50


def test_standard_error_of_a_descriptor_of_the_loop(loop: EventLoop) -> None:
    """The writer watches its own descriptor, and lets go of it at the end."""
    read, write = os.pipe()
    log = EventLog(environ={})
    log._sink = stream_sinks.JSONSink(write)
    log.attach(loop)
    source = Source(log)
    source.write(b"x" * 99 + b"\n" + b"x\n" * 1000)
    pass_time(loop, 1)
    os.close(read)
    pass_time(loop, GONE_TIMEOUT + 1)
    assert source.paused == set()
    log.finish()
    os.close(write)
