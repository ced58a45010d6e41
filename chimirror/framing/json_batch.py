"""Checks many JSON messages of one read together: 0.08 µs each instead of 0.3.

Joins the messages into one list, with a secret between each two:

    [message,"secret",message,"secret",message]

Valid JSON alone proves nothing: `1],[2`, or `"a` and `b"`, are not messages and may be
parts of a valid text. But only the separators hold the secret, and every second element
of one list must be the secret. Then each separator stands between two elements of that
list, with exactly one element before, between and after. Those elements are the
messages. The list around them counts as one level of nesting.

A batch that fails here may still be valid, and `json_text` checks it message by
message. The secret is 128 random bits from a generator that the kernel has seeded. It
never leaves the process.
"""

from __future__ import annotations

import gc
from _random import Random

from chimirror.protocol import json_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_SECRET = f"{Random().getrandbits(128):032x}"
_SEPARATOR = b',"%b",' % _SECRET.encode()
# Integers, because `in` takes eight times as long for a bytes object.
_LF, _CR = b"\n\r"


def decode_batch(events: list[Any]) -> bytes | None:
    """Return the messages as lines, None if the fast check fails."""
    text = validate_batch(events)
    if text is None:
        return None
    if _LF in text or _CR in text:
        events = [json_text.to_single_line(message) for message in events]
    return b"\n".join(events) + b"\n"


def validate_batch(events: list[Any]) -> bytes | None:
    """Return a text that holds all messages, None if the fast check fails."""
    fast_parse = json_text.fast_parse
    if fast_parse is None:
        return None
    count = len(events)
    text: bytes = events[0]
    try:
        if count > 1:
            text = _SEPARATOR.join(events)
            if not _is_separated(fast_parse, b"[%b]" % text, count):
                return None
        elif type(text) is bytes:
            fast_parse(text)
        else:
            return None
    except (TypeError, ValueError):  # not a message, or not a JSON text
        return None
    return text


def _is_separated(
    fast_parse: Callable[[bytes], object], text: bytes, count: int
) -> bool:
    """Tell whether the secret stands between `count` elements of the list.

    The parsed list holds hundreds of objects for a moment. They would make the garbage
    collector search through every session. In a process of 400,000 objects that takes
    25 ms, once in a thousand reads.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        elements = fast_parse(text)
        is_separated = (
            isinstance(elements, list)
            and len(elements) == 2 * count - 1
            and elements[1::2].count(_SECRET) == count - 1
        )
        del elements
    finally:
        if was_enabled:
            gc.enable()
    return is_separated
