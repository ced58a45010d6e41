"""Frames of chat.proto: a length of four bytes, most significant first, and a message.

Pure: bytes in, bytes out. A length is checked as soon as its four bytes are there, so
no peer can make this side wait for, or store, more than one frame of the maximum size.
Knows neither sockets nor the meaning of a message.
"""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from chat.limits import MAX_FRAME

HEADER = 4

MessageT = TypeVar("MessageT", bound=Message)


class FrameError(Exception):
    """Input that is no frame of a message. The text is fit for a terminal."""


class FrameDecoder:
    """Cuts a byte stream into frames."""

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._limit = limit
        self._received = bytearray()

    @property
    def size(self) -> int:
        """Number of stored bytes: those of complete and of incomplete frames."""
        return len(self._received)

    def feed(self, data: bytes | memoryview) -> None:
        """Store received bytes."""
        self._received += data

    def next_frame(self) -> bytes | None:
        """Return the next message, or None until it is complete.

        Raises:
            FrameError: for a length of zero or over the limit. All further calls raise.
        """
        received = self._received
        if len(received) < HEADER:
            return None
        length = int.from_bytes(received[:HEADER], "big")
        if not 0 < length <= self._limit:
            raise FrameError(
                f"a frame of {length} bytes (1 to {self._limit} are allowed)"
            )
        end = HEADER + length
        if len(received) < end:
            return None
        frame = bytes(received[HEADER:end])
        del received[:end]
        return frame


def encode_frame(message: Message) -> bytes:
    """Return the frame of a message.

    Raises:
        FrameError: for a message that no frame can hold.
    """
    data = message.SerializeToString()
    if not 0 < len(data) <= MAX_FRAME:
        raise FrameError(f"a message of {len(data)} bytes")
    return len(data).to_bytes(HEADER, "big") + data


def decode_message(kind: type[MessageT], frame: bytes) -> MessageT:
    """Parse the content of a frame.

    Raises:
        FrameError: if it is no message of this type.
    """
    message = kind()
    try:
        message.ParseFromString(frame)
    except DecodeError:
        raise FrameError(f"{len(frame)} bytes that are no {kind.__name__}") from None
    return message
