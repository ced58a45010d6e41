"""Long lines and bodies in fragments, with the whole message as the reference."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chimirror.framing import MAX_HELD, Framing, FramingError, lines, lsp
from chimirror.framing.fragments import MessageInFragments
from chimirror.framing.lines import LinesFraming
from chimirror.framing.lsp import LspFraming
from chimirror.protocol.frame_reader import is_utf8
from frame_texts import messages_in

HELD = 20  # in place of MAX_HELD
MOST = 200


@pytest.fixture(scope="module", autouse=True)
def _short_messages_are_long() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "MAX_HELD", HELD)
        patch.setattr(lsp, "MAX_HELD", HELD)
        yield


def send(made: Framing, chunks: list[bytes]) -> tuple[list[bytes], bytes | None, str]:
    """Return messages, an incomplete one, and the reason of a closed session."""
    wire, count, reason = b"", 0, ""
    try:
        for chunk in chunks:
            buffers, messages = made.encode("stdout", chunk)
            wire += b"".join(buffers)
            count += messages
        buffers, messages = made.flush("stdout")
    except FramingError as error:
        buffers, messages = error.sent
        reason = error.close_reason.text
    found, partial = messages_in(wire + b"".join(buffers))
    assert len(found) == count + messages
    assert partial is None or reason
    return found, partial, reason


def pieces(output: bytes, places: list[float]) -> list[bytes]:
    edges = [0, *(int(place * len(output)) for place in places), len(output)]
    return [output[a:b] for a, b in itertools.pairwise(edges) if a < b]


PLACES = st.lists(st.floats(0, 1), max_size=30).map(sorted)
FILLINGS = st.sampled_from((b"x", b"\r", "é".encode(), "€".encode(), "😀".encode()))
LINES = st.builds(lambda filling, count: filling * count, FILLINGS, st.integers(0, 60))
ENDS = st.sampled_from((b"\n", b"\r\n", b"\r\r\n"))


@settings(max_examples=400)
@given(st.lists(st.tuples(LINES, ENDS), max_size=6), LINES, PLACES)
def test_lines_arrive_whole(
    written: list[tuple[bytes, bytes]], last: bytes, places: list[float]
) -> None:
    output = b"".join(line + end for line, end in written) + last
    expected = [(line + end)[:-1].removesuffix(b"\r") for line, end in written]
    expected += [last] * bool(last)
    too_long = [len(line) > MOST for line in expected]
    found = send(LinesFraming(MOST), pieces(output, places))
    if True not in too_long:
        assert found == (expected, None, "")
    else:
        assert found[0] == expected[: too_long.index(True)]
        assert found[2] == "line over --max-line"
        assert found[1] is None or len(found[1]) <= MOST


@settings(max_examples=400)
@given(st.lists(LINES, max_size=6), PLACES)
def test_bodies_arrive_whole(bodies: list[bytes], places: list[float]) -> None:
    output = b"".join(
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body) for body in bodies
    )
    assert send(LspFraming(300, 300), pieces(output, places)) == (bodies, None, "")


@given(st.binary(min_size=1, max_size=80), st.binary(max_size=80), PLACES)
def test_what_is_not_utf8_ends_the_session(
    before: bytes, after: bytes, places: list[float]
) -> None:
    """Whatever was sent of the message until then is UTF-8."""
    text = (before + b"\xff" + after).replace(b"\n", b"").replace(b"\r", b"")
    body = b"Content-Length: %d\r\n\r\n%b" % (len(text), text)
    for made, output, reason in (
        (LinesFraming(MOST), b"good\n" + text + b"\nnever\n", "line not UTF-8"),
        (
            LspFraming(MOST, MOST),
            b"Content-Length: 4\r\n\r\ngood" + body,
            "body not UTF-8",
        ),
    ):
        found, partial, cause = send(made, pieces(output, places))
        assert (found, cause) == ([b"good"], reason)
        assert partial is None or (is_utf8(partial) and text.startswith(partial))


@pytest.mark.parametrize("character", ["a", "é", "€", "😀"])
def test_a_cut_is_between_characters(character: str) -> None:
    text = character.encode()
    for missing in range(len(text)):
        message = MessageInFragments()
        part = bytearray(b"ab" + text * 2)
        del part[len(part) - missing :]
        (_, added), rest = message.add(part)
        sent = bytes(added)
        assert sent + rest == (b"ab" + text * 2)[: 2 + 2 * len(text) - missing]
        assert is_utf8(sent)
        assert len(rest) == (len(text) - missing if missing else 0)
        assert message.size == len(sent)


def test_a_cut_never_separates_the_end_of_a_line() -> None:
    made = LinesFraming(MOST)
    (header, text), count = made.encode("stdout", b"x" * HELD + b"\r")
    assert (header[0], bytes(text), count) == (0x01, b"x" * HELD, 0)
    (header, text), count = made.encode("stdout", b"\ny\n")[0][:2], 1
    assert (header[0], bytes(text), count) == (0x80, b"", 1)


def test_a_line_over_the_limit_by_its_carriage_return() -> None:
    for size, reason in ((MOST, ""), (MOST + 1, "line over --max-line")):
        output = b"x" * size + b"\r\n"
        for step in (1, 7, MOST, MOST + 2):
            chunks = [output[at : at + step] for at in range(0, len(output), step)]
            assert send(LinesFraming(MOST), chunks)[2] == reason


def test_a_cut_off_body_ends_the_session_within_its_message() -> None:
    chunks = [b"Content-Length: 99\r\n\r\n" + b"x" * 10, b"x" * 50]
    found = send(LspFraming(MOST, MOST), chunks)
    assert found == ([], b"x" * 60, "output cut off")


@pytest.mark.parametrize("name", ["lines", "lsp"])
def test_many_long_messages_at_once_are_not_held(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 30 messages of 16 MiB, no more than MAX_HELD each is in memory."""
    monkeypatch.setattr(lines, "MAX_HELD", MAX_HELD)
    monkeypatch.setattr(lsp, "MAX_HELD", MAX_HELD)
    size, count, chunk = 16 << 20, 30, b"x" * 65536
    made: list[Framing]
    if name == "lines":
        made = [LinesFraming(size) for _ in range(count)]
    else:
        made = [LspFraming(size, size) for _ in range(count)]
        for each in made:
            each.encode("stdout", b"Content-Length: %d\r\n\r\nx" % size)
    sent = 0
    tracemalloc.start()
    try:
        for _ in range(size // len(chunk) - 1):
            for each in made:
                sent += sum(map(len, each.encode("stdout", chunk)[0]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sent > (size - 2 * MAX_HELD) * count
    # A bytearray that grows has up to an eighth more.
    assert peak < count * (MAX_HELD + len(chunk)) * 9 / 8 + MAX_HELD
