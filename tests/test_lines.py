"""Lines of any length, the long ones too: the plain way is to split all there is."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chimirror.wire import headers
from chimirror.wire.contract import Violation
from chimirror.wire.headers import text_frames
from chimirror.wire.lines import Lines

MOST = 6000
LENGTHS = (0, 1, 125, 126, 255, 256, 257, 2047, 2048, 2049, 5999, 6000, 6001)


def plainly(output: bytes) -> tuple[bytes, int, str]:
    """Frames, their number, and the reason if the session was closed."""
    *whole, last = output.split(b"\n")
    lines = [line.removesuffix(b"\r") for line in whole] + [last] * bool(last)
    for number, line in enumerate(lines):
        reason = ""
        if len(line) > MOST:
            reason = "line over --max-message"
        elif line.decode(errors="replace").encode() != line:
            reason = "line not UTF-8"
        if reason:
            return text_frames(list(lines[:number])), number, reason
    return text_frames(list(lines)), len(lines), ""


def print_all(chunks: list[bytes]) -> tuple[bytes, int, str]:
    made = Lines(MOST)
    sent, count, reason = b"", 0, ""
    try:
        for chunk in chunks:
            buffers, messages = made.encode("stdout", chunk)
            sent += b"".join(buffers)
            count += messages
        buffers, messages = made.finish("stdout")
    except Violation as violation:
        buffers, messages = violation.sent
        reason = violation.reason
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
def test_as_plainly(output: bytes, places: list[float]) -> None:
    cuts = [int(place * len(output)) for place in places]
    edges = [0, *cuts, len(output)]
    chunks = [output[a:b] for a, b in itertools.pairwise(edges)]
    assert print_all([chunk for chunk in chunks if chunk]) == plainly(output)


@pytest.mark.parametrize("size", [1 << 16, 1 << 20])
def test_a_large_line_is_not_copied_behind_its_header(size: int) -> None:
    made = Lines(1 << 20)
    for _ in range(0, size, 4096):
        assert made.encode("stdout", b"x" * 4096) == ([], 0)
    (header, line), messages = made.encode("stdout", b"\nmore")
    assert (len(header), len(line), messages) == (10, size, 1)
    assert b"".join(made.finish("stdout")[0]) == b"\x81\x04more"


def test_lines_of_4096_bytes_go_out_from_where_they_are() -> None:
    line = b"x" * 4095
    buffers, messages = Lines(1 << 20).encode("stdout", (line + b"\n") * 16)
    assert (buffers[1::2], messages) == ([line] * 16, 16)
    assert len(line) > headers._LARGE
