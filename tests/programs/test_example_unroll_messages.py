"""Tests the messages of examples/unroll: JSON strings, plain lines, and other bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unroll_programs import SUM, UnrollProcess, programs_directory

__all__ = ["programs_directory"]  # a fixture

pytestmark = pytest.mark.timeout(300)  # the compiler is slow on a busy machine

PIECES = st.sampled_from([*'"\\/bfnrtux01aFdD8 \t\x1f\x7fé😀', "\\u", "d83d", "dE00"])


@pytest.fixture
def process(programs_directory: Path) -> Iterator[UnrollProcess]:
    with UnrollProcess(programs_directory / "unroll-static") as running:
        yield running


def test_a_line_is_a_program(process: UnrollProcess) -> None:
    assert process.ask_raw(b"print 1; print 2; // no JSON")["printed"] == [1, 2]
    assert process.ask_raw(b' \t"print 1;\\u000aprint 2;" \r')["printed"] == [1, 2]
    assert process.ask_raw(b"")["printed"] == []


def test_escapes_of_json(process: UnrollProcess) -> None:
    text = rb'"x=1;// \ud83d\ude00 \ud800 \" \/ \\ \b\f\n\tprint\u0020x;$"'
    answer = process.ask_raw(text)
    assert (answer["line"], answer["column"]) == (2, 10)


@pytest.mark.parametrize(
    "message",
    [
        b'"print 1;',
        b'"print 1;" 2',
        b'"\t"',
        b'"\\x"',
        b'"\\u12',
        b'"\\u12x4"',
        b'"\\ud800\\u"',
        b'"',
        b'"\\',
        b'"\\"',
        b'"' + b"x" * 1_000_000 + b'"',
        b"[" * 1_000_000,
    ],
    ids=range(12),
)
def test_messages_without_a_program(process: UnrollProcess, message: bytes) -> None:
    answer = process.ask_raw(message)
    assert answer.keys() == {"error", "kind"}
    assert answer["kind"] == "message"
    assert process.ask(SUM)["variables"]["s"] == 45


@pytest.mark.parametrize(
    "message", [b"\xff", b'"\xc3"', b"x = 1; // \xed\xa0\x80", b"\0"]
)
def test_bytes_outside_utf8(process: UnrollProcess, message: bytes) -> None:
    answer = process.ask_raw(message)
    assert (answer["kind"], answer["line"]) == ("syntax", 1)


def is_string(text: str) -> bool:
    try:
        return isinstance(json.loads(text), str)
    except ValueError:
        return False


def test_strings_are_those_of_json(programs_directory: Path) -> None:
    with UnrollProcess(programs_directory / "unroll-static") as process:

        @given(st.lists(PIECES, max_size=14).map("".join), st.sampled_from(['"', ""]))
        def check(inner: str, end: str) -> None:
            text = f'"{inner}{end}'
            answer = process.ask_raw(text.encode())
            assert (answer.get("kind") != "message") == is_string(text)

        check()


def test_every_character_is_decoded(programs_directory: Path) -> None:
    with UnrollProcess(programs_directory / "unroll-static") as process:

        @given(st.characters(min_codepoint=127, codec="utf-8"), st.booleans())
        def check(character: str, escaped: bool) -> None:
            text = json.dumps(f" {character}", ensure_ascii=escaped)
            answer = process.ask_raw(text.encode())
            assert f"U+{ord(character):04X}" in answer["error"]
            assert (answer["line"], answer["column"]) == (1, 2)

        check()
