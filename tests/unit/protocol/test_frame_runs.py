"""Runs of equal frames: reading at once equals reading one by one."""

from __future__ import annotations

import itertools
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chimirror.protocol import frame_format, frame_reader, frame_runs
from chimirror.protocol.frame_format import CLOSE, PING, TEXT
from chimirror.protocol.frame_reader import FrameReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.protocol.frame_reader import Event

LIMIT = 3000
SIZES = (0, 1, 64, 125, 126, 127, 200, 2999, 3000, 3001)


def frame(payload: bytes, mask: bytes, first: int = TEXT) -> bytes:
    size = len(payload)
    header = bytes((first, 0x80 | size)) if size < 126 else b"%c\xfe" % first
    if size >= 126:
        header += size.to_bytes(2)
    return header + mask + frame_format.by_stripes(payload, mask)


def plain(event: Event) -> object:
    if isinstance(event, bytes):
        return event
    if isinstance(event, frame_reader.FrameError):
        reason = event.close_reason
        return [type(event), reason.code, reason.text]
    return [type(event), *(getattr(event, name) for name in event.__slots__)]


def read(stream: bytes, cuts: list[int]) -> list[object]:
    reader = FrameReader(LIMIT, takes_binary=True)
    edges = [0, *cuts, len(stream)]
    pieces = [stream[a:b] for a, b in itertools.pairwise(edges)]
    return [plain(event) for piece in pieces for event in reader.receive_data(piece)]


def one_by_one(stream: bytes, cuts: list[int]) -> list[object]:
    """Read like `read`, but without the search for runs."""
    with mock.patch.object(frame_reader, "_RUN", 1 << 40):
        return read(stream, cuts)


MASKS = st.binary(min_size=4, max_size=4)
FILLINGS = st.sampled_from((b"x", b"\x00", "é".encode(), "😀".encode()))


@st.composite
def equals(draw: st.DrawFn) -> bytes:
    """Frames of one size, one of which may differ."""
    size = draw(st.sampled_from(SIZES))
    filling = draw(FILLINGS)
    payload = (b"y" * (size % len(filling)) + filling * size)[:size]
    masks = draw(st.lists(MASKS, min_size=1, max_size=4))
    count = draw(st.integers(1, 40))
    each = [frame(payload, masks[i % len(masks)]) for i in range(count)]
    if draw(st.booleans()):
        odd = draw(st.integers(0, count - 1))
        first = draw(st.sampled_from((TEXT, PING, CLOSE, 0x01, 0x02, 0x82, 0xC1)))
        other = draw(st.binary(max_size=9) | st.just(b"\xff" * size))
        each[odd] = frame(other, masks[0], first)
    return b"".join(each)


STREAMS = st.lists(equals(), min_size=1, max_size=4).map(b"".join)


@settings(max_examples=200)
@given(STREAMS, st.lists(st.floats(0, 1), max_size=4).map(sorted))
@example(frame(b"\xff" * 64, b"abcd") * 99, [])
@example(frame(b"x" * 64, b"abcd") * 50 + frame(b"\xff" * 64, b"abcd") * 50, [])
def test_as_one_by_one(stream: bytes, places: list[float]) -> None:
    cuts = [int(place * len(stream)) for place in places]
    assert read(stream, cuts) == one_by_one(stream, cuts)


@given(st.binary(max_size=300), st.integers(0, 20))
def test_garbage_as_one_by_one(garbage: bytes, count: int) -> None:
    stream = garbage * count + bytes(2048)
    assert read(stream, []) == one_by_one(stream, [])


@pytest.mark.parametrize("size", SIZES)
def test_a_run_is_read_to_its_last_frame(size: int) -> None:
    whole = frame(b"x" * size, b"abcd")
    texts, end = frame_runs.read_uniform_run(whole * 50 + whole[:-1], 0, LIMIT, 99)
    taken = 50 if size <= LIMIT else 0
    assert (texts, end) == ([b"x" * size] * taken, len(whole) * taken)


@pytest.mark.parametrize(
    "stream",
    [
        frame(b"x", b"abcd") * (frame_runs.MIN_FRAMES - 1),
        frame(b"x", b"abcd", PING) * 50,
        b"\x81\x01x" * 50,
        b"\x81\xff" + bytes(500),
        b"\x81\xfe\x00\x01abcdx" * 50,
        frame(b"x", b"abcd") * 3 + frame(b"xx", b"abcd") * 50,
    ],
)
def test_streams_without_a_run(stream: bytes) -> None:
    assert frame_runs.read_uniform_run(stream, 0, LIMIT, 99) == ([], 0)


def test_run_after_a_first_fragment_is_an_error() -> None:
    """Equal frames after a first fragment are an error, and not messages."""
    stream = frame(b"a", b"abcd", 0x01) + frame(b"x" * 64, b"abcd") * 50
    first = len(frame(b"a", b"abcd"))
    for cuts in ([], [first]):
        (event,) = read(stream, cuts)
        assert event == [frame_reader.FrameError, 1002, "protocol"]
