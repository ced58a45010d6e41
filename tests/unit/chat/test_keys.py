"""Tests how examples/chat decodes the input of a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.keys import SEQUENCES, CursorColumn, Key, KeyDecoder

Decoded = list[Key | CursorColumn | str]


def decoded(*pieces: bytes) -> Decoded:
    decoder = KeyDecoder()
    return [key for piece in pieces for key in decoder.decode(piece)]


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"ab", ["a", "b"]),
        ("ä漢🎉".encode(), ["ä", "漢", "🎉"]),
        (b"\xff", ["\N{REPLACEMENT CHARACTER}"]),
        (b"\r\n", [Key.ENTER, Key.ENTER]),
        (b"\x7f\x08", [Key.BACKSPACE, Key.BACKSPACE]),
        (b"\x1b[A\x1bOB", [Key.UP, Key.DOWN]),
        (b"\x1b[1;5D\x1bf\x1b[3~", [Key.WORD_LEFT, Key.WORD_RIGHT, Key.DELETE]),
        (b"\x03\x04", [Key.INTERRUPT, Key.DELETE_OR_END]),
        (b"a\tb", ["a", " ", "b"]),
        # Sequences without a meaning are dropped whole.
        (b"\x1b[99;7~x\x1b[?1;2cy\x1bOPz\x1bq!", ["x", "y", "z", "!"]),
        (b"\x1b[12;34R", [CursorColumn(33)]),
        (b"\x00\x1e", []),
    ],
)
def test_keys(data: bytes, keys: Decoded) -> None:
    assert decoded(data) == keys


def test_pasted_text_is_one_line() -> None:
    pasted = b"\x1b[200~one\r\ntwo\x1b[A\x03\x1b[201~\r"
    assert decoded(pasted) == [*"one  two ", Key.ENTER]
    family = "👩\N{ZERO WIDTH JOINER}👧"
    assert decoded(f"\x1b[200~{family}\x1b[201~".encode()) == [*family]


def test_an_endless_sequence_is_dropped() -> None:
    keys = decoded(b"\x1b[" + b"1" * 100, b"\x1b[A")
    assert keys[-1] is Key.UP


PIECES = st.one_of(
    st.sampled_from([f"\x1b{each}" for each in SEQUENCES]),
    st.sampled_from(["\x1b[200~", "\x1b[201~", "\x1b[5;9R", "\x1b", "\x1b[", "\x1bO"]),
    st.text(max_size=5),
)


@given(st.lists(PIECES).map("".join), st.data())
def test_any_cut(text: str, data: st.DataObject) -> None:
    raw = text.encode("utf-8", "replace")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)))))
    pieces = [
        raw[start:end] for start, end in zip([0, *cuts], [*cuts, None], strict=True)
    ]
    assert decoded(*pieces) == decoded(raw)
