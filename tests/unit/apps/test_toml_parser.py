"""TOML is read as tomllib reads it, in linear time and within bounds."""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Callable
from typing import Any, SupportsIndex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chimirror.apps.toml_parser import MAX_DEPTH, TomlParser, TomlSyntaxError, parse

DATES = (datetime.date, datetime.time)
# Pieces of documents. Random sequences of them are valid often enough.
PIECES = st.sampled_from(
    [
        *("a", "b", "c", '"a"', "'b'", ".", "=", "= ", "[", "]", "[[", "]]", "{", "}"),
        *(",", " ", "\n", "\r\n", "\r", "\t", "#x", "1", "-0", "1.5", "1e3", "0x1F"),
        *("0b2", "1_0", "1__0", "_1", "01", "inf", "-nan", "true", '"""', "'''"),
        *("\\", "\\n", "\\u0041", '"', "é", "\x01", "1979-05-27", '"x\\"y"'),
        *("a.b=1\n", "[a]\n", "[a.b]\n", "[[a]]\n", "a={b=1}\n", "a.b.c=2\n"),
        *("b={a.b=1,a.c=2}\n", "[[a.b]]\n", "c=[{a=1},[2,],]\n", "b.a=3\n"),
    ]
)


def has_date(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(has_date, value.values()))
    if isinstance(value, list):
        return any(map(has_date, value))
    return isinstance(value, DATES)


@settings(max_examples=1000)
@given(st.lists(PIECES, max_size=14).map("".join) | st.text(max_size=30))
def test_documents_are_read_as_tomllib_reads_them(text: str) -> None:
    """The repr() tells 1 from True, and -0.0 from 0.0, and equals for nan."""
    try:
        expected = tomllib.loads(text)
    except ValueError:
        expected = None
    if expected is None or has_date(expected):
        with pytest.raises(TomlSyntaxError):
            parse(text)
    else:
        assert repr(parse(text)) == repr(expected)


VALUES = st.recursive(
    st.text(max_size=5) | st.integers(-(1 << 63), (1 << 63) - 1) | st.booleans(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=4), VALUES, max_size=4))
def test_written_values_are_read(fields: dict[str, object]) -> None:
    from chimirror.ctl.toml_writer import document

    assert parse(document({(key,): value for key, value in fields.items()})) == fields


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("a = [1,\n2", 2, "no comma or ] after an element"),
        ("a = [1,\n2,", 1, "an array without an end; close it with ]"),
        ("\na = 'x", 2, "a string without an end; close it with '"),
        ("\na = 'x\nb = '", 2, "a string without an end; close its quotes"),
        ('\n\na = """x', 3, 'close it with """'),
        ("a = 'x\0'", 1, "a control character; write \\u0000 in quotes"),
        ("a = 1\n\0\nb = 1", 2, "no key here"),
        ("a = 1\0", 1, "no key here"),
        ("a = [\0]", 1, "an array without an end"),
        ("a = 1 b", 1, "text after the value; begin a new line"),
        ("a", 1, "no = after a key"),
        ("a =", 1, "a value is missing"),
        ("a = yes", 1, 'not a value; write "yes" if it is a string'),
        ("a = 07:32:00", 1, '07:32:00 is a date or time; write "07:32:00"'),
        ('a = "\\q"', 1, "write \\\\"),
        ('a = "\\ud800"', 1, "no character has this number"),
        ("[a]\n[b]\n[a]", 3, '"a" is defined twice; leave one out'),
        ("a.b = 1\na.b.c = 2", 2, '"b" has a value already'),
        ("a = {b = 1}\n[a.c]", 2, '"a" has a value already'),
        ("a = {\nb = 1}", 1, "no key here"),
        (f"a = {1 << 63}", 1, "a whole number of over 64 bits; write it as a string"),
        (f"a = {'9' * 5000}", 1, "a number of over 1000 digits"),
        (f"\na{'.a' * MAX_DEPTH} = 1", 2, "nested deeper than 128"),
        (f"a = {'[' * MAX_DEPTH}", 1, "nested deeper than 128"),
        (f"a = {'{a = ' * MAX_DEPTH}", 1, "nested deeper than 128"),
        (f"[a{'.a' * 100}]\na{'.a' * 30} = 1", 2, "nested deeper than 128"),
    ],
)
def test_errors_have_a_line_and_a_correction(text: str, line: int, reason: str) -> None:
    with pytest.raises(TomlSyntaxError) as caught:
        parse(text)
    assert reason in str(caught.value)
    assert caught.value.line == line


