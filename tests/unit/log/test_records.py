"""Records: their texts and fields, and the escaping of hostile values."""

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

from chimirror.log import records, sinks
from chimirror.log.output_logger import OutputLogger, _whole_characters
from chimirror.log.records import EventLog
from fake_journal import FakeJournal

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
def told(clock: Clock, journal: FakeJournal) -> Iterator[EventLog]:
    """Return an event log that writes to the fake journal."""
    assert journal.rest() == []
    made = EventLog(environ={"JOURNAL_STREAM": sinks.journal_stream(2)}, clock=clock)
    yield made
    made.finish()


@contextmanager
def stderr_is_a_pipe() -> Iterator[Callable[[], list[dict[str, str]]]]:
    """Return a function that reads the new output of descriptor 2."""
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


def output(told: EventLog, data: bytes, user: str = "") -> None:
    """Log output of an application that ends."""
    logger = OutputLogger(told, "1d" * 16, Source(), user)
    logger.write("stderr", data)
    logger.finish()


class Source:
    def pause_stream(self, stream: str) -> None:
        """Nothing writes while a test runs."""

    resume_stream = pause_stream


def start(told: EventLog, value: str = "v") -> None:
    told.session_started("1d" * 16, value, value, value, value, value, 7)


def end(told: EventLog, value: str = "v") -> None:
    told.session_ended("1d" * 16, value, value, 1, 22, 0, 4, value, value, 1_260_000)


# Kinds of records


def test_start(told: EventLog, journal: FakeJournal) -> None:
    told.session_started("1d" * 16, "[::1]:4711", "cat -u", "/ws?x=1", "", "json", 900)
    assert journal.read() == {
        "MESSAGE": "session 1d1d1d1d for [::1]:4711 started: cat -u",
        "MESSAGE_ID": "f9a6ed4ca8e248cebd8a0c71c9f97faa",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "chimirror",
        "CHIMIRROR_SESSION": "1d" * 16,
        "CHIMIRROR_PEER": "[::1]:4711",
        "CHIMIRROR_COMMAND": "cat -u",
        "CHIMIRROR_PATH": "/ws?x=1",
        "CHIMIRROR_FRAMING": "json",
        "CHIMIRROR_START_USEC": "900",
    }


