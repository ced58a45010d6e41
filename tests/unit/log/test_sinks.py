"""Sinks: a journal that is full or gone, a stderr without a reader."""

from __future__ import annotations

import json
import os
import re
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chimirror.log import sinks, stream_sinks
from chimirror.log.sinks import JournalSink
from chimirror.log.stream_sinks import JSONSink, StreamSink, TextSink
from chimirror.text import printable
from fake_journal import FakeJournal, parse

FIELDS = [("MESSAGE", "hello"), ("PRIORITY", "6")]
TEXT = st.text(st.characters(codec="utf-8"), max_size=2000)
NAMES = [f"FIELD_{i}" for i in range(12)]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        with suppress(OSError):  # closed by the test
            os.close(fd)


@pytest.fixture
def lines() -> Iterator[Callable[[int], StreamSink]]:
    made: list[StreamSink] = []

    def make(fd: int) -> StreamSink:
        made.append((TextSink if os.isatty(fd) else JSONSink)(fd))
        return made[-1]

    yield make
    for sink in made:
        sink.close()


def send(sink: JournalSink | StreamSink, *records: list[tuple[str, str]]) -> int:
    return sink.write([sink.encode(fields) for fields in records or [FIELDS]])


def fill(sink: JournalSink | StreamSink) -> int:
    """Write until there is no room. Returns the number of records."""
    count = 0
    while send(sink):
        count += 1
    return count


# Formats


@given(st.lists(TEXT, max_size=12))
def test_the_native_form_is_read_back(values: list[str]) -> None:
    fields = list(zip(NAMES, values, strict=False))
    assert parse(sinks.journal_datagram(fields)) == dict(fields)


def test_lines_take_the_binary_form() -> None:
    found = sinks.journal_datagram([("A", "x\ny"), ("B", "z")])
    assert found == b"A\n\3\0\0\0\0\0\0\0x\ny\nB=z\n"


@given(st.lists(TEXT, max_size=12))
def test_a_json_line_is_one_short_line(values: list[str]) -> None:
    fields = list(zip(NAMES, values, strict=False))
    line = stream_sinks.json_line(fields)
    assert line.isascii()
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert len(line) <= 4096
    found = json.loads(line)
    assert list(found) == [name for name, _ in fields]
    if sum(map(len, values)) < 200:
        assert found == dict(fields)


@given(st.lists(TEXT | st.text(st.characters(max_codepoint=0x7F)), max_size=12))
@example(["\x7f"])
def test_orjson_writes_the_same_line(values: list[str]) -> None:
    fields = list(zip(NAMES, values, strict=False))
    plain = stream_sinks.json_line(fields)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_sinks, "_dumps", None)
        stream_sinks.use_orjson()
        assert stream_sinks.json_line(fields) == plain


def test_a_long_value_keeps_both_ends() -> None:
    (found,) = json.loads(
        stream_sinks.json_line([("A", "a" * 5000 + "z" * 5000)])
    ).values()
    assert len(found) == 2400
    assert found.strip("a").strip("z") == "…"


def test_even_too_many_fields_are_a_line() -> None:
    many = [(f"FIELD_{i}", "😀" * 99) for i in range(100)]
    assert len(json.loads(stream_sinks.json_line(many))) == 100


# The journal


