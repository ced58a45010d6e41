"""JSON texts: RFC 8259 to the letter, by both judges."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chimirror.wire import jsontext

VALID = (
    b"null",
    b"true",
    b"false",
    b"0",
    b"-0",
    b"-0.0",
    b"1.5e3",
    b"1E-2",
    b"1e+2",
    b"1e-999",
    b"123456789012345678901234567890",
    b"1" * 5000,
    b"-" + b"9" * 5000,
    b"[" + b"1" * 5000 + b"]",
    b"0." + b"1" * 5000,
    b'""',
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b'"\\ud83d\\ude00"',
    b'"\\u0000\\u000A\\n"',
    b'"\\"\\\\\\/\\b\\f\\n\\r\\t"',
    b'"\x7f"',
    '"é\u2028😀\ufeff"'.encode(),
    b"[]",
    b"{}",
    b" \t\r\n1 \t\r\n",
    b'{"a":1,"a":2}',
    b'{"":{"":[]}}',
    b'{\r\n  "a" : [ 1 ,\n\t2 ]\n}\n',
    b"[" * 1000 + b"]" * 1000,
    b'{"a":' * 1000 + b"1" + b"}" * 1000,
    b'[{"a":' * 500 + b"1" + b"}]" * 500,
    b'["' + b"[" * 3000 + b'\\"' + b"{" * 3000 + b'\\\\"]',
    b"[" + b"[]," * 5000 + b"[]]",
    b'["' + b"x" * 5000 + b'"]',
    b'"' + b"\\ud800" * 500 + b'"',
    b"[" * 1000 + b'"\\ud800"' + b"]" * 1000,
)

INVALID = (
    b"",
    b" ",
    b"NaN",
    b"-NaN",
    b"Infinity",
    b"-Infinity",
    b"[NaN]",
    b"1e999",
    b"-1e999",
    b"[1.0E400]",
    b"1" * 400 + b".5",
    b"nul",
    b"True",
    b"01",
    b"-",
    b"+1",
    b"1.",
    b".5",
    b"1e",
    b"0x10",
    "١".encode(),
    b"[1,]",
    b"[,1]",
    b"[1 2]",
    b"[",
    b"]",
    b'{"a"}',
    b'{"a":}',
    b'{"a":1,}',
    b"{1:2}",
    b"{'a':1}",
    b'"',
    b'"\\x"',
    b'"\\u12"',
    b'"\\u12g4"',
    b'"\\u+123"',
    b'"\n"',
    b'"\t"',
    b'"\x00"',
    b'"\x1f"',
    b"1 2",
    b"{}{}",
    b"[]]",
    b"1\x00",
    b"\x0c1",
    b"1\x0b",
    b"\xa01",
    "\u00a01".encode(),
    "1\u2028".encode(),
    b"\xef\xbb\xbf1",
    b"\xff",
    b'"\xff"',
    b'"\xed\xa0\x80"',
    b'"\xc0\x80"',
    b'"\xf4\x90\x80\x80"',
    "1".encode("utf-16"),
    b"1 // no",
    b"[" * 1001 + b"]" * 1001,
    b"[" * 1024 + b"]" * 1024,
    b"[" * 1025 + b"]" * 1025,
    b'{"a":' * 1001 + b"1" + b"}" * 1001,
    b'[{"a":' * 500 + b"[]" + b"}]" * 500,
    b'{"a":' + b"[" * 1000 + b"]" * 1000 + b',"a":1}',
    b"[" * 1001 + b'"\\ud800"' + b"]" * 1001,
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"]" * 3000 + b"[" * 3000,
    b" " * 3000,
    b" " * 3000 + b"1,2",
    b" " * 3000 + b"1],[1",
    b" " * 3000 + b"]" * 24 + b"," + b"[" * 24,
    b" " * 3000 + b"1" + b"]" * 24 + b"," + b"[" * 24 + b"1",
)


@pytest.fixture(params=["_json", "orjson"], autouse=True)
def judge(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test is run with the one and with the other."""
    before = jsontext.quick, jsontext._spent
    jsontext.quick, jsontext._spent = None, -(1 << 40)
    if request.param == "orjson":
        jsontext.prepare()
    yield
    jsontext.quick, jsontext._spent = before


def name(message: bytes) -> str:
    return f"{message[:20]!r}*{len(message)}"


@pytest.mark.parametrize("message", VALID, ids=name)
def test_valid(message: bytes) -> None:
    assert jsontext.valid(message)
    assert jsontext.valid(jsontext.fold(message))


@pytest.mark.parametrize("message", INVALID, ids=name)
def test_invalid(message: bytes) -> None:
    assert not jsontext.valid(message)


def test_values() -> None:
    text = b'{"a":[1,-2.5,true,null,"\\u00e9"],"b":{},"a":"last"}'
    assert jsontext.load(text) == {"a": "last", "b": {}}
    assert jsontext.load(b"[1, 12]") == [1, 12]
    assert jsontext.load(b'"\\ud800"') == "\ud800"
    padded = b" " * 5000 + b'{"type":"eof"}'
    assert jsontext.load(padded) == {"type": "eof"}


def test_recursion_limit_is_left_alone() -> None:
    limit = sys.getrecursionlimit()
    jsontext.valid(b"[" * 1000 + b'"\\ud800"' + b"]" * 1000)
    jsontext.valid(b"[" * 1000 + b"}" * 1000)
    assert sys.getrecursionlimit() == limit


def test_no_levels_left_for_the_scanner() -> None:
    """Whatever goes wrong with the depth, RecursionError is not let out."""
    deep = 100_000
    with pytest.raises(ValueError, match="deep"):
        jsontext._scan_all("[" * deep + "]" * deep)


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
def test_both_judges_agree(message: bytes) -> None:
    for text in (message, b" " * 3000 + message):
        try:
            jsontext.scan(text)
        except ValueError:
            assert not jsontext.valid(text)
        else:
            assert jsontext.valid(text)


@given(JSON_VALUES, st.sampled_from((None, 2, "\r\n")), st.booleans())
def test_what_json_writes(
    value: object, indent: str | int | None, ascii_: bool
) -> None:
    try:
        text = json.dumps(value, allow_nan=False, indent=indent, ensure_ascii=ascii_)
        message = text.encode()
    except ValueError:  # NaN, or a surrogate that is not escaped
        return
    assert jsontext.valid(message)
    line = jsontext.fold(message)
    assert not {10, 13} & set(line)
    assert json.loads(line) == json.loads(message)


def test_orjson_comes_when_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsontext, "quick", None)
    monkeypatch.setattr(jsontext, "_spent", 0)
    message = b'"%b"' % (b"x" * (jsontext._BUDGET // 2 - 2))
    assert jsontext.valid(message)
    assert jsontext.valid(message)
    assert jsontext.quick is None
    assert jsontext.valid(b"1")
    assert jsontext.quick is not None


def test_an_orjson_that_knows_no_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orjson.loads", lambda _message: "no limit")
    jsontext.prepare()
    assert jsontext.load(b"[]") == "no limit"
    assert jsontext.load(b" " * 3000 + b"[]") == []
    assert not jsontext.valid(b"[" * 1001 + b"]" * 1001)


def test_line_breaks() -> None:
    assert jsontext.fold(b'[1,\r\n"\\n"\r]\n') == b'[1,  "\\n" ] '
    assert jsontext.fold(b"[]") == b"[]"
