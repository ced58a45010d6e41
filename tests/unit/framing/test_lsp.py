"""Bodies behind headers, for every cut and for every kind of header."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chimirror.framing import FramingError, registry
from chimirror.framing.lsp import LspFraming
from chimirror.protocol import frame_format, json_text
from frame_texts import frames_of
from json_texts import INVALID, VALID

MAX_MESSAGE = 6000
BAD = "bad header"
LONG_HEADER = "header over 4096 bytes"
TOO_BIG = "body over --max-line"
NOT_UTF8 = "body not UTF-8"
CUT_OFF = "output cut off"


@pytest.fixture(scope="module", autouse=True)
def _restored_scanner() -> Iterator[None]:
    """Restore the scanner after each test: large texts bring in orjson."""
    before = json_text.fast_parse, json_text._spent
    yield
    json_text.fast_parse, json_text._spent = before


def wrap(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def encode_all(
    chunks: list[bytes], max_message: int = MAX_MESSAGE
) -> tuple[list[bytes], str]:
    """Return the messages that a client gets, and the reason of a closed session."""
    made = LspFraming(max_message, max_message)
    messages: list[bytes] = []
    try:
        for chunk in chunks:
            messages += messages_of(*made.encode("stdout", chunk))
        assert made.flush("stdout") == ([], 0)
    except FramingError as error:
        assert error.close_reason.code == 1011
        return messages + messages_of(*error.sent), error.close_reason.text
    return messages, ""


def messages_of(
    buffers: list[bytes | bytearray | memoryview], count: int
) -> list[bytes]:
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
        assert encode_all(chunks) == ([b"[1]", b"{}", "é".encode()], "")


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
    """Earlier bodies are sent. The first line or length that decides is the last."""
    rest = wrap(b"never") if reason != CUT_OFF else b""
    for size in (1, 2, 3, 7, 5000):
        chunks = cut(wrap(b"1") + wrap(b"2") + output, size)
        messages, found = encode_all(chunks)
        assert (messages[:2], found) == ([b"1", b"2"], reason)
        if rest:
            assert encode_all([*chunks, rest]) == (messages, found)


def test_an_empty_body_is_an_empty_message() -> None:
    for size in (1, 5000):
        assert encode_all(cut(wrap(b"") * 2, size)) == ([b"", b""], "")


def test_the_largest_body() -> None:
    body = b"x" * MAX_MESSAGE
    for size in (1, 4096, 1 << 16):
        assert encode_all(cut(wrap(body) * 2, size)) == ([body, body], "")


# Arbitrary output

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
    st.sampled_from([125, 126, 2047, 2048, MAX_MESSAGE]).map(lambda size: b"x" * size),
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
    assert encode_all(pieces(output, places)) == (bodies, "")


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
def test_any_chunking_of_garbage_gives_the_same_result(
    output: bytes, places: list[float]
) -> None:
    whole = encode_all([output])
    assert encode_all(pieces(output, places)) == whole
    assert encode_all(cut(output, 1)) == whole


# Costs


def test_a_large_body_is_not_copied_behind_its_header() -> None:
    made = LspFraming(1 << 20, 1 << 20)
    size = 1 << 18
    output = wrap(b"x" * size)
    for chunk in cut(output, 4096)[:-1]:
        assert made.encode("stdout", chunk) == ([], 0)
    last = output[-(len(output) % 4096) :]
    (header, body), messages = made.encode("stdout", last + wrap(b"")[:5])
    assert (len(header), len(body), messages) == (10, size, 1)
    assert isinstance(body, bytearray)  # the buffer in which it was collected


def test_bodies_of_4096_bytes_are_not_copied() -> None:
    body = b"x" * 4096
    buffers, messages = LspFraming(1 << 20, 1 << 20).encode("stdout", wrap(body) * 15)
    assert (buffers[1::2], messages) == ([body] * 15, 15)
    assert len(body) > frame_format._LARGE


def test_an_announced_length_costs_nothing() -> None:
    made = LspFraming(1 << 30, 1 << 30)
    tracemalloc.start()
    try:
        assert made.encode("stdout", b"Content-Length: 1000000000\r\n\r\n{") == ([], 0)
        assert tracemalloc.get_traced_memory()[1] < 1 << 16
    finally:
        tracemalloc.stop()


# From the client


@pytest.mark.parametrize("number", range(len(VALID)))
def test_json_is_delivered_as_it_is(number: int) -> None:
    assert LspFraming(MAX_MESSAGE, MAX_MESSAGE).decode(VALID[number]) == wrap(
        VALID[number]
    )


@pytest.mark.parametrize("number", range(len(INVALID)))
def test_other_messages_than_json_end_the_session(number: int) -> None:
    error = LspFraming(MAX_MESSAGE, MAX_MESSAGE).decode(INVALID[number])
    assert isinstance(error, FramingError)
    assert (error.close_reason.code, error.close_reason.text) == (
        1007,
        "not JSON",
    )
    assert error.sent == ([], 0)


@given(st.lists(st.sampled_from([b"{}", b'{\r\n"a":\n1}', '"é"'.encode(), b" 1\n"])))
def test_both_ways(messages: list[bytes]) -> None:
    """An echo returns a client's messages byte by byte."""
    made = registry.create("lsp", MAX_MESSAGE)
    sent = [made.decode(message) for message in messages]
    output = b"".join(part for part in sent if isinstance(part, bytes))
    assert encode_all(cut(output, 5)) == (messages, "")


