"""Reads the text messages out of a server's frames, whole or in fragments."""

from __future__ import annotations

from chimirror.protocol.frame_format import text_header


def frames_of(data: bytes) -> list[bytes]:
    """Return the complete text messages in unmasked server frames."""
    return messages_in(data)[0]


def messages_in(data: bytes) -> tuple[list[bytes], bytes | None]:
    """Return the text messages, and the fragments of one that is not complete."""
    messages: list[bytes] = []
    partial: bytes | None = None
    position = 0
    while position < len(data):
        first, short = data[position : position + 2]
        assert first in ((0x81, 0x01) if partial is None else (0x80, 0x00))
        extra = {126: 2, 127: 8}.get(short, 0)
        start = position + 2 + extra
        size = int.from_bytes(data[position + 2 : start]) if extra else short
        assert data[position + 1 : start] == text_header(size)[1:]
        position = start + size
        assert position <= len(data)
        partial = (partial or b"") + data[start:position]
        if first & 0x80:
            messages.append(partial)
            partial = None
    return messages, partial
