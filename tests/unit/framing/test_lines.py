"""Lines of any length, with a plain split of the whole output as the reference."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chimirror.framing import FramingError
from chimirror.framing.lines import LinesFraming
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