def test_no_session_messages() -> None:
    made = registry.create("lsp", MAX_MESSAGE)
    assert (
        made.session_message("id", "", "both", read_only=False)
        == made.exit_message(0, None)
        == made.error_message("text")
        == b""
    )


def test_no_stderr() -> None:
    with pytest.raises(AssertionError):
        registry.create("lsp", MAX_MESSAGE).encode("stderr", b"x")


# From a client that sends a byte stream

CLIENT_BODIES = st.lists(
    st.sampled_from(
        [b"1", b"{}", '["é😀"]'.encode(), b'"' + b"x" * 300 + b'"', b"[\n]"]
    )
)


def deliver(messages: list[bytes], *, binary: bool = True) -> tuple[bytes, object]:
    """Return what the application gets, and the code and reason of the close."""
    made = LspFraming(MAX_MESSAGE, MAX_MESSAGE)
    heard = b""
    for message in messages:
        request = made.decode_binary(message) if binary else made.decode(message)
        if isinstance(request, FramingError):
            reason = request.close_reason
            return heard + request.received, (reason.code, reason.text)
        assert isinstance(request, bytes)
        heard += request
    return heard, None


@given(CLIENT_BODIES, PLACES)
def test_any_cut_of_a_byte_stream(bodies: list[bytes], places: list[float]) -> None:
    """Only the first message must hold the beginning of a name."""
    length, kind = b"Content-Length: 1\r\n", b"Content-Type: x/y; charset=utf-8\r\n"
    for first in (length + kind + b"\r\n1", kind + length + b"\r\n1"):
        output = first[8:] + b"".join(map(wrap, bodies))
        expected = wrap(b"1") + b"".join(map(wrap, bodies))
        assert deliver([first[:8], *pieces(output, places)]) == (expected, None)
        assert deliver([first[:8], *cut(output, 1)]) == (expected, None)
        assert deliver([first[:8] + output]) == (expected, None)


@pytest.mark.parametrize(
    ("stream", "code", "text"),
    [
        (b"{}", 1007, BAD),
        (b"hello\n", 1007, BAD),
        (b"\xef\xbb\xbfContent-Length: 1\r\n\r\n1", 1007, BAD),
        (b"Content-Length: 2\n\n{}", 1007, BAD),
        (b"Content-Length: -1\r\n", 1007, BAD),
        (b"X: y\r\n\r\n", 1007, BAD),
        (b"x" * 4096, 1007, BAD),
        (b"Content-Length: 6001\r\n", 1009, "over --max-message"),
        (wrap(b"hello"), 1007, "not JSON"),
        (wrap(b""), 1007, "not JSON"),
        (wrap(b'"\xff"'), 1003, "binary"),
    ],
)
def test_errors_in_a_byte_stream(stream: bytes, code: int, text: str) -> None:
    """What came before is delivered, however the stream is cut."""
    start = wrap(b"1") + wrap(b"2")
    rest = b"\n" + b"x" * 4096
    for size in (1, 2, 3, 7, 9000):
        messages = [start[:16], *cut(start[16:] + stream + rest, size)]
        assert deliver(messages) == (start, (code, text))
    assert deliver([start + stream + rest]) == (start, (code, text))


def test_a_text_stream_that_cuts_a_character() -> None:
    stream = b"Content-Length: 2\r\n\r\n" + '"é"'.encode()
    assert deliver([stream], binary=False) == (b"", (1007, "not UTF-8"))


def test_a_byte_stream_begins_with_the_first_message() -> None:
    assert deliver([b"1", wrap(b"2")]) == (wrap(b"1"), (1007, "not JSON"))
    assert deliver([wrap(b"1"), b"2"])[0] == wrap(b"1")


def test_a_byte_stream_holds_no_buffer_when_idle() -> None:
    made = LspFraming(1 << 20, 1 << 20)
    large = wrap(b'"' + b"x" * (1 << 19) + b'"')
    made.decode(wrap(b"1"))
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for piece in cut(large, 65536):
        made.decode(piece)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 65536


@given(st.lists(BODIES, max_size=5), PLACES)
def test_bodies_for_a_byte_stream_have_headers(
    bodies: list[bytes], places: list[float]
) -> None:
    made = LspFraming(MAX_MESSAGE, MAX_MESSAGE)
    made.decode(wrap(b"1"))
    messages: list[bytes] = []
    for chunk in pieces(b"".join(map(wrap, bodies)), places):
        messages += messages_of(*made.encode("stdout", chunk))
    assert messages == [wrap(body) for body in bodies]


def test_a_long_body_for_a_byte_stream_is_one_message() -> None:
    """Its fragments begin with the header."""
    made = LspFraming(1 << 20, 1 << 20)
    made.decode(wrap(b"1"))
    output = wrap("é".encode() * (1 << 18) + b"x")
    frames: list[bytes | bytearray | memoryview] = []
    counts = 0
    for chunk in cut(output, 65536):
        buffers, count = made.encode("stdout", chunk)
        frames += buffers
        counts += count
    assert (frames_of(b"".join(frames)), counts) == ([output], 1)
