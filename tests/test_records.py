"""Records: what is told, in which fields, and what hostile values become."""

from __future__ import annotations

import codecs
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.system import records, sinks
from chimirror.system.records import Records, _whole
from journal import FakeJournal

HOSTILE = [
    "a\nMESSAGE=forged\nPRIORITY=0",
    "\x1b[2J\x1b]0;title\x07",
    "\0\x7f\u202e\u2028",
    "\udcff\ud800",
    'quote " and \\ backslash',
    "x" * 10_000_000,
    "😀" * 300,
]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeJournal]:
    path = str(tmp_path / "journal")
    monkeypatch.setattr(sinks, "JOURNAL", path)
    fake = FakeJournal(path)
    yield fake
    fake.server.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told(clock: Clock, journal: FakeJournal) -> Iterator[Records]:
    """Records that go to the fake journal."""
    assert journal.rest() == []
    made = Records(environ={"JOURNAL_STREAM": sinks.journal_stream(2)}, clock=clock)
    yield made
    made.close()


@contextmanager
def stderr_is_a_pipe() -> Iterator[Callable[[], list[dict[str, str]]]]:
    """Gives what was written to descriptor 2 since it was last asked for."""
    former = os.dup(2)
    read, write = os.pipe()
    os.dup2(write, 2)
    os.close(write)
    os.set_blocking(read, False)

    def lines() -> list[dict[str, str]]:
        raw = os.read(read, 1 << 20)
        return [json.loads(line) for line in raw.decode("ascii").splitlines()]

    try:
        yield lines
    finally:
        os.dup2(former, 2)
        os.close(former)
        os.close(read)


def start(told: Records, value: str = "v") -> None:
    told.start("1d" * 16, value, value, value, value, value)


def end(told: Records, value: str = "v") -> None:
    told.end("1d" * 16, value, value, 1, 22, 0, 4, value, value, 1_260_000)


# What is told


def test_start(told: Records, journal: FakeJournal) -> None:
    told.start("1d" * 16, "[::1]:4711", "cat -u", "/ws?x=1", "", "json")
    assert journal.read() == {
        "MESSAGE": "session for [::1]:4711 started: cat -u",
        "MESSAGE_ID": "f9a6ed4ca8e248cebd8a0c71c9f97faa",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "chimirror",
        "CHIMIRROR_SESSION": "1d" * 16,
        "CHIMIRROR_PEER": "[::1]:4711",
        "CHIMIRROR_COMMAND": "cat -u",
        "CHIMIRROR_PATH": "/ws?x=1",
        "CHIMIRROR_FRAMING": "json",
    }


def test_end(told: Records, journal: FakeJournal) -> None:
    told.end("1d" * 16, "unix:0", "cat", 1, 22, 0, 4, "exit 3", "time", 1_260_000)
    assert journal.read() == {
        "MESSAGE": "session for unix:0 ended after 1.3 s: time",
        "MESSAGE_ID": "064a48bb2f274460b689d473bc586ced",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "chimirror",
        "CHIMIRROR_SESSION": "1d" * 16,
        "CHIMIRROR_PEER": "unix:0",
        "CHIMIRROR_COMMAND": "cat",
        "CHIMIRROR_BYTES_IN": "1",
        "CHIMIRROR_BYTES_OUT": "22",
        "CHIMIRROR_MESSAGES_IN": "0",
        "CHIMIRROR_MESSAGES_OUT": "4",
        "CHIMIRROR_EXIT": "exit 3",
        "CHIMIRROR_REASON": "time",
        "CHIMIRROR_DURATION_USEC": "1260000",
    }


def test_refused(told: Records, journal: FakeJournal) -> None:
    told.refused("127.0.0.1:4", 403, "host", 'Host "evil" is not served here')
    assert journal.read() == {
        "MESSAGE": 'refused 127.0.0.1:4: 403 host: Host "evil" is not served here',
        "MESSAGE_ID": "95f8fe4526c74907bbb885f7ec4eb1be",
        "PRIORITY": "5",
        "SYSLOG_IDENTIFIER": "chimirror",
        "CHIMIRROR_PEER": "127.0.0.1:4",
        "CHIMIRROR_STATUS": "403",
        "CHIMIRROR_CAUSE": "host",
        "CHIMIRROR_DETAIL": 'Host "evil" is not served here',
    }


