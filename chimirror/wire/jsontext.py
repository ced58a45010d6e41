"""JSON texts as RFC 8259 has them, and only those.

Knows no message type.  Two judges that agree: the scanner inside `_json` (0.4 ms to
import) serves the first messages, orjson (35 ms) what comes after.  Left alone they
would not agree: `_json` takes NaN and infinities and can recurse to death, orjson
refuses the lone surrogates that RFC 8259 allows and JSON.stringify writes.  So what
orjson refuses is judged once more by the scanner, whose hooks refuse the rest.

The values of numbers are not promised: integers of more than 19 digits become floats.
"""

from __future__ import annotations

import sys
from _json import make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

MAX_DEPTH = 1000

_WHITESPACE = " \t\n\r"
_INFINITE = (float("inf"), float("-inf"))
_LONGEST_INTEGER = 19
# Where the scanner has lost about as much time as importing orjson takes: on 64 bytes
# it loses about 1 µs, on a megabyte 3 ms (one string) to 80 ms (small objects).
_BUDGET = 1 << 20
# An interpreter allows 1,000 levels of its own, of which the callers took some.
_SAFE_DEPTH = 500
# How many levels more than ours are tried on orjson before it counts as unlimited.
_LEVELS = 100
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")

_spent = 0
# Accepts fast, and refuses what `load` may still accept; None: not loaded yet.
quick: Callable[[bytes], object] | None = None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if value in _INFINITE:
        raise ValueError("number out of range")
    return value


def _integer(digits: str) -> float:
    # int() refuses 4,300 digits and is quadratic below that.
    return int(digits) if len(digits) <= _LONGEST_INTEGER else float(digits)


class _Rules:
    """What the scanner of `_json` asks its context for."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = staticmethod(_finite)
    parse_int = staticmethod(_integer)
    parse_constant = staticmethod(_refuse)


_scan = make_scanner(_Rules)  # type: ignore[arg-type]  # wants a JSONDecoder's attributes


def _depth(message: bytes) -> int:
    """Returns how deep the text nests, or where it stops to be JSON, or deeper."""
    bare = message.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside_strings = b"".join(bare.split(b'"')[::2])
    deepest = depth = 0
    for bracket in outside_strings.translate(None, _NO_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > deepest:
            deepest = depth
    return deepest


def scan(message: bytes) -> object:
    """Judges by `_json`, the last authority. Raises ValueError."""
    text = message.decode().strip(_WHITESPACE)
    if message.count(b"[") + message.count(b"{") > _SAFE_DEPTH:
        return _scan_deep(text, _depth(message))
    return _scan_all(text)


def _scan_deep(text: str, depth: int) -> object:
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + MAX_DEPTH)
    try:
        return _scan_all(text)
    finally:
        sys.setrecursionlimit(limit)


def _scan_all(text: str) -> object:
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        raise ValueError("a JSON value is missing") from None
    except RecursionError:  # the caller had used up the levels, or the stack is small
        raise ValueError("nested too deep") from None
    if end != len(text):
        raise ValueError("more than one JSON value")
    return value


def _depth_left(loads: Callable[[bytes], object]) -> int | None:
    """Returns how many levels more orjson allows: 24, or None before 3.9.15."""
    for left in range(_LEVELS):
        depth = MAX_DEPTH + left + 1
        try:
            loads(b"[" * depth + b"]" * depth)
        except ValueError:
            return left
    return None


def prepare() -> None:
    """Imports orjson at once: for a server, which will need it."""
    global quick
    from orjson import loads

    left = _depth_left(loads)
    opening, closing = b"[" * (left or 0), b"]" * (left or 0)

    def judge(message: bytes) -> object:
        if len(message) <= 2 * MAX_DEPTH:  # too short to nest deeper
            return loads(message)
        if left is None:
            return scan(message)
        # Inside as many lists as orjson has levels to spare, its limit is ours.  A
        # message that breaks out of them cannot leave one element in each.
        value = loads(b"%b%b%b" % (opening, message, closing))
        for _ in opening:
            (value,) = value
        return value

    quick = judge


def load(message: bytes) -> object:
    """Returns what the JSON text stands for.

    Raises:
        ValueError: not JSON, not UTF-8, or nested deeper than `MAX_DEPTH`.
    """
    global _spent
    if quick is None:
        _spent += len(message)
        if _spent <= _BUDGET:
            return scan(message)
        prepare()
        return load(message)
    try:
        return quick(message)
    except ValueError:
        return scan(message)


def valid(message: bytes) -> bool:
    """Tells whether the message is one JSON text."""
    try:
        load(message)
    except ValueError:
        return False
    return True


def fold(message: bytes) -> bytes:
    """Makes one line of a valid text: its line breaks can only be between tokens."""
    return message.replace(b"\n", b" ").replace(b"\r", b" ")
