"""Tables: aligned and never wider than a terminal, complete in a pipe."""

from __future__ import annotations

import os
import pty
import termios

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.ctl import output
from chimirror.ctl.output import Column, OutputWriter
from fake_host import Screen

COLUMNS = (
    Column("id", "ID"),
    Column("name", "NAME"),
    Column("size", "SIZE", output.size),
    Column("count", "COUNT", output.number, optional=True),
)
ROWS: list[dict[str, object]] = [
    {"id": "a", "name": "one", "size": 1536, "count": 7},
    {"id": "bb", "name": "", "size": None, "count": 12345},
]


def test_a_terminal_gets_aligned_columns() -> None:
    screen = Screen(80)
    screen.table(COLUMNS, ROWS)
    assert screen.text == (
        "ID  NAME  SIZE  COUNT\n"
        "a   one   1.5K      7\n"
        "bb  -        -  12345\n"
    )  # fmt: skip


def test_a_pipe_gets_whole_values() -> None:
    screen = Screen()
    screen.table(COLUMNS, ROWS)
    assert screen.text == "id\tname\tsize\tcount\na\tone\t1536\t7\nbb\t-\t-\t12345\n"


def test_a_narrow_terminal_omits_columns_then_cuts_texts() -> None:
    screen = Screen(18)
    screen.table(COLUMNS, [{**ROWS[0], "name": "a long name of a thing"}])
    assert screen.text == "ID  NAME      SIZE\na   a long …  1.5K\n"


@given(st.text(max_size=300), st.integers(10, 120))
def test_nothing_moves_a_cursor_or_breaks_a_line(name: str, width: int) -> None:
    screen = Screen(width)
    screen.table(COLUMNS, [{**ROWS[0], "name": name}])
    lines = screen.text.splitlines()
    assert len(lines) == 2
    assert all(output.display_width(line) <= width for line in lines)
    assert all(line.isprintable() for line in lines)
    piped = Screen()
    piped.table(COLUMNS, [{**ROWS[0], "name": name}])
    assert piped.text.count("\n") == 2
    assert piped.text.replace("\n", "").replace("\t", "").isprintable()
    assert piped.text.splitlines()[1].count("\t") == 3


def test_wide_letters_keep_columns_apart() -> None:
    screen = Screen(40)
    screen.table(
        COLUMNS[:2], [{"id": "日本", "name": "x"}, {"id": "abcd", "name": "y"}]
    )
    assert screen.text == "ID    NAME\n日本  x\nabcd  y\n"
    assert output.cut("日本語", 5) == "日本…"


def test_pairs() -> None:
    screen = Screen(20)
    screen.pairs(COLUMNS, {**ROWS[0], "name": "a long name of a thing"})
    assert screen.text == (
        "   ID: a\n"
        " NAME: a long name …\n"
        " SIZE: 1.5K\n"
        "COUNT: 7\n"
    )  # fmt: skip
    piped = Screen()
    piped.pairs(COLUMNS, ROWS[1])
    assert piped.text == "id\tbb\nname\t-\nsize\t-\ncount\t12345\n"


def test_json_is_ascii_on_one_line() -> None:
    screen = Screen()
    screen.json([{"peer": "\x1b[2Jé\x9b\n\x7f"}])
    assert screen.text == '[{"peer":"\\u001b[2J\\u00e9\\u009b\\n\\u007f"}]\n'


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (1023, "1023"),
        (1024, "1.0K"),
        (10188, "9.9K"),
        (10189, "10K"),
        (999 << 10, "999K"),
        (1000 << 10, "1.0M"),
        (5 << 40, "5.0T"),
        (1 << 62, "4.0E"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert output.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.9, "0s"),
        (59.9, "59s"),
        (60, "1min 0s"),
        (3725, "1h 2min"),
        (90061, "1d 1h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert output.duration(seconds) == text


def test_cpu_time() -> None:
    assert (output.cpu(0.125), output.cpu(61)) == ("0.12s", "1min 1s")


def test_numbers_in_a_pipe_have_no_exponent() -> None:
    screen = Screen()
    screen.table(COLUMNS[2:3], [{"size": 12345678.5}, {"size": 2.0}, {"size": 1 << 60}])
    assert screen.text == f"size\n12345678.5\n2\n{1 << 60}\n"


def test_a_terminal_is_known_by_its_width() -> None:
    here, there = pty.openpty()
    try:
        termios.tcsetwinsize(there, (24, 97))
        output = OutputWriter(there)
        assert (output.width, output.height) == (97, 24)
        termios.tcsetwinsize(there, (0, 0))
        output.measure()
        assert (output.width, output.height) == (80, 24)
    finally:
        os.close(here)
        os.close(there)


def test_a_pipe_gets_the_whole_text() -> None:
    reader, writer = os.pipe()
    with open(reader, "rb") as file:
        OutputWriter(writer).write("a\udcffé\n")
        os.close(writer)
        assert file.read() == "a\\udcffé\n".encode()
