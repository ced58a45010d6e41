"""Where records go: a journal that may be full or gone, a stderr nobody reads."""

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

from chimirror.system import sinks
from chimirror.system.sinks import Journal, Lines
from journal import parse

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
def lines() -> Iterator[Callable[[int], Lines]]:
    made = []

    def make(fd: int) -> Lines:
        made.append(Lines(fd))
        return made[-1]

    yield make
    for sink in made:
        sink.close()


def fill(sink: Journal | Lines) -> None:
    """Sends until a record is refused."""
    while sink.send(FIELDS):
        pass


# Forms


@given(st.lists(TEXT, max_size=12))
def test_the_native_form_is_read_back(values: list[str]) -> None:
    fields = list(zip(NAMES, values, strict=False))
    assert parse(sinks.native(fields)) == dict(fields)


def test_lines_take_the_binary_form() -> None:
    found = sinks.native([("A", "x\ny"), ("B", "z")])
    assert found == b"A\n\3\0\0\0\0\0\0\0x\ny\nB=z\n"


@given(st.lists(TEXT, max_size=12))
def test_a_json_line_is_one_short_line(values: list[str]) -> None:
    fields = list(zip(NAMES, values, strict=False))
    line = sinks.json_line(fields)
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
    plain = sinks.json_line(fields)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sinks, "_dumps", None)
        sinks.prepare()
        assert sinks.json_line(fields) == plain


def test_a_long_value_keeps_both_ends() -> None:
    (found,) = json.loads(sinks.json_line([("A", "a" * 5000 + "z" * 5000)])).values()
    assert len(found) == 2400
    assert found.strip("a").strip("z") == "…"


def test_even_too_many_fields_are_a_line() -> None:
    many = [(f"FIELD_{i}", "😀" * 99) for i in range(100)]
    assert len(json.loads(sinks.json_line(many))) == 100


# The journal


