"""Tests the escaping and the measuring of text in examples/chat."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.display_text import cut, cut_start, escaped, width, wrapped_end


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, äöü 漢字 🎉", "plain text, äöü 漢字 🎉"),
        ("\x1b[2J\r\n\t\x7f", "\\x1b[2J\\r\\n\\t\\x7f"),
        ("\x9b31m", "\\x9b31m"),
        ("abc\N{RIGHT-TO-LEFT OVERRIDE}def", "abc\\u202edef"),
        ("a\N{LINE SEPARATOR}b\N{NO-BREAK SPACE}c", "a\\u2028b\\xa0c"),
        ("\N{TAG LATIN SMALL LETTER A}", "\\U000e0061"),
        ("می\N{ZERO WIDTH NON-JOINER}خواهم", "می\N{ZERO WIDTH NON-JOINER}خواهم"),
        ("\ud800", "\\ud800"),
    ],
)
def test_escaped(text: str, shown: str) -> None:
    assert escaped(text) == shown


@given(st.text())
def test_escaped_text_controls_no_terminal(text: str) -> None:
    shown = escaped(text)
    categories = {unicodedata.category(each) for each in shown} - {"Cf"}
    assert not categories & {"Cc", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert shown.encode().decode() == shown
    assert escaped(shown) == shown


@pytest.mark.parametrize(
    ("text", "columns"),
    [("", 0), ("abc", 3), ("漢字", 4), ("e\N{COMBINING ACUTE ACCENT}", 1), ("🎉", 2)],
)
def test_width(text: str, columns: int) -> None:
    assert width(text) == columns


@given(st.text(), st.integers(0, 20))
def test_cut(text: str, columns: int) -> None:
    shown = cut(text, columns)
    assert text.startswith(shown)
    assert width(shown) <= columns
    rest = text[len(shown) :]
    assert not rest or width(shown + rest[0]) > columns


@given(st.text(), st.integers(0, 20))
def test_cut_start(text: str, columns: int) -> None:
    shown = cut_start(text, columns)
    assert text.endswith(shown)
    assert width(shown) <= columns
    rest = text[: len(text) - len(shown)]
    assert not rest or width(rest[-1] + shown) > columns


@pytest.mark.parametrize(
    ("text", "columns", "end"),
    [
        ("", 5, (0, 0)),
        ("abcd", 5, (0, 4)),
        ("abcde", 5, (1, 0)),
        ("abcdefghijkl", 5, (2, 2)),
        ("漢字漢字", 5, (1, 4)),
        ("a漢字漢字", 5, (1, 4)),
    ],
)
def test_wrapped_end(text: str, columns: int, end: tuple[int, int]) -> None:
    assert wrapped_end(text, columns) == end
