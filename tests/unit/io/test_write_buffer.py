"""The write buffer neither loses, reorders, duplicates nor splits units.

The kernel is a fake that takes a number of bytes chosen by Hypothesis. So a write ends
at every offset of every buffer.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chimirror.io import write_buffer
from chimirror.io.write_buffer import IOV_MAX, JOINED, WriteBuffer, write_now


class Kernel:
    """write(2) and writev(2) with given room for each call, and then with none."""

    def __init__(self, room: Iterable[int]) -> None:
        self.room = list(room)
        self.taken = b""

    def writev(self, fd: int, buffers: list[bytes]) -> int:
        assert len(buffers) <= IOV_MAX
        if not self.room or not (room := self.room.pop(0)):
            raise BlockingIOError
        data = b"".join(buffers)[:room]
        self.taken += data
        return len(data)

    def write(self, fd: int, data: bytes) -> int:
        return self.writev(fd, [data])

    def __enter__(self) -> Kernel:
        self.patch = mock.patch.object(write_buffer, "os", self)
        self.patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.patch.stop()


def flush(box: WriteBuffer, *room: int) -> bytes:
    """Return the bytes written by a flush with so much room."""
    with Kernel(room) as kernel:
        box.flush(-1)
    return kernel.taken


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=6), st.integers(0, 60))
def test_the_unwritten_rest_is_returned(buffers: list[bytes], room: int) -> None:
    with Kernel([room]) as kernel:
        rest = write_now(-1, buffers)
    assert kernel.taken == b"".join(buffers)[:room]
    assert kernel.taken + rest == b"".join(buffers)


def test_more_buffers_than_one_call_takes() -> None:
    buffers = [b"%d," % number for number in range(3 * IOV_MAX)]
    with Kernel([1 << 20]) as kernel:
        rest = write_now(-1, buffers)
    assert rest
    assert kernel.taken + rest == b"".join(buffers)


@pytest.mark.parametrize("count", [1, 2])
def test_a_broken_descriptor_raises(count: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        write_now(writer, [b"x"] * count)
    with pytest.raises(BrokenPipeError):
        WriteBuffer(b"x").flush(writer)
    os.close(writer)


def test_a_real_pipe() -> None:
    reader, writer = os.pipe()
    for fd in (reader, writer):
        os.set_blocking(fd, False)
    sent = [bytes([number]) * 999 for number in range(256)]
    box = WriteBuffer(write_now(writer, sent))
    assert box.size > 0
    box.append([b"the", b"end"])
    got = b""
    while True:
        done = box.flush(writer)
        got += os.read(reader, 1 << 17)
        if done:
            break
    assert got == b"".join([*sent, b"the", b"end"])
    assert box.size == 0
    os.close(reader)
    os.close(writer)


# A unit is its number, its length and as many bytes: `7:3:xxx`.


def unit(number: int, length: int) -> bytes:
    return b"%d:%d:%s" % (number, length, b"x" * length)


def numbers(stream: bytes) -> list[int]:
    """Return the numbers of the units in a stream, each of which must be whole."""
    found = []
    while stream:
        number, length, rest = stream.split(b":", 2)
        assert rest.startswith(b"x" * int(length)), "a unit was cut in two"
        found.append(int(number))
        stream = rest[int(length) :]
    return found


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(0, 40)),
        st.tuples(st.just("front"), st.integers(0, 9)),
        st.tuples(st.just("flush"), st.integers(0, 70)),
        st.tuples(st.just("drop"), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=400)
@given(STEPS, st.integers(0, 30))
def test_no_unit_is_lost_reordered_or_duplicated(
    steps: list[tuple[str, int]], first: int
) -> None:
    whole = unit(0, 30)
    stream = whole[:first]
    box = WriteBuffer(whole[first:])
    pushed, fronts, dropped = [0], set(), False
    for number, (step, argument) in enumerate(steps, start=1):
        if step == "push":
            data = unit(number, argument)
            box.append([data[:2], data[2:]] if argument % 2 else [data])
            pushed.append(number)
        elif step == "front":
            box.prepend(unit(number, argument))
            fronts.add(number)
        elif step == "drop":
            box.drop_unsent()
            dropped = True
        else:
            before = box.size
            written = flush(box, argument, argument)
            assert before - box.size == len(written)
            stream += written
    stream += flush(box, 1 << 20, 1 << 20)
    assert box.size == 0
    sent = numbers(stream)
    assert [number for number in sent if number not in fronts] == (
        [number for number in pushed if number in sent] if dropped else pushed
    )
    assert len(set(sent)) == len(sent)
    assert dropped or fronts <= set(sent)


def test_prepend_precedes_units_that_have_not_begun() -> None:
    box = WriteBuffer(unit(1, 5))
    box.append([unit(2, 5)])
    box.prepend(unit(3, 0))
    assert numbers(flush(box, 99)) == [1, 3, 2]


def test_prepend_between_two_units() -> None:
    box = WriteBuffer(unit(1, 5))
    box.append([unit(2, 5)])
    begun = flush(box, len(unit(1, 5)))
    box.prepend(unit(3, 0))
    assert numbers(begun + flush(box, 99)) == [1, 3, 2]


def test_a_partly_written_unit_is_not_discarded() -> None:
    box = WriteBuffer(unit(1, 5))
    box.append([unit(2, JOINED)])
    box.append([unit(3, JOINED)])
    begun = flush(box, len(unit(1, 5)) + 1)
    box.drop_unsent()
    assert box.size == len(unit(2, JOINED)) - 1
    assert numbers(begun + flush(box, 2 * JOINED)) == [1, 2]


def test_short_units_are_joined() -> None:
    """A pong of seven bytes must not take an object and an entry of its own."""
    box = WriteBuffer(unit(0, 5))
    for number in range(1, 10_001):
        box.append([unit(number, 0)])
        box.append([b""])
    assert len(box._units) <= 2 + 2 * box.size // JOINED
    assert numbers(flush(box, *[1 << 20] * 9)) == list(range(10_001))


def test_more_units_than_one_call_takes() -> None:
    box = WriteBuffer(b"")
    for number in range(500):
        box.append([unit(number, number + JOINED)])
    assert numbers(flush(box, *[1 << 20] * 9)) == list(range(500))


def test_flush_stops_where_the_kernel_does() -> None:
    """After a short write the pipe is full: another call would only report that."""
    box = WriteBuffer(b"abcdef")
    with Kernel([3, 99]) as kernel:
        assert box.flush(-1) is False
        assert (kernel.taken, kernel.room) == (b"abc", [99])
        assert box.flush(-1) is True
    assert kernel.taken == b"abcdef"
