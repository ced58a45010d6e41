"""Tables: aligned and never wider than a terminal, complete in a pipe."""

from __future__ import annotations

import os
import pty
import termios

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.ctl import formats
from chimirror.ctl.output import Column, OutputWriter
from chimirror.ctl.terminal_text import cut, display_width, fold
from fake_host import Screen

COLUMNS = (
    Column("id", "ID"),
    Column("name", "NAME"),
    Column("size", "SIZE", formats.size),
    Column("count", "COUNT", formats.number, rank=1),
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


WIDE = (
    Column("id", "ID"),
    Column("peer", "PEER"),
    Column("command", "COMMAND", keep="end", least=10),
    Column("in", "IN", formats.size, rank=1),
    Column("out", "OUT", formats.size, rank=2),
    Column("ended", "ENDED", formats.local_time, short=formats.short_time),
)
SESSION = {
    "id": "12345678",
    "peer": "[2001:db8::7]:4711",
    "command": "python3 /srv/games/one.py",
    "in": 1536,
    "out": 5,
    "ended": 1_790_000_000_000_000,
}


@pytest.mark.parametrize(
    ("width", "headings", "cells"),
    [
        (90, "ID PEER COMMAND IN OUT ENDED", ["python3 /srv/games/one.py", "1.5K"]),
        (80, "ID PEER COMMAND IN OUT ENDED", ["…/srv/games/one.py", "  2026-09-21 "]),
        (72, "ID PEER COMMAND IN OUT ENDED", ["…es/one.py", " 1.5K ", "  2026-09-21 "]),
        (68, "ID PEER COMMAND IN OUT ENDED", ["…mes/one.py", "1.5K", "  09-21 "]),
        (64, "ID PEER COMMAND IN ENDED", ["…ames/one.py", "1.5K", "]:4711 "]),
        (60, "ID PEER COMMAND ENDED", ["…/games/one.py", "[2001:db8::7]:4711"]),
        (50, "ID PEER COMMAND ENDED", ["12345678  [2001…]:4711  …es/one.py  09"]),
    ],
)
def test_a_narrow_terminal_omits_columns_then_cuts_texts(
    width: int, headings: str, cells: list[str]
) -> None:
    screen = Screen(width)
    screen.table(WIDE, [SESSION], "session")
    head, row, blank, total = screen.text.splitlines()
    assert head.split() == headings.split()
    for cell in cells:
        assert cell in row
    assert display_width(row) <= width
    assert (blank, total) == ("", "1 session")


def test_nothing_is_cut_on_demand_or_in_a_pipe() -> None:
    wide, full, pipe = Screen(200), Screen(20), Screen()
    wide.table(WIDE, [SESSION], "session")
    full.table(WIDE, [SESSION], "session", full=True)
    assert full.text == wide.text
    pipe.table(WIDE, [SESSION], "session")
    assert pipe.text.splitlines()[1].split("\t")[2] == SESSION["command"]
    assert len(pipe.text.splitlines()) == 2


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "no sessions\n"), (1, "\n1 session\n"), (3, "\n3 sessions\n")],
)
def test_a_last_line_counts_the_rows(count: int, text: str) -> None:
    screen = Screen(80)
    screen.table(WIDE, [SESSION] * count, "session")
    assert screen.text.endswith(text)
    assert ("PEER" in screen.text) == (count > 0)


def test_a_terminal_without_unicode() -> None:
    screen = Screen(60)
    screen.encoding = "ascii"
    screen.table(WIDE, [{**SESSION, "peer": "日本", "command": "python3 ga…me.py → x"}])
    (row,) = screen.text.splitlines()[1:]
    assert row.isascii()
    assert "12345678  \\u65e5\\u672c  ....me.py -> x" in row
    assert screen._encodable("… →") == "... ->"


@given(st.text(max_size=300), st.integers(10, 120))
def test_nothing_moves_a_cursor_or_breaks_a_line(name: str, width: int) -> None:
    screen = Screen(width)
    screen.table(COLUMNS, [{**ROWS[0], "name": name}])
    lines = screen.text.splitlines()
    assert len(lines) == 2
    assert all(display_width(line) <= width for line in lines)
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


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("abc", 3),
        ("日本語", 6),
        ("e\u0301a\u0308", 2),
        ("한", 2),
        ("\u1112\u1161\u11ab", 2),
    ],
)
def test_width_of_characters(text: str, width: int) -> None:
    assert display_width(text) == width


@pytest.mark.parametrize(
    ("text", "space", "ends"),
    [
        ("abcdef", 4, ("abc…", "…def", "a…ef")),
        ("日本語", 5, ("日本…", "…本語", "日…語")),
        ("日本語", 4, ("日…", "…語", "…語")),
        ("xe\u0301ye\u0301z", 3, ("xe\u0301…", "…e\u0301z", "x…z")),
        ("abc", 3, ("abc", "abc", "abc")),
        ("abc", 0, ("", "", "")),
    ],
)
def test_cuts(text: str, space: int, ends: tuple[str, str, str]) -> None:
    """No mark is left without its letter, and no wide letter is halved."""
    assert (
        cut(text, space, "start"),
        cut(text, space, "end"),
        cut(text, space, "both"),
    ) == ends


@given(st.text(st.characters(categories=["L", "M", "Zs", "P"])), st.integers(2, 30))
def test_folded_text_is_complete(text: str, width: int) -> None:
    lines = fold(text, width)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(display_width(line) <= width for line in lines)


def test_pairs() -> None:
    screen = Screen(20)
    listed = {**ROWS[0], "name": ["a long name of a thing", "a"]}
    screen.pairs(COLUMNS, listed)
    assert screen.text == (
        "   ID: a\n"
        " NAME: a long name\n"
        "       of a thing\n"
        "       a\n"
        " SIZE: 1.5K\n"
        "COUNT: 7\n"
    )  # fmt: skip
    piped = Screen()
    piped.pairs(COLUMNS, {**listed, "size": None})
    assert piped.text == ("id\ta\nname\ta long name of a thing; a\nsize\t-\ncount\t7\n")


def test_json_is_ascii_on_one_line() -> None:
    screen = Screen()
    screen.json([{"peer": "\x1b[2Jé\x9b\n\x7f"}])
    assert screen.text == '[{"peer":"\\u001b[2J\\u00e9\\u009b\\n\\u007f"}]\n'


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (1023, "1023"),
        (1024, "1K"),
        (1030, "1.0K"),
        (10188, "9.9K"),
        (10189, "10K"),
        (999 << 10, "999K"),
        (1000 << 10, "1.0M"),
        (5 << 40, "5T"),
        (1 << 62, "4E"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert formats.size(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (256 << 20, "256M"),
        (4 << 30, "4G"),
        (1536 << 20, "1536M"),
        (1000 << 10, "1000K"),
        (100_000_000, "100000000"),
        ((1 << 20) + 1, "1048577"),
    ],
)
def test_sizes_of_limits_are_exact(count: int, text: str) -> None:
    assert formats.exact_size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "500ms"),
        (3600, "1h"),
        (5400, "1h 30min"),
        (90061.000001, "1d 1h 1min 1s 1us"),
    ],
)
def test_times_of_limits_are_exact(seconds: float, text: str) -> None:
    assert formats.exact_duration(seconds) == text


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
    assert formats.duration(seconds) == text


def test_cpu_time() -> None:
    assert (formats.cpu(0.125), formats.cpu(61)) == ("0.12s", "1min 1s")


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
