"""A long message in fragments, sent while the application still writes it.

A line or body of any length so needs at most MAX_HELD bytes and one read of memory. The
client's back-pressure holds the application within a line too. Follows RFC 6455,
section 5.4. Knows no particular framing. Loaded with the first such message.
"""

from __future__ import annotations

from chimirror.protocol.frame_format import (
    CONTINUATION,
    FIRST_FRAGMENT,
    LAST_FRAGMENT,
    frame_header,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.framing import Buffer

_CR = b"\r"[0]


class MessageInFragments:
    """One text message in several frames.

    Attributes:
        size: Bytes of the message so far.
    """

    __slots__ = ("size",)

    def __init__(self) -> None:
        self.size = 0

    def add(self, text: bytearray) -> tuple[list[Buffer], bytearray]:
        """Return the frame of the next fragment, and the rest for the one after it.

        The rest is a character that is not complete. It is also a CR at the end, which
        may belong to the end of a line.

        Args:
            text: The next part of the message. It loses the rest.
        """
        end = len(text) - 1 if text[-1] == _CR else _end_of_characters(text)
        rest = text[end:]
        del text[end:]
        first = CONTINUATION if self.size else FIRST_FRAGMENT
        self.size += end
        return [frame_header(first, end), text], rest

    def finish(self, text: bytearray) -> list[Buffer]:
        """Return the frame of the last fragment."""
        return [frame_header(LAST_FRAGMENT, len(text)), text]


def _end_of_characters(text: bytearray) -> int:
    """Return the end of the last complete character (UTF-8, RFC 3629)."""
    start = len(text) - 1
    while start > len(text) - 4 and text[start] & 0xC0 == 0x80:
        start -= 1
    lead = text[start]
    size = 1 + (lead >= 0xC0) + (lead >= 0xE0) + (lead >= 0xF0)
    return start if start + size > len(text) else len(text)
