"""Messages do not depend on how their bytes are cut, and their memory is bounded."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.services.line_parser import (
    Event,
    Fault,
    Line,
    LineParser,
    Reference,
    format_reference,
)

MAX = 20
LINES = st.binary(max_size=2 * MAX).filter(lambda line: b"\n" not in line)


def parse(pieces: Iterable[bytes], max_message: int = MAX) -> list[Event]:
    parser = LineParser(max_message)
    found: list[Event] = []
    for piece in pieces:
        parser.receive_data(piece)
        while (event := parser.next_event()) is not None:
            found.append(event)
        assert parser.needs_data
    last = parser.receive_end()
    return [*found, last] if last else found


@given(st.lists(LINES), LINES, st.lists(st.integers(0, 500)))
def test_cuts_do_not_matter(lines: list[bytes], rest: bytes, cuts: list[int]) -> None:
    stream = b"".join(line + b"\n" for line in lines) + rest
    places = [0, *sorted(cut for cut in cuts if cut <= len(stream)), len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(places)]
    found = parse(pieces)
    assert (
        found == parse([stream]) == parse(stream[i : i + 1] for i in range(len(stream)))
    )
    assert len(found) == len(lines) + bool(rest)
    for line, event in zip(lines, found, strict=False):
        if not line.startswith(b"@") and len(line) <= MAX:
            assert event == Line(line)
        if len(line) > MAX:
            assert event == Fault(f"{len(line)} bytes are more than {MAX}", line)


@given(st.sampled_from(["bytes", "json"]), st.integers(1, 10**18 - 1))
def test_references(kind: str, size: int) -> None:
    line = format_reference("bytes" if kind == "bytes" else "json", size)
    assert parse([line], 100) == [
        Reference("bytes" if kind == "bytes" else "json", size)
    ]


@pytest.mark.parametrize(
    "line",
    ["@", "@bytes", "@bytes 0", "@bytes 01", "@bytes -1", "@bytes 1 ", "@text 1",
     "@json 1e3", "@json " + "9" * 19, "@bytes 1\r", "@@bytes 1"],
)  # fmt: skip
def test_no_references(line: str) -> None:
    (found,) = parse([line.encode() + b"\n"], 100)
    assert isinstance(found, Fault)
    assert found.evidence == line.encode()


def test_a_long_line_takes_no_memory() -> None:
    parser = LineParser(MAX)
    kept = 0
    for _ in range(1000):
        parser.receive_data(b"x" * 1000)
        assert parser.next_event() is None
        kept = max(kept, sum(map(len, parser._pieces)) + len(parser._evidence or b""))
    assert kept <= 1000
    parser.receive_data(b"\n1\n")
    assert parser.next_event() == Fault(
        f"1000000 bytes are more than {MAX}", b"x" * 400
    )
    assert parser.next_event() == Line(b"1")
    assert parser.next_event() is None


def test_the_longest_line_is_complete() -> None:
    line = b"x" * MAX
    assert parse([line[:7], line[7:] + b"\n"]) == [Line(line)]
    assert parse([b"", line, b"", b"\n"]) == [Line(line)]
    assert parse([line]) == [Fault("it ends without a line break", line)]
