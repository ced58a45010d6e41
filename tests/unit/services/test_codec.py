"""Values of a service, as messages and back, with the faults of foreign messages."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.services import InvalidMessage
from chimirror.services.codec import BYTES_THRESHOLD, Decoder, Encoder
from chimirror.services.names import check_name, services_of


@dataclasses.dataclass
class Point:
    x: int
    y: float


class Order(msgspec.Struct):
    id: int
    items: list[Point]
    note: str | None = None


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and other.cents == self.cents

    def __hash__(self) -> int:
        return self.cents


def encode_money(value: Any) -> Any:
    return value.cents


def decode_money(kind: type, value: Any) -> Any:
    assert kind is Money
    return Money(value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)  # fmt: skip


def there_and_back(kind: Any, value: object) -> Any:
    kind_of_message, content = Encoder(None).encode(value, memory=False)
    assert kind_of_message == "json"
    assert b"\n" not in bytes(content)
    return Decoder("x", kind, None).decode_json(bytes(content))


@given(JSON)
def test_values_arrive_unchanged(value: object) -> None:
    assert there_and_back(Any, value) == value


@given(st.binary())
def test_bytes_on_a_line(value: bytes) -> None:
    assert there_and_back(bytes, value) == value
    assert there_and_back(memoryview, memoryview(value)) == value
    assert there_and_back(bytearray, bytearray(value)) == value


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Point, Point(1, 0.5)),
        (Order, Order(7, [Point(1, 2.0)], "\n")),
        (dict[str, list[int]], {"a": [1]}),
        (int | None, None),
        (datetime.date, datetime.date(2026, 1, 2)),
    ],
)
def test_types(kind: Any, value: object) -> None:
    assert there_and_back(kind, value) == value


def test_types_by_hooks() -> None:
    _, content = Encoder(encode_money).encode([Money(5)], memory=True)
    decoder = Decoder("x", list[Money], decode_money)
    assert decoder.decode_json(bytes(content)) == [Money(5)]
    with pytest.raises(TypeError, match="Money"):
        Encoder(None).encode(Money(5), memory=True)


def test_line_breaks_of_raw_json() -> None:
    value = msgspec.Raw(b'{"a":\n[1,\n2]}')
    assert there_and_back(dict[str, list[int]], value) == {"a": [1, 2]}


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b'{"id":"x","items":[]}', "wrong type: Expected `int`, got `str`"),
        (b'{"id":1}', "wrong type: Object missing required field `items`"),
        (b"[]", "wrong type: Expected `object`, got `array`"),
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"id":1,"items":[]} 2', "not JSON"),
        (b"\xff", "not UTF-8: invalid start byte at byte 0"),
        (b'{"id":1,"items":[],"other":"\xc3"}', "not UTF-8"),
        (b'{"id":1,"items":[],"x":' + b"[" * 100_000, "nested too deeply|not JSON"),
        (b"\x00\x1b[31m", "not JSON"),
    ],
)
@pytest.mark.parametrize("as_memory", [False, True])
def test_faults(message: bytes, reason: str, as_memory: bool) -> None:
    with pytest.raises(InvalidMessage, match=reason) as caught:
        Decoder("x", Order, None).decode_json(
            memoryview(message) if as_memory else message
        )
    error = caught.value
    assert error.service == "x"
    assert len(error.evidence) <= 103
    assert str(error).isprintable()
    assert str(error).startswith("invalid message of service x: it ")


@given(st.binary())
def test_no_message_breaks_the_decoder(message: bytes) -> None:
    try:
        Decoder("x", Order, None).decode_json(message)
    except InvalidMessage as error:
        assert str(error).isprintable()


def test_memory_is_for_large_values() -> None:
    encoder = Encoder(None)
    small, large = b"x" * (BYTES_THRESHOLD - 1), b"x" * BYTES_THRESHOLD
    assert encoder.encode(small, memory=True).kind == "json"
    assert encoder.encode(large, memory=False).kind == "json"
    for value in (large, bytearray(large), memoryview(large).cast("I")):
        assert encoder.encode(value, memory=True) == ("bytes", large)
    every_other = memoryview(large + large)[::2]
    assert encoder.encode(bytes(every_other), memory=True).kind == "bytes"


def test_bytes_of_memory() -> None:
    view = memoryview(b"abc")
    assert Decoder("x", memoryview, None).decode_bytes(view) is view
    for kind in (bytes, bytearray):
        found = Decoder("x", kind, None).decode_bytes(view)
        assert type(found) is kind
        assert found == b"abc"


@pytest.mark.parametrize(
    "kind",
    [
        bytes | None,
        memoryview | int,
        Annotated[bytes, msgspec.Meta(max_length=3)],
        str,
        object,
        list[int],
        Annotated[bytes, msgspec.Meta(max_length=2)],
    ],
)
def test_bytes_of_memory_are_those_of_a_line(kind: Any) -> None:
    """The meaning of a value does not depend on its size."""

    def outcome(decode: Callable[[Any], Any], message: object) -> object:
        try:
            return decode(message)
        except InvalidMessage as error:
            return str(error)

    decoder = Decoder("x", kind, None)
    by_line = outcome(decoder.decode_json, b'"YWJj"')
    assert outcome(decoder.decode_bytes, memoryview(b"abc")) == by_line


@pytest.mark.parametrize("name", ["a", "A-b_9", "x" * 64])
def test_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "x" * 65, "a.b", "a/b", "..", "ä", "a\n", "a b"])
def test_no_names(name: str) -> None:
    with pytest.raises(ValueError, match="write 1 to 64 letters"):
        check_name(name)


def test_services_of_a_directory() -> None:
    files = ["b.in", "b.out", "a.out", "b.memory", "c.memory", ".b.in"]
    assert services_of(["b.in", "b.out", "a.out", "c.memory", "x"]) == ["a", "b"]
    assert services_of(files[:5]) == ["a", "b"]
