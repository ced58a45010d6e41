"""Messages judged together: never another judgement than one by one.

The secret that separates them is what holds this up, so the tests know it too and show
what somebody could do who had it.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chimirror.wire import framing, jsonbatch, jsontext
from chimirror.wire.contract import Framing
from chimirror.wire.frames import Ping
from chimirror.wire.framing import Json
from chimirror.wire.lines import Lines
from chimirror.wire.lsp import Lsp
from test_jsontext import INVALID, VALID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.wire.frames import Event


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    before = jsontext.quick
    jsontext.prepare()
    yield
    jsontext.quick = before


def one_by_one(made: Framing, messages: list[bytes]) -> list[object]:
    return [made.decode(message) for message in messages]


def check(messages: list[bytes]) -> bool:
    """Whether they are all valid; and then both ways give the same lines."""
    for made in (Json(), Lines(1 << 20), Lsp(1 << 20)):
        together = made.gather(list(messages))
        if together is not None:
            assert together == b"".join(
                line if isinstance(line, bytes) else b"not JSON"
                for line in one_by_one(made, messages)
            )
    return jsonbatch.gather(list(messages)) is not None


# What two invalid messages could make a valid text of, with or without a separator.
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
    assert good <= all(map(jsontext.valid, messages))


@pytest.mark.parametrize("number", range(len(INVALID)))
def test_one_that_is_invalid(number: int) -> None:
    for place in range(3):
        messages = [b"1"] * 3
        messages[place] = INVALID[number]
        assert not check(messages)


def quickly(message: bytes) -> bool:
    """Whether orjson has no doubt; it refuses lone surrogates, for one."""
    judge = jsontext.quick
    assert judge is not None
    try:
        judge(message)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("number", range(len(VALID)))
def test_all_valid(number: int) -> None:
    messages = [b"1", VALID[number], b'{"a":2}']
    assert check(messages) == quickly(b"[%b]" % VALID[number])


def test_what_is_no_message_is_left_to_others() -> None:
    mixed: list[list[Event]] = [[Ping(b"")], [b"1", Ping(b"")], [Ping(b""), b"1"]]
    for events in mixed:
        assert Json().gather(events) is None
        assert Lines(99).gather(events) is None
        assert Lsp(99).gather(events) is None
    assert framing.create("stdio", 99).gather([b"1"]) is None


def test_nothing_together_before_orjson_is_there() -> None:
    with mock.patch.object(jsontext, "quick", None):
        assert jsonbatch.gather([b"1", b"2"]) is None


def test_who_knew_the_secret_could_deceive() -> None:
    """So it is one: made of 128 bits, and another one in each process."""
    forged = [b"1%b2" % jsonbatch._SEPARATOR, b"[1", b"2]"]
    assert not jsontext.valid(forged[0])
    assert jsonbatch.gather(list(forged)) is not None
    assert len(jsonbatch._SECRET) == 32
    with mock.patch.object(jsonbatch, "_SECRET", "another"):
        assert jsonbatch.gather(list(forged)) is None


def test_many() -> None:
    messages = [b'{"id":%d}' % number for number in range(5000)]
    assert jsonbatch.gather(list(messages)) == b"".join(m + b"\n" for m in messages)
    for place in (0, 1, 2500, 4998, 4999):
        spoiled = list(messages)
        spoiled[place] = b"{"
        assert jsonbatch.gather(list(spoiled)) is None


@pytest.mark.parametrize("collecting", [True, False])
@pytest.mark.parametrize("last", [b"[]", b"]"])
def test_the_collector_of_cycles_is_not_called(collecting: bool, last: bytes) -> None:
    """A thousand lists at a time, and then a refusal, leave it as it was."""
    calls: list[str] = []

    def note(phase: str, info: dict[str, int]) -> None:
        calls.append(phase)

    messages = [b"[]"] * 5000 + [last]
    gc.collect()
    gc.callbacks.append(note)
    if not collecting:
        gc.disable()
    try:
        assert (jsonbatch.gather(messages) is None) == (last == b"]")
        assert gc.isenabled() == collecting
        assert calls == []
    finally:
        gc.callbacks.remove(note)
        gc.enable()
