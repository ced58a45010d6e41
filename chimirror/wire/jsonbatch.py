"""Many JSON messages of one read, judged together: 0.08 µs each instead of 0.3.

They are made one list, with a secret between each two:

    [message,"secret",message,"secret",message]

That it is valid JSON proves nothing yet: `1],[2`, or `"a` and `b"`, are no messages
and may be parts of a valid text. But only our separators hold the secret, and it has
to be found as every second element of one list. Then each separator stands between
two elements of that list, with exactly one element before, between and after, and
that is what each message is. Nesting is counted with the list around it.

Whatever is refused here may still be valid and is judged message by message, by
`jsontext`. The secret is 128 bits of a generator that the kernel has seeded, and is
never shown to anybody.
"""

from __future__ import annotations

import gc
from _random import Random

from . import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_SECRET = f"{Random().getrandbits(128):032x}"
_SEPARATOR = b',"%b",' % _SECRET.encode()
# As integers: `in` takes eight times as long for a bytes object.
_LF, _CR = b"\n\r"


def gather(events: list[Any]) -> bytes | None:
    """Returns a line of each, if all are JSON texts that can quickly be told to be."""
    text = judged(events)
    if text is None:
        return None
    if _LF in text or _CR in text:
        events = [jsontext.fold(message) for message in events]
    return b"\n".join(events) + b"\n"


def judged(events: list[Any]) -> bytes | None:
    """Returns a text that holds all of them, if all are such JSON texts."""
    quick = jsontext.quick
    if quick is None:
        return None
    count = len(events)
    text: bytes = events[0]
    try:
        if count > 1:
            text = _SEPARATOR.join(events)
            if not _judge(quick, b"[%b]" % text, count):
                return None
        elif type(text) is bytes:
            quick(text)
        else:
            return None
    except (TypeError, ValueError):  # not a message, or not a JSON text
        return None
    return text


def _judge(quick: Callable[[bytes], object], text: bytes, count: int) -> bool:
    """Tells whether the secret stands between so many elements of the list.

    Hundreds of objects live at a time here, which nothing refers to but this list.
    They would make the collector of cycles search through every session: in a process
    of 400,000 objects it takes 25 ms, once in a thousand reads.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        elements = quick(text)
        good = (
            isinstance(elements, list)
            and len(elements) == 2 * count - 1
            and elements[1::2].count(_SECRET) == count - 1
        )
        del elements
    finally:
        if collecting:
            gc.enable()
    return good