def test_end(told: EventLog, journal: FakeJournal) -> None:
    told.session_ended(
        "1d" * 16, "unix:0", "cat", 1, 22, 0, 4, "exit 3", "time", 1_260_000
    )
    assert journal.read() == {
        "MESSAGE": "session 1d1d1d1d for unix:0 ended after 1.3 s: time",
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


def test_rejected(told: EventLog, journal: FakeJournal) -> None:
    detail = 'Host "evil" is not served here'
    told.request_rejected("127.0.0.1:4", "/a", 403, "host", detail)
    assert journal.read() == {
        "MESSAGE": 'refused 127.0.0.1:4 /a: 403 host: Host "evil" is not served here',
        "MESSAGE_ID": "95f8fe4526c74907bbb885f7ec4eb1be",
        "PRIORITY": "5",
        "SYSLOG_IDENTIFIER": "chimirror",
        "CHIMIRROR_PEER": "127.0.0.1:4",
        "CHIMIRROR_PATH": "/a",
        "CHIMIRROR_STATUS": "403",
        "CHIMIRROR_CAUSE": "host",
        "CHIMIRROR_DETAIL": 'Host "evil" is not served here',
    }


def test_a_flood_of_rejections_is_limited(
    told: EventLog, journal: FakeJournal, clock: Clock
) -> None:
    heard = 0
    for number in range(70):
        cause = "origin" if number > 60 else "host"
        told.request_rejected("p", "/", 403, cause, "d")
        heard += len(journal.rest())
    assert heard == 20
    clock.now += 10
    told.request_rejected("p", "/", 403, "host", "d")
    first, second, third = journal.rest()
    assert first["MESSAGE"] == "refused 41 more requests within 10 s: host"
    assert (first["CHIMIRROR_CAUSE"], first["CHIMIRROR_SUPPRESSED"]) == ("host", "41")
    assert second["MESSAGE"] == "refused 9 more requests within 10 s: origin"
    assert "CHIMIRROR_SUPPRESSED" not in third
    assert told.dropped == 0


def test_suppressed_rejections_are_reported_at_the_exit(
    told: EventLog, journal: FakeJournal
) -> None:
    for _ in range(21):
        told.request_rejected("p", b"/", 403, "host", "d")
    assert len(journal.rest()) == 20
    told.finish()
    assert journal.read()["MESSAGE"] == "refused 1 more request within 10 s: host"


def test_a_watcher_is_recorded(told: EventLog, journal: FakeJournal) -> None:
    told.output_followed("a" * 32, 1000)
    found = journal.read()
    assert found["MESSAGE"] == "session aaaaaaaa: uid 1000 follows the output"
    assert (found["CHIMIRROR_SESSION"], found["CHIMIRROR_UID"]) == ("a" * 32, "1000")


def test_message(told: EventLog, journal: FakeJournal) -> None:
    told.message(4, "two\nlines\x1b", worker=3, detail="a\n\tb\0")
    assert journal.read() == {
        "MESSAGE": "two\nlines\\x1b",
        "MESSAGE_ID": "8b08329f43e842fc9cb5365337435c7a",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "chimirror",
        "CHIMIRROR_WORKER": "3",
        "CHIMIRROR_DETAIL": "a\n\tb\\x00",
    }
    told.message(3, "x" * 10_000_000, detail="😀" * 10_000_000)
    found = journal.read()
    assert (len(found["MESSAGE"]), len(found["CHIMIRROR_DETAIL"])) == (16384, 16384)


# Users


def tell_of(told: EventLog, user: str) -> None:
    """Write a record of each kind that can name a user."""
    session = "1d" * 16
    told.session_started(session, "p", "cat", "/", "", "json", 0, user=user)
    told.start_failed(session, "EIO", user)
    told.output_followed(session, 0, user)
    told.request_rejected("p", "/a", 503, "max-rate", "d", user)
    told.session_ended(
        session, "p", "cat", 0, 0, 0, 0, "exit 0", "exit 0", 0, user=user
    )
    output(told, b"a line\n", user)
    told.finish()


MESSAGES = [
    "session 1d1d1d1d{} for p started: cat",
    "session 1d1d1d1d{}: cannot start the application: EIO",
    "session 1d1d1d1d{}: uid 0 follows the output",
    "refused p{} /a: 503 max-rate: d",
    "session 1d1d1d1d{} for p ended after 0.0 s: exit 0",
    "1d1d1d1d: a line",
]


@pytest.mark.parametrize(
    ("user", "shown"),
    [
        ("ann", "ann"),
        ("Jürgen Groß", "Jürgen Groß"),
        ("CORP\\ann", "CORP\\ann"),
        ("x\nMESSAGE=forged\x1b[2J", "x\\x0aMESSAGE=forged\\x1b[2J"),
        ("ä" * 256, "ä" * 126 + "…"),
    ],
)
def test_records_name_the_user(
    told: EventLog, journal: FakeJournal, user: str, shown: str
) -> None:
    tell_of(told, user)
    found = journal.rest()
    assert [record["CHIMIRROR_USER"] for record in found] == [shown] * len(MESSAGES)
    expected = [message.format(f" of {shown}") for message in MESSAGES]
    assert [record["MESSAGE"] for record in found] == expected


def test_records_without_a_user_do_not_mention_one(
    told: EventLog, journal: FakeJournal
) -> None:
    tell_of(told, "")
    found = journal.rest()
    assert not any("CHIMIRROR_USER" in record for record in found)
    expected = [message.format("") for message in MESSAGES]
    assert [record["MESSAGE"] for record in found] == expected


# Application output


def test_stderr(told: EventLog, journal: FakeJournal) -> None:
    output(told, b"Traceback\tof \xff\x1b[31m\xc3\xa9\r\n")
    found = journal.read()
    assert found["MESSAGE"] == "1d1d1d1d: Traceback\tof \\xff\\x1b[31mé"
    assert found["MESSAGE_ID"] == "dfc571fafe9b434381fa99fd41446661"
    assert found["CHIMIRROR_SESSION"] == "1d" * 16


@pytest.mark.parametrize("line", [b"", b"\n", b"\r\n", b"\n" * 10_000, b"\n\r\n\r\r"])
def test_an_empty_line_is_no_record(
    told: EventLog, journal: FakeJournal, line: bytes
) -> None:
    output(told, line)
    assert journal.rest() == []


@pytest.mark.parametrize("size", [4095, 4096, 4097, 8192, 10_001])
@pytest.mark.parametrize("unit", ["a", "é", "日", "😀"])
def test_a_long_line_is_cut_between_characters(
    told: EventLog, journal: FakeJournal, size: int, unit: str
) -> None:
    line = (unit * size).encode()[: size - 1].decode(errors="ignore") + "z"
    output(told, line.encode())
    pieces = [found["MESSAGE"].removeprefix("1d1d1d1d: ") for found in journal.rest()]
    assert "".join(pieces) == line
    assert len(pieces) <= len(line.encode()) // 4093 + 1
    assert all(len(max_output.encode()) <= 4096 for max_output in pieces)


@given(st.binary(min_size=4, max_size=9))
def test_a_cut_takes_no_more_than_a_split_character(max_output: bytes) -> None:
    kept = _whole_characters(max_output)
    assert len(max_output) - 3 <= len(kept)
    strict = codecs.getincrementaldecoder("utf-8")()
    with suppress(UnicodeDecodeError):  # otherwise any cut is fine
        assert kept.decode() == strict.decode(max_output)


# Hostile values


@pytest.mark.parametrize("value", HOSTILE)
def test_a_peer_cannot_forge_fields(
    told: EventLog, journal: FakeJournal, value: str
) -> None:
    start(told, value)
    end(told, value)
    told.request_rejected(value, value, 400, value, value)
    every = journal.rest()
    assert len(every) == 3
    for found in every:
        assert found["SYSLOG_IDENTIFIER"] == "chimirror"
        assert found["PRIORITY"] in ("5", "6")
        for name, text in found.items():
            assert re.fullmatch("[A-Z_]+", name)
            assert text.isprintable()
            assert len(text.encode()) <= (1100 if name == "MESSAGE" else 256)


@pytest.mark.parametrize("value", HOSTILE)
def test_a_peer_cannot_forge_lines_on_stderr(clock: Clock, value: str) -> None:
    told = EventLog(environ={}, clock=clock)
    with stderr_is_a_pipe() as lines:
        start(told, value)
        end(told, value)
        told.request_rejected(value, value, 400, value, value)
        told.message(4, value, detail=value)
        every = lines()
        told.finish()
    assert len(every) == 4
    for found in every:
        assert found["SYSLOG_IDENTIFIER"] == "chimirror"
        assert all(re.fullmatch("[A-Z_]+", name) for name in found)
    for found in every[:3]:
        assert all(text.isprintable() for text in found.values())


# Destinations


def test_on_stderr_it_is_lines(journal: FakeJournal) -> None:
    """There is a journal, but JOURNAL_STREAM is inherited and names another stderr."""
    told = EventLog(environ={"JOURNAL_STREAM": "1:2"})
    with stderr_is_a_pipe() as lines:
        start(told)
        output(told, b"\\" * 3000)
        first, *pieces = lines()
        told.finish()
    assert first["CHIMIRROR_PATH"] == "v"
    assert "".join(max_output["MESSAGE"] for max_output in pieces) == "\\" * 3000
    assert journal.rest() == []


def test_only_the_journal_if_stderr_was_the_connection(journal: FakeJournal) -> None:
    told = EventLog(stderr_was_connection=True, environ={})
    start(told)
    told.finish()
    assert journal.read()["CHIMIRROR_PEER"] == "v"


def test_journal_stream_in_the_environment(
    journal: FakeJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", sinks.journal_stream(2))
    told = EventLog()
    start(told)
    told.finish()
    assert journal.read()["CHIMIRROR_PEER"] == "v"


# Start-up


def test_the_bridge_loads_only_c_modules_for_it() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "import chimirror.log.records\n"
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
    cheap.add("errno")
    assert names <= cheap
