"""Checks of many messages at once: always the same verdict as one by one.

The method depends on the secret between the messages. So the tests use the secret, and
show an attack by a client that knows it.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chimirror.framing import Framing, json_batch, registry
from chimirror.framing.json_framing import JsonFraming
from chimirror.framing.lines import LinesFraming
from chimirror.framing.lsp import LspFraming
from chimirror.protocol import json_text
from chimirror.protocol.frame_reader import Ping
from json_texts import INVALID, VALID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.protocol.frame_reader import Event


@pytest.fixture(scope="module", autouse=True)
def _orjson() -> Iterator[None]:
    before = json_text.fast_parse
    json_text.use_orjson()
    yield
    json_text.fast_parse = before


def one_by_one(made: Framing, messages: list[bytes]) -> list[object]:
    return [made.decode(message) for message in messages]


def check(messages: list[bytes]) -> bool:
    """Tell whether all are valid. In that case both ways must give the same lines."""
    for made in (
        JsonFraming(1024),
        LinesFraming(1 << 20),
        LspFraming(1 << 20, 1 << 20),
    ):
        together = made.decode_batch(list(messages))
        if together is not None:
            assert together == b"".join(
                line if isinstance(line, bytes) else b"not JSON"
                for line in one_by_one(made, messages)
            )
    return json_batch.decode_batch(list(messages)) is not None


# Pairs of invalid messages that can form a valid text, with or without a separator.
TOKENS = (
    *'[ ] { } : , " \\ \\" "" "a" "a":1 1 -1 1e5 null [] {} ],[ },{ 1],[2'.split(),
    *'"x y" [1 1] {"a":1 "b":2} ],"x",[ ","'.split(),
    *"\t\n\r é",
)
FRAGMENTS = st.lists(st.sampled_from(TOKENS), max_size=5).map("".join).map(str.encode)
MESSAGES = st.one_of(
    FRAGMENTS,
    st.sampled_from([message for message in (*VALID, *INVALID) if len(message) < 99]),
    st.text(max_size=9).map(str.encode),
    st.integers().map(lambda number: b"%d" % number),
)


@settings(max_examples=1000)
@given(st.lists(MESSAGES, min_size=1, max_size=7))
@example([b"1],[2", b"3"])
@example([b"[1", b"2]"])
@example([b'"a', b'b"'])
@example([b'"a', b'b"', b"1,2", b"3"])
@example([b'{"a":[{}', b"{}]}", b"{},{}"])
@example([b"1\n", b"\r2", b"3"])
@example([b"", b""])
@example([b"1", b""])
def test_as_one_by_one(messages: list[bytes]) -> None:
    good = check(messages)
    assert good <= all(map(json_text.is_json, messages))


@pytest.mark.parametrize("number", range(len(INVALID)))
def test_one_that_is_invalid(number: int) -> None:
    for place in range(3):
        messages = [b"1"] * 3
        messages[place] = INVALID[number]
        assert not check(messages)


def is_fast(message: bytes) -> bool:
    """Tell whether orjson accepts the message. It refuses lone surrogates."""
    fast_parse = json_text.fast_parse
    assert fast_parse is not None
    try:
        fast_parse(message)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("number", range(len(VALID)))
def test_all_valid(number: int) -> None:
    messages = [b"1", VALID[number], b'{"a":2}']
    assert check(messages) == is_fast(b"[%b]" % VALID[number])


def test_other_events_are_left_to_single_decoding() -> None:
    mixed: list[list[Event]] = [[Ping(b"")], [b"1", Ping(b"")], [Ping(b""), b"1"]]
    for events in mixed:
        assert JsonFraming(1024).decode_batch(events) is None
        assert LinesFraming(99).decode_batch(events) is None
        assert LspFraming(99, 99).decode_batch(events) is None
    assert registry.create("stdio", 1024).decode_batch([b"1"]) is None


def test_no_batches_before_orjson_is_loaded() -> None:
    with mock.patch.object(json_text, "fast_parse", None):
        assert json_batch.decode_batch([b"1", b"2"]) is None


def test_an_attack_needs_the_secret() -> None:
    """The secret has 128 bits and differs in each process."""
    forged = [b"1%b2" % json_batch._SEPARATOR, b"[1", b"2]"]
    assert not json_text.is_json(forged[0])
    assert json_batch.decode_batch(list(forged)) is not None
    assert len(json_batch._SECRET) == 32
    with mock.patch.object(json_batch, "_SECRET", "another"):
        assert json_batch.decode_batch(list(forged)) is None


def test_many() -> None:
    messages = [b'{"id":%d}' % number for number in range(5000)]
    assert json_batch.decode_batch(list(messages)) == b"".join(
        m + b"\n" for m in messages
    )
    for place in (0, 1, 2500, 4998, 4999):
        spoiled = list(messages)
        spoiled[place] = b"{"
        assert json_batch.decode_batch(list(spoiled)) is None


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("last", [b"[]", b"]"])
def test_the_collector_of_cycles_is_not_called(enabled: bool, last: bytes) -> None:
    """The collector stays as it was after a thousand lists, and after an error."""
    calls: list[str] = []

    def note(phase: str, info: dict[str, int]) -> None:
        calls.append(phase)

    messages = [b"[]"] * 5000 + [last]
    gc.collect()
    gc.callbacks.append(note)
    if enabled:
        gc.enable()  # a test of the bridge may have switched it off
    else:
        gc.disable()
    try:
        assert (json_batch.decode_batch(messages) is None) == (last == b"]")
        assert gc.isenabled() == enabled
        assert calls == []
    finally:
        gc.callbacks.remove(note)
        gc.enable()
