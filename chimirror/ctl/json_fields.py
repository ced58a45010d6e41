"""Typed getters for JSON from other processes: a field has the right type, or raises.

The sender may be an older or newer version, a dying process or a foreign program. Knows
nothing of sessions.
"""

from __future__ import annotations

from chimirror.protocol import json_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Object = dict[str, Any]

_MAX_COUNT = 1 << 63


class Malformed(ValueError):
    """A JSON value does not have the expected type or range."""


def decode(data: bytes) -> Object:
    """Decode one JSON object.

    Raises:
        Malformed: The text is not a JSON object.
    """
    try:
        return as_object(json_text.parse(data))
    except ValueError as error:
        raise Malformed(str(error)) from None


def as_object(value: object) -> Object:
    """Return the value if it is an object.

    Raises:
        Malformed: It is not.
    """
    if not isinstance(value, dict):
        raise Malformed(f"not an object but {type(value).__name__}")
    return value


def text(record: Object, name: str, default: str | None = None) -> str:
    """Return a string. Without a default the field is required."""
    value = record.get(name, default)
    if not isinstance(value, str):
        raise Malformed(f"{name} is not a string")
    return value


def count(record: Object, name: str, default: int | None = None) -> int:
    """Return an integer of at least 0. Without a default the field is required."""
    value = record.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Malformed(f"{name} is not a whole number")
    if not 0 <= value < _MAX_COUNT:
        raise Malformed(f"{name} is out of range")
    return value


def number(record: Object, name: str) -> float | None:
    """Return a number from 0 on, or None for null or a missing field."""
    value = record.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise Malformed(f"{name} is not a number")
    if not 0 <= value < _MAX_COUNT:
        raise Malformed(f"{name} is out of range")
    return value


def flag(record: Object, name: str) -> bool:
    """Return a boolean. A missing field is false."""
    value = record.get(name, False)
    if not isinstance(value, bool):
        raise Malformed(f"{name} is neither true nor false")
    return value


def objects(record: Object, name: str) -> list[Object]:
    """Return a list of objects."""
    return as_objects(record.get(name), name)


def as_objects(value: object, name: str = "the value") -> list[Object]:
    """Return the value if it is a list of objects.

    Raises:
        Malformed: It is not.
    """
    return [as_object(each) for each in _as_list(value, name)]


def texts(record: Object, name: str) -> list[str]:
    """Return a list of strings."""
    strings = _as_list(record.get(name), name)
    if not all(isinstance(value, str) for value in strings):
        raise Malformed(f"{name} is not a list of strings")
    return strings


def _as_list(value: object, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise Malformed(f"{name} is not a list")
    return value