def test_the_deepest_document() -> None:
    deep = parse(f"a = {'[' * (MAX_DEPTH - 1)}{']' * (MAX_DEPTH - 1)}")["a"]
    for _ in range(MAX_DEPTH - 2):
        (deep,) = deep
    assert deep == []


def test_lines_of_keys() -> None:
    text = "x = 1\n[a]\n\nb.c = {d = [\n1, {e = 2}]}\n[[f]]\ng = 1\n"
    lines = {(): 1, ("a",): 2, ("a", "b", "c"): 4, ("a", "b", "c", "d"): 4, ("f",): 6}
    lines[("a", "b", "c", "d", "1", "e")] = 4  # within an array
    lines[("a", "none")] = 2
    parser = TomlParser(text)
    parser.document()
    assert {path: parser.find_line(path) for path in lines} == lines


# Each text is made of parts that grow with a number.
GROWING: dict[str, Callable[[int], str]] = {
    "dotted keys": lambda n: "".join(f"k{i}{'.a' * 60} = 1\n" for i in range(n)),
    "keys of a deep table": lambda n: (
        f"[{'.'.join('a' * 120)}]\n" + "".join(f"k{i} = 1\n" for i in range(n))
    ),
    "tables": lambda n: "".join(f"[a.k{i}]\n" for i in range(n)),
    "dotted tables": lambda n: "".join(f"[k{i}]\na.b = 1\n" for i in range(n)),
    "arrays of tables": lambda n: "[[a]]\n" * n,
    "inline tables": lambda n: f"a = [{'{b.c = {}},' * n}]",
    "elements": lambda n: f"a = [{'1, ' * n}]",
    "escapes": lambda n: 'a = "' + '\\n\\" ' * n + '"',
    "escaped line ends": lambda n: 'a = """' + "\\\n  " * n + '"""',
    "many lines of a list": lambda n: "a = [\n" + "1,\n" * n,
    "blank lines and comments": lambda n: " \t#\n\n" * n,
}


class CountedText(str):
    """A text that counts the characters that were looked at."""

    __slots__ = ("looks",)

    def __init__(self, text: str) -> None:
        self.looks = 0

    def __getitem__(self, place: SupportsIndex | slice) -> str:
        found = super().__getitem__(place)
        self.looks += len(found)
        return found

    def find(self, *words: Any) -> int:
        found = super().find(*words)
        self.looks += (found if found >= 0 else len(self)) - words[1]
        return found


@pytest.mark.parametrize("kind", GROWING)
def test_the_work_is_linear(kind: str) -> None:
    """Twice the text takes twice the looks at a character."""

    def count(size: int) -> int:
        parser = TomlParser(GROWING[kind](size))
        parser._text = text = CountedText(parser._text)
        try:
            parser.document()
        except TomlSyntaxError:
            pass
        return text.looks

    one, two, four = (count(size) for size in (100, 200, 400))
    assert 0 < four - two <= 2.1 * (two - one)


def test_the_line_of_an_error_takes_no_other_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from chimirror.apps import file_fields

    passes: list[str] = []
    original = TomlParser.document

    def document(self: TomlParser) -> dict[str, Any]:
        passes.append(self._text)
        return original(self)

    monkeypatch.setattr(TomlParser, "document", document)
    text = "command = [\n" + '"x",\n' * 800 + "]\nframimg = 1\n"
    with pytest.raises(file_fields.ApplicationSyntaxError) as caught:
        file_fields.parse(text.encode())
    assert caught.value.line == 803
    assert len(passes) == 1
