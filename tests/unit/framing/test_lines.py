"""Lines of any length, with a plain split of the whole output as the reference."""

from __future__ import annotations

import io
import itertools
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chimirror.framing import FramingError
from chimirror.framing.lines import _MAX_JOINED, LinesFraming, SplitLinesFraming
from chimirror.protocol import frame_format
from chimirror.protocol.frame_format import text_frames

MOST = 6000
LENGTHS = (0, 1, 125, 126, 255, 256, 257, 2047, 2048, 2049, 5999, 6000, 6001)


def split_plainly(output: bytes) -> tuple[bytes, int, str]:
    """Return the messages, their number, and the reason of a closed session."""
    *whole, last = output.split(b"\n")
    lines = [line.removesuffix(b"\r") for line in whole] + [last] * bool(last)
    for number, line in enumerate(lines):
        reason = ""
        if len(line) > MOST:
            reason = "line over --max-line"
        elif line.decode(errors="replace").encode() != line:
            reason = "line not UTF-8"
        if reason:
            return text_frames(list(lines[:number])), number, reason
    return text_frames(list(lines)), len(lines), ""


def encode_all(chunks: list[bytes]) -> tuple[bytes, int, str]:
    made = LinesFraming(MOST)
    sent, count, reason = b"", 0, ""
    try:
        for chunk in chunks:
            buffers, messages = made.encode("stdout", chunk)
            sent += b"".join(buffers)
            count += messages
        buffers, messages = made.flush("stdout")
    except FramingError as error:
        buffers, messages = error.sent
        reason = error.close_reason.text
    return sent + b"".join(buffers), count + messages, reason


@st.composite
def outputs(draw: st.DrawFn) -> bytes:
    lengths = st.sampled_from(LENGTHS) | st.integers(0, 300)
    fillings = st.sampled_from((b"x", b"x", b"\r", "é".encode(), b"\xff"))
    ends = st.sampled_from((b"\n", b"\n", b"\r\n", b"\r\r\n", b""))
    pieces = []
    for length in draw(st.lists(lengths, max_size=12)):
        filling = draw(fillings)
        line = (filling * length)[: length // len(filling) * len(filling)]
        pieces.append(line + draw(ends))
    return b"".join(pieces)


@settings(max_examples=300)
@given(outputs(), st.lists(st.floats(0, 1), max_size=8).map(sorted))
def test_equals_a_plain_split(output: bytes, places: list[float]) -> None:
    cuts = [int(place * len(output)) for place in places]
    edges = [0, *cuts, len(output)]
    chunks = [output[a:b] for a, b in itertools.pairwise(edges)]
    assert encode_all([chunk for chunk in chunks if chunk]) == split_plainly(output)


@pytest.mark.parametrize("size", [1 << 16, 1 << 18])
def test_a_large_line_is_not_copied_behind_its_header(size: int) -> None:
    made = LinesFraming(1 << 20)
    for _ in range(0, size, 4096):
        assert made.encode("stdout", b"x" * 4096) == ([], 0)
    (header, line), messages = made.encode("stdout", b"\nmore")
    assert (len(header), len(line), messages) == (10, size, 1)
    assert b"".join(made.flush("stdout")[0]) == b"\x81\x04more"


def test_lines_of_4096_bytes_are_not_copied() -> None:
    line = b"x" * 4095
    buffers, messages = LinesFraming(1 << 20).encode("stdout", (line + b"\n") * 16)
    assert (buffers[1::2], messages) == ([line] * 16, 16)
    assert len(line) > frame_format._LARGE


@pytest.mark.parametrize(("size", "buffers"), [(_MAX_JOINED - 1, 1), (_MAX_JOINED, 2)])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_one_line_is_one_buffer(size: int, buffers: int, end: bytes) -> None:
    line = b"x" * (size + 1 - len(end))
    made, messages = LinesFraming(1 << 20).encode("stdout", line + end)
    assert (len(made), messages) == (buffers, 1)
    assert b"".join(made) == text_frames([line])
    with pytest.raises(FramingError):
        LinesFraming(len(line) - 1).encode("stdout", line + end)
    with pytest.raises(FramingError):
        LinesFraming(1 << 20).encode("stdout", line[1:] + b"\xff" + end)


def lines_of(message: bytes) -> bytes:
    """Return the lines of a message in the way of Python's text files."""
    text = io.TextIOWrapper(io.BytesIO(message), "utf-8").read()
    try:
        json.loads(text)
    except ValueError:
        pass
    else:
        text = text.removesuffix("\n").replace("\n", " ")
    return re.sub("\n?$", "\n", text, count=1).encode()


MESSAGES = st.lists(
    st.sampled_from(["\n", "\r", "\r\n", "[", "]", ",", '"a b"', "1", " ", "é", "x"]),
    max_size=12,
).map(lambda pieces: "".join(pieces).encode())


@settings(max_examples=300)
@given(st.lists(MESSAGES, min_size=1, max_size=3), st.booleans())
def test_a_message_may_be_several_lines(messages: list[bytes], binary: bool) -> None:
    made = SplitLinesFraming(MOST)
    decode = made.decode_binary if binary else made.decode
    lines = [lines_of(message) for message in messages]
    assert [decode(message) for message in messages] == lines
    assert made.decode_batch([*messages]) in (None, b"".join(lines))


@pytest.mark.parametrize(
    ("message", "lines"),
    [
        (b"", b"\n"),
        (b"\r\n", b"\n"),
        (b"\n\n", b"\n\n"),
        (b"a\r\nb\rc\n", b"a\nb\nc\n"),
        (b"a\n\rb", b"a\n\nb\n"),
        (b'{"a":\r\n1}\r\n', b'{"a": 1}\n'),
        (b"1\n", b"1\n"),
        (b"1\n2\n", b"1\n2\n"),
    ],
)
def test_line_breaks_of_a_message(message: bytes, lines: bytes) -> None:
    assert SplitLinesFraming(MOST).decode(message) == lines == lines_of(message)
