"""Checks JSON texts strictly (RFC 8259).

Knows no message type. Uses two parsers with the same result: first the scanner of
`_json` (0.4 ms to import), later orjson (35 ms to import). By themselves they differ.
`_json` accepts NaN and infinities, and its recursion can end the process. orjson
refuses lone surrogates, which RFC 8259 allows and JSON.stringify writes. So the scanner
gets hooks that refuse the rest, and it also checks every text that orjson refuses.

The values of numbers are not exact. Integers of more than 64 bits become floats, and
numbers that are too large for a float become infinite. RFC 8259 limits no number.
"""

from __future__ import annotations

import gc
import sys
from _json import make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn, TypeVar

    Found = TypeVar("Found")

MAX_DEPTH = 1000
MAX_FOUND = 40  # bytes of a text that an error shows

_WHITESPACE = " \t\n\r"
_MAX_DIGITS = 19  # all such integers have at most 64 bits
# The budget of the scanner in bytes. At its end, the scanner has lost about the time of
# importing orjson. It loses about 1 µs on 64 bytes. On a megabyte it loses 3 ms (one
# string) to 80 ms (small objects).
_BUDGET = 1 << 20
# An interpreter allows 1,000 levels, and the callers use some of them.
_MAX_SHALLOW = 500
# Levels beyond MAX_DEPTH to try on orjson before it counts as unlimited.
_MAX_EXTRA_LEVELS = 100
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")

_spent = 0
# The fast check, None before orjson is loaded. `parse` may accept texts that it
# refuses.
fast_parse: Callable[[bytes], object] | None = None


class _ConstantError(ValueError):
    """A word that JavaScript knows as a number and JSON does not, such as NaN."""

    def __init__(self, constant: str) -> None:
        super().__init__(f"{constant} is not JSON")
        self.constant = constant


def _refuse_constant(constant: str) -> NoReturn:
    raise _ConstantError(constant)


def _parse_integer(digits: str) -> float:
    if len(digits) <= _MAX_DIGITS:
        return int(digits)
    # int() refuses 4,300 digits and takes quadratic time below that.
    value = int(digits) if len(digits) == _MAX_DIGITS + 1 else float(digits)
    return value if -(1 << 63) <= value < 1 << 64 else float(digits)