def test_of_a_flood_of_refusals_the_first_are_told(
    told: Records, journal: FakeJournal, clock: Clock
) -> None:
    heard = 0
    for _ in range(70):
        told.refused("p", 403, "host", "d")
        heard += len(journal.rest())
    assert heard == 20
    clock.now += 10
    for _ in range(2):
        told.refused("p", 403, "host", "d")
    first, second = journal.rest()
    assert first["CHIMIRROR_SUPPRESSED"] == "50"
    assert "CHIMIRROR_SUPPRESSED" not in second
    assert told.dropped == 0


def test_note(told: Records, journal: FakeJournal) -> None:
    told.note(4, "two\nlines\x1b", worker=3, detail="a\n\tb\0")
    assert journal.read() == {
        "MESSAGE": "two\nlines\\x1b",
        "MESSAGE_ID": "8b08329f43e842fc9cb5365337435c7a",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "chimirror",
        "CHIMIRROR_WORKER": "3",
        "CHIMIRROR_DETAIL": "a\n\tb\\x00",
    }
    told.note(3, "x" * 10_000_000, detail="😀" * 10_000_000)
    found = journal.read()
    assert (len(found["MESSAGE"]), len(found["CHIMIRROR_DETAIL"])) == (16384, 16384)


# What an application wrote


def test_stderr(told: Records, journal: FakeJournal) -> None:
    told.output("1d" * 16, "stderr", b"Traceback\tof \xff\x1b[31m\xc3\xa9\r\n")
    found = journal.read()
    assert found["MESSAGE"] == "Traceback\tof \\xff\\x1b[31mé"
    assert found["MESSAGE_ID"] == "dfc571fafe9b434381fa99fd41446661"
    assert found["CHIMIRROR_SESSION"] == "1d" * 16


@pytest.mark.parametrize("line", [b"", b"\n", b"\r\n"])
def test_an_empty_line_is_no_record(
    told: Records, journal: FakeJournal, line: bytes
) -> None:
    told.output("s", "stderr", line)
    assert journal.rest() == []


@pytest.mark.parametrize("size", [4095, 4096, 4097, 8192, 10_001])
@pytest.mark.parametrize("unit", ["a", "é", "日", "😀"])
def test_a_long_line_is_cut_between_characters(
    told: Records, journal: FakeJournal, size: int, unit: str
) -> None:
    line = (unit * size).encode()[: size - 1].decode(errors="ignore") + "z"
    told.output("s", "stderr", line.encode())
    pieces = [found["MESSAGE"] for found in journal.rest()]
    assert "".join(pieces) == line
    assert len(pieces) <= len(line.encode()) // 4093 + 1
    assert all(len(piece.encode()) <= 4096 for piece in pieces)


@given(st.binary(min_size=4, max_size=9))
def test_a_cut_takes_no_more_than_a_split_character(piece: bytes) -> None:
    kept = _whole(piece)
    assert len(piece) - 3 <= len(kept)
    strict = codecs.getincrementaldecoder("utf-8")()
    with suppress(UnicodeDecodeError):  # else: any cut will do
        assert kept.decode() == strict.decode(piece)


# Hostile values


@pytest.mark.parametrize("value", HOSTILE)
def test_a_peer_forges_nothing(told: Records, journal: FakeJournal, value: str) -> None:
    start(told, value)
    end(told, value)
    told.refused(value, 400, value, value)
    every = journal.rest()
    assert len(every) == 3
    for found in every:
        assert found["SYSLOG_IDENTIFIER"] == "chimirror"
        assert found["PRIORITY"] in ("5", "6")
        for name, text in found.items():
            assert re.fullmatch("[A-Z_]+", name)
            assert text.isprintable()
            assert len(text.encode()) <= (1000 if name == "MESSAGE" else 256)


@pytest.mark.parametrize("value", HOSTILE)
def test_nor_on_stderr(clock: Clock, value: str) -> None:
    told = Records(environ={}, clock=clock)
    with stderr_is_a_pipe() as lines:
        start(told, value)
        end(told, value)
        told.refused(value, 400, value, value)
        told.note(4, value, detail=value)
        every = lines()
        told.close()
    assert len(every) == 4
    for found in every:
        assert found["SYSLOG_IDENTIFIER"] == "chimirror"
        assert all(re.fullmatch("[A-Z_]+", name) for name in found)
    for found in every[:3]:
        assert all(text.isprintable() for text in found.values())


# Where to


