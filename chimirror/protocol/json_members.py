"""Splits JSON objects into members, each with its value and with its own text.

A relay passes the text on as it has arrived. Decoding and encoding would change or lose
it: orjson writes 254 levels, no integer of more than 64 bits and no lone surrogate. The
rules are those of `json_text`. Knows no message type. Follows RFC 8259.
"""

from __future__ import annotations

from _json import scanstring

from chimirror.protocol import json_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    Member = tuple[object, str]  # value and text
    Members = dict[str, Member]
    Message = Members | list[Members | None] | None

MAX_MEMBERS = 16  # of an object: each takes the time of many small values within one
MAX_ITEMS = 100  # of a list of objects

_WHITESPACE = " \t\n\r"
_ESCAPED = b"\0\0"  # stands for an escaped quote or backslash: never in a JSON text


class TooManyValues(ValueError):
    """The text may be JSON, but is larger than MAX_MEMBERS or MAX_ITEMS."""


def split(message: bytes) -> Message:
    """Split an object, or a list of objects.

    Returns:
        The members of the object, by name: of members with the same name the last. Or a
        list with the members of each item. None stands for any other value.

    Raises:
        TooManyValues: It has more than MAX_MEMBERS members or MAX_ITEMS items.
        ValueError: The message is not JSON, not UTF-8, or nested deeper than
            `json_text.MAX_DEPTH`.
    """
    return json_text.read(message, _split)


def _split(text: str) -> Message:
    message: Message
    try:
        if text.startswith("["):
            message, end = _read_list(text)
        else:
            message, end = _read_item(text, 0)
    except IndexError:
        raise ValueError("a JSON value ends too early") from None
    if end != len(text):
        raise ValueError("more than one JSON value")
    return message


def _read_list(text: str) -> tuple[list[Members | None], int]:
    items: list[Members | None] = []
    at = _skip_whitespace(text, 1)
    if text[at] == "]":
        return items, at + 1
    while True:
        if len(items) == MAX_ITEMS:
            raise TooManyValues(f"more than {MAX_ITEMS} items")
        item, end = _read_item(text, at)
        items.append(item)
        at = _skip_whitespace(text, end)
        if text[at] == "]":
            return items, at + 1
        at = _skip_whitespace(text, _skip(text, at, ","))


def _read_item(text: str, at: int) -> tuple[Members | None, int]:
    if text.startswith("{", at):
        return _read_object(text, at)
    _, end = json_text.scan_value(text, at)
    return None, end


def _read_object(text: str, at: int) -> tuple[Members, int]:
    members: Members = {}
    at = _skip_whitespace(text, at + 1)
    if text[at] == "}":
        return members, at + 1
    for _ in range(MAX_MEMBERS):
        name, at = scanstring(text, _skip(text, at, '"'), True)
        at = _skip(text, _skip_whitespace(text, at), ":")
        start = _skip_whitespace(text, at)
        value, end = json_text.scan_value(text, start)
        members[name] = value, text[start:end]
        at = _skip_whitespace(text, end)
        if text[at] == "}":
            return members, at + 1
        at = _skip_whitespace(text, _skip(text, at, ","))
    raise TooManyValues(f"more than {MAX_MEMBERS} members")


def _skip_whitespace(text: str, at: int) -> int:
    while text[at] in _WHITESPACE:
        at += 1
    return at


def _skip(text: str, at: int, mark: str) -> int:
    if text[at] != mark:
        raise ValueError(f"{mark} is missing at character {at}")
    return at + 1


def find_id(message: bytes) -> str | None:
    """Find the member `id` of an object that `split` refuses.

    Returns:
        The text of a string or a number, None if there is none.
    """
    if b'"id"' not in message or not message.lstrip().startswith(b"{"):
        return None
    plain = message.replace(b"\\\\", _ESCAPED).replace(b'\\"', _ESCAPED)
    depth, parts = 0, plain.split(b'"')
    for n in range(0, len(parts) - 2, 2):  # text outside strings, before a string
        part = parts[n]
        depth += part.count(b"{") + part.count(b"[")
        depth -= part.count(b"}") + part.count(b"]")
        if depth == 1 and parts[n + 1] == b"id":
            rest = parts[n + 2].lstrip()
            if rest.startswith(b":"):
                token = rest[1:].strip()
                is_string = not token and n + 4 < len(parts)
                return _scalar_text(b'"%b"' % parts[n + 3] if is_string else token)
    return None


def _scalar_text(token: bytes) -> str | None:
    """Return a string, or the number that `token` begins with."""
    text = token
    if not token.startswith(b'"'):
        text = token.partition(b",")[0].partition(b"}")[0].rstrip()
    try:
        value = json_text.scan(text)
    except ValueError:
        return None
    return text.decode() if is_id(value) and value is not None else None


def is_id(value: object) -> bool:
    """Return True for a value that JSON-RPC allows as id."""
    return value is None or (
        isinstance(value, (str, int, float)) and not isinstance(value, bool)
    )
