"""Bodies behind headers, however they are cut, and whatever a header may say."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chimirror.wire import framing, headers, jsontext
from chimirror.wire.contract import Violation
from chimirror.wire.lsp import Lsp
from test_framing import frames_of
from test_jsontext import INVALID, VALID

MOST = 6000
BAD = "bad header"
LONG_HEADER = "header over 4096 bytes"
TOO_BIG = "body over --max-message"
NOT_UTF8 = "body not UTF-8"
CUT_OFF = "output cut off"


@pytest.fixture(scope="module", autouse=True)
def _as_before() -> Iterator[None]:
    """Large texts bring the quick judge in; other tests are for the first one."""
    before = jsontext.quick, jsontext._spent
    yield
    jsontext.quick, jsontext._spent = before


def wrap(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def print_all(chunks: list[bytes], most: int = MOST) -> tuple[list[bytes], str]:
    """The messages that a client gets, and the reason if the session was closed."""
    made = Lsp(most)
    messages: list[bytes] = []
    try:
        for chunk in chunks:
            messages += taken(*made.encode("stdout", chunk))
        assert made.finish("stdout") == ([], 0)
    except Violation as violation:
        assert violation.code == 1011
        return messages + taken(*violation.sent), violation.reason
    return messages, ""


def taken(buffers: list[bytes | bytearray], count: int) -> list[bytes]:
    messages = frames_of(b"".join(buffers))
    assert len(messages) == count
    return messages


def cut(output: bytes, size: int) -> list[bytes]:
    return [output[at : at + size] for at in range(0, len(output), size)]


# To the client

HEADER = b"Content-Length: 2\r\n"


@pytest.mark.parametrize(
    "header",
    [
        HEADER,
        b"content-length:2\r\n",
        b"CONTENT-LENGTH: \t 2 \t\r\n",
        HEADER + b"Content-Type: application/vscode-jsonrpc; charset=utf-8\r\n",
        b'Content-Type: x/y; a=b; Charset="UTF8"\r\n' + HEADER,
        b"Content-Type: application/json\r\n" + HEADER,
        b"Content-Type:\r\n" + HEADER,
        b"X-Unknown: any: thing\rat all\r\n" + HEADER + b"x:\r\n",
        b"Other: " + b"x" * 4066 + b"\r\n" + HEADER,
    ],
)
def test_good_headers(header: bytes) -> None:
    output = wrap(b"[1]") + header + b"\r\n{}" + wrap("é".encode())
    for size in (1, 2, 3, 7, 5000):
        chunks = cut(output, size)
        assert print_all(chunks) == ([b"[1]", b"{}", "é".encode()], "")


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        # Not a header.
        (b"\r\n\r\n{}", BAD),
        (b"\r\n" + HEADER + b"\r\n{}", BAD),
        (b"hello\n", BAD),
        (b"hello: world\n", BAD),
        (b"{}\r\n", BAD),
        (b"Content-Length: 2\n\n{}", BAD),
        (b"Content-Length: 2\r\r\n", BAD),
        (HEADER + b"\n{}", BAD),
        (HEADER + b"folded\r\n", BAD),
        (HEADER + b" folded: too\r\n", BAD),
        (b"Content-Length : 2\r\n", BAD),
        (b": 2\r\n", BAD),
        (b"X: \xe9\r\n", BAD),
        (b"X\xe9: \r\n", BAD),
        # Not one length.
        (b"Content-Type: x\r\n\r\n", BAD),
        (HEADER + HEADER, BAD),
        (HEADER + b"content-length: 3\r\n", BAD),
        *(
            (b"Content-Length: %b\r\n" % value, BAD)
            for value in b"-1 +2 02 00 0x2 2.0 2e1 2,2 2_0 two \xb2 \xd9\xa2".split()
        ),
        (b"Content-Length: \r\n", BAD),
        (b"Content-Length: 2 2\r\n", BAD),
        (b"Content-Length: 2\x0b\r\n", BAD),
        (b"Content-Length: -9999\r\n", BAD),
        # Not UTF-8.
        (HEADER + b"Content-Type: x/y; charset=utf-16\r\n", BAD),
        (HEADER + b"Content-Type: x/y;a; charset=\r\n", BAD),
        (wrap(b"\xff"), NOT_UTF8),
        (wrap(b"\xed\xa0\x80"), NOT_UTF8),
        (wrap(b"\xc3") + b"\xa9", NOT_UTF8),
        # Too much.
        (b"Content-Length: 6001\r\n", TOO_BIG),
        (b"Content-Length: 18446744073709551616\r\n", TOO_BIG),
        (b"Content-Length: " + b"9" * 4078 + b"\r\n", TOO_BIG),
        (b"Content-Length: 6001\r\nnot: \xff\r\n", TOO_BIG),
        (b"Content-Length: " + b"9" * 4080, LONG_HEADER),
        (b"x" * 4096, LONG_HEADER),
        (b"x" * 5000 + b"\n", LONG_HEADER),
        (b"Other: " + b"x" * 4067 + b"\r\n" + HEADER + b"\r\n", LONG_HEADER),
        (b"\r" * 4096, LONG_HEADER),
        (b"a:\r\n" * 1024, LONG_HEADER),
        # Too little.
        (b"C", CUT_OFF),
        (b"hello", CUT_OFF),
        (HEADER, CUT_OFF),
        (HEADER + b"\r", CUT_OFF),
        (HEADER + b"\r\n", CUT_OFF),
        (HEADER + b"\r\n{", CUT_OFF),
        (wrap(b"{}") + b"\r", CUT_OFF),
    ],
)
def test_bad_output(output: bytes, reason: str) -> None:
    """What came before is sent; and it is told as soon as a line or a length tells."""
    rest = wrap(b"never") if reason != CUT_OFF else b""
    for size in (1, 2, 3, 7, 5000):
        chunks = cut(wrap(b"1") + wrap(b"2") + output, size)
        messages, found = print_all(chunks)
        assert (messages[:2], found) == ([b"1", b"2"], reason)
        if rest:
            assert print_all([*chunks, rest]) == (messages, found)


def test_an_empty_body_is_an_empty_message() -> None:
    for size in (1, 5000):
        assert print_all(cut(wrap(b"") * 2, size)) == ([b"", b""], "")


def test_the_largest_body() -> None:
    body = b"x" * MOST
    for size in (1, 4096, 1 << 16):
        assert print_all(cut(wrap(body) * 2, size)) == ([body, body], "")


# Anything goes

FIELDS = st.sampled_from(
    [
        b"Content-Type: a/b; charset=utf8\r\n",
        b"X: y\r\n",
        b"Y: " + b"y" * 300 + b"\r\n",
    ]
)
BODIES = st.one_of(
    st.text(max_size=40).map(str.encode),
    st.sampled_from([b"\r\n\r\n", wrap(b"{}"), b"\n" * 300]),
    st.sampled_from([125, 126, 2047, 2048, MOST]).map(lambda size: b"x" * size),
)


@st.composite
def outputs(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    bodies = draw(st.lists(BODIES, max_size=8))
    output = b""
    for body in bodies:
        before, after = draw(st.lists(FIELDS, max_size=2)), draw(st.lists(FIELDS))
        length = b"Content-Length: %d\r\n" % len(body)
        output += b"".join([*before, length, *after[:2], b"\r\n", body])
    return output, bodies


PLACES = st.lists(st.floats(0, 1), max_size=8).map(sorted)


def pieces(output: bytes, places: list[float]) -> list[bytes]:
    edges = [0, *(int(place * len(output)) for place in places), len(output)]
    parts = [output[a:b] for a, b in itertools.pairwise(edges)]
    return [part for part in parts if part]


@settings(max_examples=300)
@given(outputs(), PLACES)
def test_any_chunking_gives_the_same_messages(
    printed: tuple[bytes, list[bytes]], places: list[float]
) -> None:
    output, bodies = printed
    assert print_all(pieces(output, places)) == (bodies, "")


TOKENS = (
    b"Content-Length",
    b"Content-Type",
    b":",
    b" ",
    b"0",
    b"1",
    b"2",
    b"10",
    b"6001",
    b"; charset=",
    b"utf-8",
    b"\r\n",
    b"\r\n\r\n",
    b"\r",
    b"\n",
    b"{}",
    b"\xc3",
    b"\xa9",
    b"Content-Length: 2\r\n\r\n",
    b"x" * 4070,
)
GARBAGE = st.lists(st.sampled_from(TOKENS), max_size=20).map(b"".join)


@settings(max_examples=500)
@given(st.one_of(GARBAGE, st.binary(max_size=60)), PLACES)
@example(b"Content-Length: 2\r\n\r\nContent-Length: 2\r\n\r\n", [0.4])
def test_garbage_is_judged_alike_in_any_pieces(
    output: bytes, places: list[float]
) -> None:
    whole = print_all([output])
    assert print_all(pieces(output, places)) == whole
    assert print_all(cut(output, 1)) == whole


# Nothing for nothing


def test_a_large_body_is_not_copied_behind_its_header() -> None:
    made = Lsp(1 << 20)
    size = 1 << 20
    output = wrap(b"x" * size)
    for chunk in cut(output, 4096)[:-1]:
        assert made.encode("stdout", chunk) == ([], 0)
    last = output[-(len(output) % 4096) :]
    (header, body), messages = made.encode("stdout", last + wrap(b"")[:5])
    assert (len(header), len(body), messages) == (10, size, 1)
    assert isinstance(body, bytearray)  # the one in which it was gathered


def test_bodies_of_4096_bytes_go_out_from_where_they_are() -> None:
    body = b"x" * 4096
    buffers, messages = Lsp(1 << 20).encode("stdout", wrap(body) * 15)
    assert (buffers[1::2], messages) == ([body] * 15, 15)
    assert len(body) > headers._LARGE


def test_a_promise_of_much_costs_nothing() -> None:
    made = Lsp(1 << 30)
    tracemalloc.start()
    try:
        assert made.encode("stdout", b"Content-Length: 1000000000\r\n\r\n{") == ([], 0)
        assert tracemalloc.get_traced_memory()[1] < 1 << 16
    finally:
        tracemalloc.stop()


# From the client


@pytest.mark.parametrize("number", range(len(VALID)))
def test_json_is_delivered_as_it_is(number: int) -> None:
    assert Lsp(MOST).decode(VALID[number]) == wrap(VALID[number])


@pytest.mark.parametrize("number", range(len(INVALID)))
def test_what_is_not_json_ends_the_session(number: int) -> None:
    violation = Lsp(MOST).decode(INVALID[number])
    assert isinstance(violation, Violation)
    assert (violation.code, violation.reason) == (1007, "not JSON")
    assert violation.sent == ([], 0)


@given(st.lists(st.sampled_from([b"{}", b'{\r\n"a":\n1}', '"é"'.encode(), b" 1\n"])))
def test_both_ways(messages: list[bytes]) -> None:
    """What a client sends comes back from one that echoes, byte by byte."""
    made = framing.create("lsp", MOST)
    sent = [made.decode(message) for message in messages]
    output = b"".join(part for part in sent if isinstance(part, bytes))
    assert print_all(cut(output, 5)) == (messages, "")


def test_it_says_nothing_of_itself() -> None:
    made = framing.create("lsp", MOST)
    assert made.opened("id", "") == made.ended(0, None) == made.error("text") == b""


def test_it_carries_no_stderr() -> None:
    with pytest.raises(AssertionError):
        framing.create("lsp", MOST).encode("stderr", b"x")