def test_journal(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    sink = Journal(path)
    for _ in range(2):  # restarted in between: another socket at the path
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
            server.bind(path)
            assert sink.send(FIELDS)
            assert sink.send(FIELDS)
            assert parse(server.recv(9999)) == dict(FIELDS)
        with pytest.raises(ConnectionRefusedError):
            sink.send(FIELDS)
        os.unlink(path)
        with pytest.raises(FileNotFoundError):
            sink.send(FIELDS)
    sink.close()
    sink.close()


def test_a_full_journal_does_not_block(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    sink = Journal(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(path)
        with pytest.raises(BlockingIOError):
            fill(sink)
        server.recv(9999)
        assert sink.send(FIELDS)
    sink.close()


# Lines


def test_a_line(pipe: tuple[int, int], lines: Callable[[int], Lines]) -> None:
    assert lines(pipe[1]).send(FIELDS)
    found = json.loads(os.read(pipe[0], 9999))
    assert int(found.pop("__REALTIME_TIMESTAMP")) > 1_700_000_000_000_000
    assert found == dict(FIELDS)


def test_lines_in_one_write(
    pipe: tuple[int, int], lines: Callable[[int], Lines]
) -> None:
    sink = lines(pipe[1])
    large = [("MESSAGE", "x" * 1500)]
    assert sink.send(*[large] * 3) == 2, "more would not be written whole"
    assert sink.send(FIELDS, large, FIELDS) == 3
    found = [json.loads(line) for line in os.read(pipe[0], 9999).splitlines()]
    assert [len(line["MESSAGE"]) for line in found] == [1500, 1500, 5, 1500, 5]


def test_half_a_write(
    pipe: tuple[int, int],
    lines: Callable[[int], Lines],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file system that is full: whole lines count."""
    sink = lines(pipe[1])
    write = os.write

    def half(fd: int, data: bytes) -> int:
        return write(fd, data[: len(data) * 5 // 8])

    monkeypatch.setattr("chimirror.system.lean.os.write", half)
    assert sink.send(FIELDS, FIELDS) == 1
    assert sink.send(FIELDS) == 0


@pytest.mark.parametrize("reopened", [True, False])
def test_a_full_pipe_does_not_block(
    pipe: tuple[int, int],
    lines: Callable[[int], Lines],
    monkeypatch: pytest.MonkeyPatch,
    reopened: bool,
) -> None:
    """And O_NONBLOCK is not forced on those who share it, full or not."""
    if not reopened:

        def refuse(*_: object) -> int:
            raise PermissionError  # the pipe of another user

        monkeypatch.setattr("chimirror.system.lean.os.open", refuse)
    sink = lines(pipe[1])
    sent = 0
    while sink.send(FIELDS):
        sent += 1
    assert sent >= 15  # of 16 pages
    assert not sink.send(FIELDS)
    assert os.get_blocking(pipe[1])
    while select.select([pipe[0]], [], [], 0)[0]:
        for line in os.read(pipe[0], 1 << 20).splitlines():
            assert json.loads(line)["MESSAGE"] == "hello"
    assert sink.send(FIELDS)


def test_what_another_takes_between_poll_and_write(
    pipe: tuple[int, int],
    lines: Callable[[int], Lines],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Room for a line is no promise: the pipe is shared. Nothing blocks even so."""

    class Promising:
        def register(self, *_: int) -> None: ...

        def poll(self, _: int) -> list[tuple[int, int]]:
            return [(0, select.POLLOUT)]

    monkeypatch.setattr(select, "poll", Promising)
    sink = lines(pipe[1])
    with pytest.raises(BlockingIOError):
        fill(sink)


def test_nobody_will_ever_read(
    pipe: tuple[int, int], lines: Callable[[int], Lines]
) -> None:
    os.close(pipe[0])
    with pytest.raises(OSError, match=r"Broken pipe|No such device"):
        lines(pipe[1]).send(FIELDS)


def test_a_descriptor_that_is_closed(
    pipe: tuple[int, int], lines: Callable[[int], Lines]
) -> None:
    os.close(pipe[1])
    assert not lines(pipe[1]).send(FIELDS)


def test_a_file_is_written_in_its_place(
    tmp_path: Path, lines: Callable[[int], Lines]
) -> None:
    """Not opened anew: that would begin at its head, over what others wrote."""
    with open(tmp_path / "log", "w") as file:
        file.write("before\n")
        file.flush()
        assert lines(file.fileno()).send(FIELDS)
        file.write("after\n")
    first, record, last = (tmp_path / "log").read_text().splitlines()
    assert (first, last) == ("before", "after")
    assert json.loads(record)["MESSAGE"] == "hello"


def test_a_terminal_shows_the_message(lines: Callable[[int], Lines]) -> None:
    """Of a record with a traceback all lines, and nothing that moves the cursor."""
    master, terminal = os.openpty()
    one = [("MESSAGE", "héllo\x1b[2J"), ("CHIMIRROR_PEER", "somebody")]
    assert lines(terminal).send(one, [("MESSAGE", "first\nlast")]) == 2
    written = b""
    while written.count(b"\n") < 3:  # it may come in pieces
        written += os.read(master, 9999)
    shown = written.decode()
    found = re.sub(r"\d\d:\d\d:\d\d", "TIME", shown).splitlines()
    assert found == ["TIME héllo\\x1b[2J", "TIME first", "last"]
    os.close(master)
    os.close(terminal)


def test_a_stopped_terminal_does_not_block(lines: Callable[[int], Lines]) -> None:
    master, terminal = os.openpty()
    sink = lines(terminal)
    with suppress(BlockingIOError):
        fill(sink)
    os.close(master)
    os.close(terminal)


def test_a_socket_does_not_block(lines: Callable[[int], Lines]) -> None:
    one, other = socket.socketpair()
    with one, other:
        sink = lines(one.fileno())
        fill(sink)
        assert json.loads(other.makefile("rb").readline())["MESSAGE"] == "hello"


# Which


def test_the_journal_is_chosen_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "journal")
    monkeypatch.setattr(sinks, "JOURNAL", path)
    assert isinstance(sinks.choose(journal=True), Lines)
    Path(path).touch()
    assert isinstance(sinks.choose(journal=True), Lines)
    os.unlink(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(path)
        assert isinstance(sinks.choose(journal=True), Journal)
        assert isinstance(sinks.choose(journal=False), Lines)


def test_a_stream_is_named_as_systemd_does(pipe: tuple[int, int]) -> None:
    found = os.fstat(pipe[1])
    assert sinks.journal_stream(pipe[1]) == f"{found.st_dev}:{found.st_ino}"
    os.close(pipe[1])
    assert sinks.journal_stream(pipe[1]) == ""
