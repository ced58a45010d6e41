"""JSON texts: RFC 8259 to the letter, with both parsers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chimirror.protocol import json_text
from json_texts import INVALID, VALID, shorten


@pytest.fixture(params=["_json", "orjson"], autouse=True)
def parser(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run each test with both parsers."""
    before = json_text.fast_parse, json_text._spent
    json_text.fast_parse, json_text._spent = None, -(1 << 40)
    if request.param == "orjson":
        json_text.use_orjson()
    yield
    json_text.fast_parse, json_text._spent = before


@pytest.mark.parametrize("message", VALID, ids=shorten)
def test_valid(message: bytes) -> None:
    assert json_text.is_json(message)
    assert json_text.is_json(json_text.to_single_line(message))


@pytest.mark.parametrize("message", INVALID, ids=shorten)
def test_invalid(message: bytes) -> None:
    assert not json_text.is_json(message)


def test_values() -> None:
    text = b'{"a":[1,-2.5,true,null,"\\u00e9"],"b":{},"a":"last"}'
    assert json_text.parse(text) == {"a": "last", "b": {}}
    assert json_text.parse(b"[1, 12]") == [1, 12]
    assert json_text.parse(b'"\\ud800"') == "\ud800"
    padded = b" " * 5000 + b'{"type":"eof"}'
    assert json_text.parse(padded) == {"type": "eof"}


@pytest.mark.parametrize(
    ("message", "found"),
    [
        (b"", "byte 0: found the end"),
        (b"  ", "byte 2: found the end"),
        (b"1  2", 'byte 3: found "2"'),
        (b'["NaN","\\"NaN", NaN]', 'byte 16: found "NaN]"'),
        ('["é", x]'.encode(), 'byte 7: found "x]"'),
        (b'"\xff"', 'byte 1: found "\\xff""'),
        (b"[" + b"x" * 99, f'byte 1: found "{"x" * 37}…"'),
    ],
)
def test_place_of_an_error(message: bytes, found: str) -> None:
    with pytest.raises(json_text.JsonTextError) as caught:
        json_text.parse(message)
    assert caught.value.describe(message) == f"not JSON at {found}"


def test_a_scanner_without_its_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a new process, it raises SystemError in place of an error of its own."""
    monkeypatch.delitem(sys.modules, "json")
    monkeypatch.delitem(sys.modules, "json.decoder")
    assert not json_text.is_json(b'"\n"')


def test_recursion_limit_is_left_alone() -> None:
    limit = sys.getrecursionlimit()
    json_text.is_json(b"[" * 1000 + b'"\\ud800"' + b"]" * 1000)
    json_text.is_json(b"[" * 1000 + b"}" * 1000)
    assert sys.getrecursionlimit() == limit


def test_no_levels_left_for_the_scanner() -> None:
    """No error about the depth ends in a RecursionError."""
    deep = 100_000
    with pytest.raises(ValueError, match="deep"):
        json_text._scan_all("[" * deep + "]" * deep)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
    max_leaves=12,
)
TOKENS = st.lists(
    st.sampled_from(
        [
            *'[ ] { } : , " \\ \\u d800 "a" 0 1 -1 . e + 1e400 NaN true'.split(),
            *"\t\n\r\0 é\ufeff",
        ]
    )
).map("".join)


@given(TOKENS.map(str.encode) | st.binary() | st.text().map(str.encode))
@example(b"\xef\xbb\xbf[]")
def test_both_parsers_agree(message: bytes) -> None:
    for text in (message, b" " * 3000 + message):
        try:
            json_text.scan(text)
        except ValueError:
            assert not json_text.is_json(text)
        else:
            assert json_text.is_json(text)


@given(JSON_VALUES, st.sampled_from((None, 2, "\r\n")), st.booleans())
def test_texts_of_the_json_module(
    value: object, indent: str | int | None, ascii_: bool
) -> None:
    try:
        text = json.dumps(value, allow_nan=False, indent=indent, ensure_ascii=ascii_)
        message = text.encode()
    except ValueError:  # NaN, or a surrogate that is not escaped
        return
    assert json_text.is_json(message)
    line = json_text.to_single_line(message)
    assert not {10, 13} & set(line)
    assert json.loads(line) == json.loads(message)


def test_orjson_is_loaded_once_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_text, "fast_parse", None)
    monkeypatch.setattr(json_text, "_spent", 0)
    message = b'"%b"' % (b"x" * (json_text._BUDGET // 2 - 2))
    assert json_text.is_json(message)
    assert json_text.is_json(message)
    assert json_text.fast_parse is None
    assert json_text.is_json(b"1")
    assert json_text.fast_parse is not None


def test_an_orjson_that_knows_no_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orjson.loads", lambda _message: "no limit")
    json_text.use_orjson()
    assert json_text.parse(b"[]") == "no limit"
    assert json_text.parse(b" " * 3000 + b"[]") == []
    assert not json_text.is_json(b"[" * 1001 + b"]" * 1001)


def test_line_breaks() -> None:
    assert json_text.to_single_line(b'[1,\r\n"\\n"\r]\n') == b'[1,  "\\n" ] '
    assert json_text.to_single_line(b"[]") == b"[]"