def test_journal(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    sink = JournalSink(path)
    for _ in range(2):  # restarted in between: another socket at the path
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
            server.bind(path)
            assert send(sink, FIELDS, FIELDS) == 2
            assert send(sink)
            assert parse(server.recv(9999)) == dict(FIELDS)
        with pytest.raises(ConnectionRefusedError):
            send(sink)
        os.unlink(path)
        with pytest.raises(FileNotFoundError):
            send(sink)
    sink.close()
    sink.close()


def test_a_restarted_journal_loses_no_record(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    sink = JournalSink(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as first:
        first.bind(path)
        assert send(sink)
    os.unlink(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as second:
        second.bind(path)
        assert send(sink)
        assert parse(second.recv(9999)) == dict(FIELDS)
    sink.close()
    sink.close()


def test_a_full_journal_does_not_block(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    sink, journal = JournalSink(path), FakeJournal(path)
    assert fill(sink)
    assert send(sink, FIELDS, FIELDS) == 0
    poll = select.poll()
    poll.register(sink.fileno(), select.POLLOUT)
    assert not poll.poll(0)
    room = len(journal.make_room(sink.fileno()))
    assert room
    assert send(sink, *[FIELDS] * (room + 1)) == room
    sink.close()
    journal.server.close()


# Lines


def test_a_line(pipe: tuple[int, int], lines: Callable[[int], StreamSink]) -> None:
    assert send(lines(pipe[1]))
    found = json.loads(os.read(pipe[0], 9999))
    assert int(found.pop("__REALTIME_TIMESTAMP")) > 1_700_000_000_000_000
    assert found == dict(FIELDS)


@pytest.mark.parametrize("where", ["journal", "lines"])
def test_lines_of_applications_are_records(
    lines: Callable[[int], StreamSink], pipe: tuple[int, int], where: str
) -> None:
    """A shorter way of encoding. Text names its source, JSON has a field."""
    sink = JournalSink("/nowhere") if where == "journal" else lines(pipe[1])
    constant = sink.encode_constant([("PRIORITY", "6"), ("A", "b")], "1d1d1d1d: ")
    record = sink.encode_line('h\u00e9llo "x"', constant)
    found = parse(record) if where == "journal" else json.loads(record)
    found.pop("__REALTIME_TIMESTAMP", None)
    prefix = "1d1d1d1d: " if where == "journal" else ""
    wanted = {"MESSAGE": f'{prefix}h\u00e9llo "x"', "PRIORITY": "6", "A": "b"}
    assert found == wanted


@pytest.mark.parametrize("unit", ["a", "\xe9", "\u65e5", "\U0001f600", "\x1b", "\\\\"])
def test_the_longest_line_fits_into_a_pipe(
    lines: Callable[[int], StreamSink], pipe: tuple[int, int], unit: str
) -> None:
    """No text of max_output bytes has to be cut, not printable text either."""
    sink = lines(pipe[1])
    constant = sink.encode_constant(
        [("MESSAGE_ID", "1d" * 16), ("CHIMIRROR_SESSION", "1d" * 16), ("A", "b" * 80)],
        "1d1d1d1d: ",
    )
    raw = unit.encode() * (sink.max_output // len(unit.encode()))
    record = sink.encode_line(printable(raw), constant)
    assert len(record) <= 4096
    assert json.loads(record)["MESSAGE"] == printable(raw)


def test_lines_in_few_writes(
    pipe: tuple[int, int],
    lines: Callable[[int], StreamSink],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = []
    write = os.write

    def count(fd: int, data: bytes) -> int:
        sizes.append(len(data))
        return write(fd, data)

    monkeypatch.setattr("chimirror.builtin_modules.os.write", count)
    large = [("MESSAGE", "x" * 1500)]
    assert send(lines(pipe[1]), *[large] * 3, FIELDS, large) == 5
    found = [json.loads(line) for line in os.read(pipe[0], 9999).splitlines()]
    assert [len(line["MESSAGE"]) for line in found] == [1500, 1500, 1500, 5, 1500]
    assert len(sizes) == 2
    assert max(sizes) <= 4096, "a pipe takes no more than that whole"


def test_half_a_write(
    pipe: tuple[int, int],
    lines: Callable[[int], StreamSink],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file system that is full: whole lines count."""
    sink = lines(pipe[1])
    write = os.write

    def half(fd: int, data: bytes) -> int:
        return write(fd, data[: len(data) * 5 // 8])

    monkeypatch.setattr("chimirror.builtin_modules.os.write", half)
    assert send(sink, FIELDS, FIELDS) == 1
    assert send(sink) == 0


@pytest.mark.parametrize("reopened", [True, False])
def test_a_full_pipe_does_not_block(
    pipe: tuple[int, int],
    lines: Callable[[int], StreamSink],
    monkeypatch: pytest.MonkeyPatch,
    reopened: bool,
) -> None:
    """O_NONBLOCK is not forced on other users of the pipe, full or not."""
    if not reopened:

        def refuse(*_: object) -> int:
            raise PermissionError  # the pipe of another user

        monkeypatch.setattr("chimirror.builtin_modules.os.open", refuse)
    sink = lines(pipe[1])
    sent = fill(sink)
    assert sent >= 15  # of 16 pages
    assert not send(sink)
    assert os.get_blocking(pipe[1])
    while select.select([pipe[0]], [], [], 0)[0]:
        for line in os.read(pipe[0], 1 << 20).splitlines():
            assert json.loads(line)["MESSAGE"] == "hello"
    assert send(sink)


def test_a_pipe_filled_between_poll_and_write(
    pipe: tuple[int, int],
    lines: Callable[[int], StreamSink],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Room for a line is no guarantee, because the pipe is shared. No write blocks."""

    class Promising:
        def register(self, *_: int) -> None: ...

        def poll(self, _: int) -> list[tuple[int, int]]:
            return [(0, select.POLLOUT)]

    monkeypatch.setattr(select, "poll", Promising)
    assert fill(lines(pipe[1]))


def test_a_pipe_without_a_reader(
    pipe: tuple[int, int], lines: Callable[[int], StreamSink]
) -> None:
    os.close(pipe[0])
    with pytest.raises(OSError, match=r"Broken pipe|No such device"):
        send(lines(pipe[1]))


def test_a_full_pipe_that_loses_its_reader(
    pipe: tuple[int, int], lines: Callable[[int], StreamSink]
) -> None:
    sink = lines(pipe[1])
    fill(sink)
    os.close(pipe[0])
    with pytest.raises(BrokenPipeError):
        send(sink)


def test_a_descriptor_that_is_closed(
    pipe: tuple[int, int], lines: Callable[[int], StreamSink]
) -> None:
    sink = lines(pipe[1])
    os.close(pipe[1])
    with pytest.raises(OSError, match="Bad file descriptor"):
        send(sink)


def test_a_file_is_written_in_its_place(
    tmp_path: Path, lines: Callable[[int], StreamSink]
) -> None:
    """A file is not opened again: that would overwrite it from its start."""
    with open(tmp_path / "log", "w") as file:
        file.write("before\n")
        file.flush()
        assert send(lines(file.fileno()))
        file.write("after\n")
    first, record, last = (tmp_path / "log").read_text().splitlines()
    assert (first, last) == ("before", "after")
    assert json.loads(record)["MESSAGE"] == "hello"


def test_a_terminal_shows_the_message(lines: Callable[[int], StreamSink]) -> None:
    """A record with a traceback shows all lines, and no text moves the cursor."""
    master, terminal = os.openpty()
    one = [("MESSAGE", "héllo\x1b[2J"), ("CHIMIRROR_PEER", "somebody")]
    sink = lines(terminal)
    assert send(sink, one, [("MESSAGE", "first\nlast")]) == 2
    constant = sink.encode_constant(FIELDS, "1d1d1d1d: ")
    line = sink.encode_line("of an application", constant)
    assert sink.write([line]) == 1
    written = b""
    while written.count(b"\n") < 4:  # may arrive in pieces
        written += os.read(master, 9999)
    shown = written.decode()
    found = re.sub(r"\d\d:\d\d:\d\d", "TIME", shown).splitlines()
    assert found == [
        "TIME héllo\\x1b[2J",
        "TIME first",
        "    last",
        "TIME 1d1d1d1d: of an application",
    ]
    os.close(master)
    os.close(terminal)


def test_a_stopped_terminal_does_not_block(lines: Callable[[int], StreamSink]) -> None:
    master, terminal = os.openpty()
    sink = lines(terminal)
    fill(sink)
    os.close(master)
    os.close(terminal)


def test_a_socket_does_not_block(lines: Callable[[int], StreamSink]) -> None:
    one, other = socket.socketpair()
    with one, other:
        sink = lines(one.fileno())
        fill(sink)
        assert json.loads(other.makefile("rb").readline())["MESSAGE"] == "hello"


def test_text_on_a_pipe_is_short_lines(pipe: tuple[int, int]) -> None:
    """A traceback is indented. Even text that is escaped fits into a pipe at once."""
    sink = TextSink(pipe[1])
    detail = [("MESSAGE", "internal error"), ("CHIMIRROR_DETAIL", "Traceback\n  File")]
    assert send(sink, detail, [("MESSAGE", "\U0001f600\n\x1b" * 4000)]) == 2
    sink.close()
    record, long = os.read(pipe[0], 9999).decode().split("\n2", 1)
    date = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d "
    assert re.fullmatch(date + "internal error\n    Traceback\n      File", record)
    assert re.match(date, f"2{long}")
    assert len(long.encode()) < 4096
    assert long.replace("\n", "").isprintable()


# Choice


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("auto", ("json", "text", "journal")),
        ("text", ("text",) * 3),
        ("json", ("json",) * 3),
    ],
)
def test_a_stream_has_one_format(
    pipe: tuple[int, int], wanted: str, found: tuple[str, str, str]
) -> None:
    master, terminal = os.openpty()
    journal = {"JOURNAL_STREAM": sinks.journal_stream(pipe[1])}
    assert found == (
        sinks.format_of(pipe[1], wanted, {"JOURNAL_STREAM": "1:2"}),
        sinks.format_of(terminal, wanted, {}),
        sinks.format_of(pipe[1], wanted, journal),
    )
    os.close(master)
    os.close(terminal)


def test_the_journal_is_used_if_available(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "journal")
    monkeypatch.setattr(sinks, "JOURNAL", path)
    assert isinstance(sinks.open_sink(sinks.NATIVE), TextSink)
    Path(path).touch()
    assert isinstance(sinks.open_sink(sinks.NATIVE), TextSink)
    os.unlink(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(path)
        assert isinstance(sinks.open_sink(sinks.NATIVE), JournalSink)
        assert isinstance(sinks.open_sink(sinks.JSON), JSONSink)
        assert isinstance(sinks.open_sink(sinks.TEXT), TextSink)


def test_a_stream_is_named_as_systemd_does(pipe: tuple[int, int]) -> None:
    found = os.fstat(pipe[1])
    assert sinks.journal_stream(pipe[1]) == f"{found.st_dev}:{found.st_ino}"
    os.close(pipe[1])
    assert sinks.journal_stream(pipe[1]) == ""