def test_on_stderr_it_is_lines(journal: FakeJournal) -> None:
    """A journal is there, but JOURNAL_STREAM is inherited and not our stderr."""
    told = Records(environ={"JOURNAL_STREAM": "1:2"})
    with stderr_is_a_pipe() as lines:
        start(told)
        told.output("s", "stderr", b"\\" * 3000)
        first, *pieces = lines()
        told.close()
    assert first["CHIMIRROR_PATH"] == "v"
    assert "".join(piece["MESSAGE"] for piece in pieces) == "\\" * 3000
    assert journal.rest() == []


def test_where_stderr_was_the_wire_it_is_the_journal(journal: FakeJournal) -> None:
    told = Records(stderr_was_wire=True, environ={})
    start(told)
    told.close()
    assert journal.read()["CHIMIRROR_PEER"] == "v"


def test_the_environment_is_looked_at(
    journal: FakeJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", sinks.journal_stream(2))
    told = Records()
    start(told)
    told.close()
    assert journal.read()["CHIMIRROR_PEER"] == "v"


# What cannot be written


def test_lost_records_are_counted_and_told(told: Records, journal: FakeJournal) -> None:
    while not told.dropped:
        start(told)
    start(told)
    assert told.dropped == 2
    journal.rest()
    end(told)
    end(told)
    first, second = journal.rest()
    assert first["CHIMIRROR_DROPPED"] == "2"
    assert "CHIMIRROR_DROPPED" not in second
    assert told.dropped == 2


def test_a_journal_that_goes_and_comes_back(
    told: Records, journal: FakeJournal, tmp_path: Path
) -> None:
    start(told)
    journal.server.close()
    start(told)
    os.unlink(tmp_path / "journal")
    start(told)
    journal.server = FakeJournal(str(tmp_path / "journal")).server
    start(told)
    assert journal.read()["CHIMIRROR_DROPPED"] == "2"


def test_a_stderr_that_nobody_reads() -> None:
    told = Records(environ={})
    with stderr_is_a_pipe() as lines:
        while not told.dropped:
            start(told)
        told.output("s", "stderr", b"x" * 100_000)
        assert told.dropped == 1 + 84  # pieces of 1,200 bytes
        assert lines()
        start(told)
        assert lines()[0]["CHIMIRROR_DROPPED"] == "85"
        told.close()


# Put off


def test_of_one_turn_all_are_written_together(monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[int] = []
    write = os.write

    def count(fd: int, data: bytes) -> int:
        writes.append(len(data))
        return write(fd, data)

    monkeypatch.setattr("chimirror.system.lean.os.write", count)
    jobs: list[Callable[[], None]] = []
    told = Records(environ={})
    told.defer(jobs.append)
    with stderr_is_a_pipe() as lines:
        start(told)
        end(told)
        assert writes == []
        assert len(jobs) == 1, "once a turn"
        jobs.pop()()
        assert len(writes) == 1
        assert [line["MESSAGE_ID"] for line in lines()] == [
            records.SESSION_STARTED,
            records.SESSION_ENDED,
        ]
        for _ in range(40):
            end(told, "v" * 64)
        jobs.pop()()
        assert len(lines()) == 40
        assert len(writes) < 12
        assert max(writes) <= 4096, "a pipe takes no more than that whole"
        start(told)
        told.close()
        assert len(lines()) == 1
        told.close()


@pytest.mark.parametrize("where", ["journal", "pipe"])
def test_what_is_lost_of_a_turn_is_counted(
    told: Records, journal: FakeJournal, where: str
) -> None:
    jobs: list[Callable[[], None]] = []
    with stderr_is_a_pipe() as lines:
        if where == "pipe":
            told.close()
            told = Records(environ={})
        told.defer(jobs.append)
        for _ in range(2000):
            start(told)
        jobs.pop()()
        found = journal.rest() if where == "journal" else lines()
        assert len(found) == 2000 - told.dropped
        assert told.dropped
        start(told)
        end(told)
        jobs.pop()()
        first, second = journal.rest() if where == "journal" else lines()
        assert first["CHIMIRROR_DROPPED"] == str(told.dropped)
        assert "CHIMIRROR_DROPPED" not in second
        told.close()


# Start-up


def test_the_bridge_loads_nothing_dear_for_it() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "import chimirror.system.records\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    found = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=Path(records.__file__).parents[2],
        env={},
        capture_output=True,
        text=True,
        check=True,
    )
    names = {name for name in found.stdout.split() if not name.startswith("chimirror")}
    cheap = {"__future__", "_collections", "_json", "_signal", "_socket", "_stat"}
    assert names <= cheap