class _Rules:
    """The context of the scanner in `_json`: its options and hooks."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = staticmethod(_parse_integer)
    parse_constant = staticmethod(_refuse_constant)


class JsonTextError(ValueError):
    """A text that is not JSON.

    Attributes:
        position: The offset of the error in the text, without white space before it.
            In characters, None if it is unknown.
    """

    def __init__(self, text: str, position: int | None = None) -> None:
        super().__init__(text)
        self.position = position

    def describe(self, message: bytes) -> str:
        """Return a line for people: the byte and what was found there.

        Args:
            message: The text with the error.
        """
        if self.position is None:
            return f"not JSON: {self}"
        from chimirror.text import escape

        rest = self.rest(message)
        found = f'"{escape(rest, MAX_FOUND)}"' if rest else "the end"
        return f"not JSON at byte {len(message) - len(rest)}: found {found}"

    def rest(self, message: bytes) -> bytes:
        """Return the bytes from the error on, all of them if it has no position."""
        text = message.decode(errors="surrogateescape").lstrip(_WHITESPACE)
        return text[self.position or 0 :].encode(errors="surrogateescape")


_scan = make_scanner(_Rules)  # type: ignore[arg-type]  # wants a JSONDecoder's attributes


def _depth(message: bytes) -> int:
    """Return the depth of the text, or an upper bound if it is not JSON."""
    bare = message.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside_strings = b"".join(bare.split(b'"')[::2])
    deepest = depth = 0
    for bracket in outside_strings.translate(None, _NO_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > deepest:
            deepest = depth
    return deepest


def scan(message: bytes) -> object:
    """Parse with `_json`, the final authority.

    Raises:
        JsonTextError: The text is not JSON, or nested too deep.
    """
    try:
        return read(message, _scan_all)
    except JsonTextError:
        raise
    except ValueError as error:
        raise JsonTextError(str(error), _error_position(message, error)) from None


def read(message: bytes, scan_text: Callable[[str], Found]) -> Found:
    """Decode a message, and call `scan_text` with enough levels for `scan_value`.

    Raises:
        ValueError: The message is not UTF-8 or nested too deep.
    """
    text = message.decode().strip(_WHITESPACE)
    if message.count(b"[") + message.count(b"{") <= _MAX_SHALLOW:
        return scan_text(text)
    if _depth(message) > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + MAX_DEPTH)
    try:
        return scan_text(text)
    finally:
        sys.setrecursionlimit(limit)


def scan_value(text: str, start: int) -> tuple[object, int]:
    """Return the value that begins at `start`, and its end.

    Raises:
        ValueError: There is no JSON value, or it is nested too deep.
    """
    try:
        return _scan(text, start)
    except StopIteration as missing:
        raise JsonTextError("a JSON value is missing", missing.value) from None
    except SystemError:
        # Until Python 3.13, the scanner raises errors only if this module is loaded.
        if "json.decoder" in sys.modules:
            raise
        import json  # noqa: F401 (for the scanner)

        return scan_value(text, start)
    except RecursionError:  # the callers have used up the levels, or the stack is small
        raise ValueError("nested too deep") from None


def _scan_all(text: str) -> object:
    value, end = scan_value(text, 0)
    if end != len(text):
        end += len(text[end:]) - len(text[end:].lstrip(_WHITESPACE))
        raise JsonTextError("more than one JSON value", end)
    return value


def _error_position(message: bytes, error: ValueError) -> int | None:
    """Return the offset of an error of the scanner, None if it has none."""
    position = getattr(error, "pos", None)  # of json.JSONDecodeError
    if isinstance(error, UnicodeDecodeError):
        text = message[: error.start].decode()
        return len(text.lstrip(_WHITESPACE))
    if position is None and isinstance(error, _ConstantError):
        position = _find_outside_strings(message, error.constant)
    return position


def _find_outside_strings(message: bytes, word: str) -> int | None:
    """Return the offset of a word, which strings may hold too."""
    text = message.decode().lstrip(_WHITESPACE)
    offset = 0
    pieces = text.replace("\\\\", "__").replace('\\"', "__").split('"')
    for number, piece in enumerate(pieces):
        if not number % 2 and word in piece:
            return offset + piece.index(word)
        offset += len(piece) + 1
    return None


def _extra_levels(loads: Callable[[bytes], object]) -> int | None:
    """Return the number of further levels in orjson: 24, or None before 3.9.15."""
    for extra in range(_MAX_EXTRA_LEVELS):
        depth = MAX_DEPTH + extra + 1
        try:
            loads(b"[" * depth + b"]" * depth)
        except ValueError:
            return extra
    return None


def use_orjson() -> None:
    """Import orjson at once, for a server."""
    global fast_parse
    from orjson import loads

    extra = _extra_levels(loads)
    opening, closing = b"[" * (extra or 0), b"]" * (extra or 0)

    def parse_fast(message: bytes) -> object:
        if len(message) <= 2 * MAX_DEPTH:  # too short for deeper nesting
            return loads(message)
        if extra is None:
            return scan(message)
        # The lists around the message use up the further levels of orjson, which leaves
        # exactly MAX_DEPTH. A message that closes them early cannot leave one element
        # in each.
        was_enabled = gc.isenabled()
        gc.disable()  # it would search through all values again and again
        try:
            value = loads(b"%b%b%b" % (opening, message, closing))
            for _ in opening:
                (value,) = value
            return value
        finally:
            if was_enabled:
                gc.enable()

    fast_parse = parse_fast


def parse(message: bytes) -> object:
    """Return the value of a JSON text.

    Raises:
        JsonTextError: The message is not JSON, not UTF-8, or nested deeper than
            `MAX_DEPTH`.
    """
    global _spent
    if fast_parse is None:
        _spent += len(message)
        if _spent <= _BUDGET:
            return scan(message)
        use_orjson()
        return parse(message)
    try:
        return fast_parse(message)
    except ValueError:
        return scan(message)


def is_json(message: bytes) -> bool:
    """Tell whether the message is one JSON text."""
    try:
        parse(message)
    except ValueError:
        return False
    return True


def to_single_line(message: bytes) -> bytes:
    """Return a valid text as one line: line breaks only stand between tokens."""
    return message.replace(b"\n", b" ").replace(b"\r", b" ")
