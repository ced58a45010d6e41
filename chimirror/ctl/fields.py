"""JSON of others, taken apart at the edge: each field is what it should be, or nothing.

What is read here was written by a process that may be older, newer, half dead or not
ours at all. Knows no session.
"""

from __future__ import annotations

import orjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Object = dict[str, Any]

_LARGEST = 1 << 63


class Malformed(ValueError):
    """This is not what it should be."""


def decode(data: bytes) -> Object:
    """One JSON object.

    Raises:
        Malformed: it is none.
    """
    try:
        return as_object(orjson.loads(data))
    except ValueError as error:
        raise Malformed(str(error)) from None


def as_object(value: object) -> Object:
    """The value, which has to be an object."""
    if not isinstance(value, dict):
        raise Malformed(f"not an object but {type(value).__name__}")
    return value


def text(source: Object, name: str, default: str | None = None) -> str:
    """A string; without a default it has to be there."""
    value = source.get(name, default)
    if not isinstance(value, str):
        raise Malformed(f"{name} is not a string")
    return value


def count(source: Object, name: str, default: int | None = None) -> int:
    """A whole number from 0 up; without a default it has to be there."""
    value = source.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Malformed(f"{name} is not a whole number")
    if not 0 <= value < _LARGEST:
        raise Malformed(f"{name} is out of range")
    return value


def flag(source: Object, name: str) -> bool:
    """A truth; one that is missing is false."""
    value = source.get(name, False)
    if not isinstance(value, bool):
        raise Malformed(f"{name} is neither true nor false")
    return value


def objects(source: Object, name: str) -> list[Object]:
    """A list of objects."""
    return [as_object(value) for value in _items(source, name)]


def texts(source: Object, name: str) -> list[str]:
    """A list of strings."""
    found = _items(source, name)
    if not all(isinstance(value, str) for value in found):
        raise Malformed(f"{name} is not a list of strings")
    return found


def _items(source: Object, name: str) -> list[Any]:
    value = source.get(name)
    if not isinstance(value, list):
        raise Malformed(f"{name} is not a list")
    return value
