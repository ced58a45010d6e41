"""Escaping: printable, bounded and unambiguous for all untrusted text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.text import counted, escape, escape_line, nearest, printable, similar

ANYTHING = st.one_of(
    st.binary(max_size=600),
    st.text(max_size=400),
    st.text(st.characters(), max_size=300),  # lone surrogates too
)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("", ""),
        ("/chat?room=1", "/chat?room=1"),
        ("/grüße/日本", "/grüße/日本"),
        ("a\nb\r\tc\0", "a\\x0ab\\x0d\\x09c\\x00"),
        ("\x1b[2J\x7f\x9b", "\\x1b[2J\\x7f\\xc2\\x9b"),
        ("C:\\x1b", "C:\\\\x1b"),
        ("\u202egnp.exe", "\\xe2\\x80\\xaegnp.exe"),  # changes the direction of writing
        ("\u2028", "\\xe2\\x80\\xa8"),
        (b"\xff\xfe ok \xc3", "\\xff\\xfe ok \\xc3"),
        ("\udcff", "\\\\udcff"),
    ],
)
def test_escape(value: str | bytes, shown: str) -> None:
    assert escape(value) == shown


@given(ANYTHING)
def test_field_is_printable_and_within_its_cap(value: str | bytes) -> None:
    shown = escape(value)
    assert shown.isprintable()
    assert len(shown.encode()) <= 256


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_two_values_are_never_escaped_alike(one: bytes, other: bytes) -> None:
    assert (escape(one) == escape(other)) == (one == other)


@pytest.mark.parametrize("unit", ["a", "é", "日", "😀", "\n", "\\", b"\xff"])
@pytest.mark.parametrize("size", [255, 256, 257, 300, 10_000_000])
def test_a_cut_value_has_an_ellipsis(unit: str | bytes, size: int) -> None:
    value = unit * size
    if isinstance(value, str):
        whole = escape(value, 1 << 62) if size < 1000 else value
    else:
        whole = escape(value, 1 << 62) if size < 1000 else value.decode("latin-1")
    shown = escape(value)
    if len(whole.encode()) <= 256:
        assert shown == whole
    else:
        assert shown.endswith("…")
        assert 252 <= len(shown.encode()) <= 256
        assert size > 1000 or whole.startswith(shown[:-1])


@given(ANYTHING)
def test_printable_lines(value: str | bytes) -> None:
    assert printable(value).replace("\t", "").isprintable()
    assert printable(value, "\n").replace("\t", "").replace("\n", "").isprintable()


def test_printable_keeps_tabs_and_line_feeds() -> None:
    assert printable(b"\tat C:\\x\x1b[31m") == "\tat C:\\x\\x1b[31m"
    assert printable("a\n\tb\r") == "a\\x0a\tb\\x0d"
    assert printable("a\n\tb\r", "\n") == "a\n\tb\\x0d"


@given(ANYTHING)
def test_line_is_printable_and_within_its_cap(value: str | bytes) -> None:
    assert escape_line(value).isprintable()
    assert len(escape_line(value * 1000, 100)) <= 103
    escape_line(value).encode()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("x\x1b[2J\u202e\r\n", "x\\x1b[2J\\u202e"),
        (b"C:\\ \xff", "C:\\ \\xff"),
        ("\udcff", "\\udcff"),
        ("\t" + "a" * 1001, "a" * 1000 + "..."),
        (" " * 4001, "..."),
    ],
)
def test_escape_line(value: str | bytes, shown: str) -> None:
    assert escape_line(value) == shown


def test_things_are_counted() -> None:
    lines = [counted(number, "line") for number in range(3)]
    assert lines == ["0 lines", "1 line", "2 lines"]
    assert counted(0, "session", "no") == "no sessions"
    assert counted(1, "session", "no") == "1 session"


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("--Ping-", ["--ping-interval", "--ping-timeout"]),
        ("--fraimng", ["--framing"]),
        ("--frog", []),
        ("", []),
    ],
)
def test_similar_names(name: str, names: list[str]) -> None:
    known = ["--framing", "--ping-interval", "--ping-timeout"]
    assert similar(name, known, cutoff=0.75) == names
    assert nearest(name, known) == (
        "--framing" if name == "--frog" else "".join(names[:1])
    )
