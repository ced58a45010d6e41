"""Reads suspicious frames with wsproto (RFC 6455), to find their errors.

The import of this module imports wsproto (50 ms). So `frame_reader` imports it with the
first such frame. Sees only the bytes of frames, and returns plain values.
"""

from __future__ import annotations

from wsproto.frame_protocol import FrameProtocol, ParseFailed

from chimirror.protocol import MESSAGE_TOO_BIG
from chimirror.protocol.frame_format import EXTRA, MASKED, length_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    Bytes = bytes | bytearray

_CONTROL_BIT = 0x08
_FIRST_FRAGMENT = b"\x01\x80\0\0\0\0"  # of a text, empty


class FallbackReader:
    """Reader of one suspicious frame, in pieces as they arrive.

    Args:
        within_message: The frame comes between the fragments of a text message.

    Attributes:
        code: The close code for an error in the frame, or 0.
        closed: Code and reason of a complete close frame. None before.
    """

    __slots__ = ("_fed", "_protocol", "closed", "code")

    def __init__(self, *, within_message: bool) -> None:
        self._protocol = FrameProtocol(client=False, extensions=[])
        self._fed = 0  # bytes of the frame
        self.code = 0
        self.closed: tuple[int, str] | None = None
        if within_message:
            self._feed(_FIRST_FRAGMENT)

    def feed(self, data: Bytes, position: int, room: int) -> int:
        """Read the available bytes of the frame at `position`, from its first byte.

        Args:
            data: All available bytes.
            position: The start of the frame.
            room: The bytes that its message may still have.

        Returns:
            The end of the frame. If the frame is incomplete, the number of bytes that
            are needed to continue, as a negative number.
        """
        first, second = data[position], data[position + 1]
        extra = EXTRA.get(second & ~MASKED, 0)
        start = position + 2 + extra + (4 if second >= MASKED else 0)
        # wsproto fails at the first byte that decides, so each byte is fed on arrival.
        self._feed(data[position + self._fed : start])
        if len(data) < start:
            self._fed = len(data) - position
            return position - start
        length = length_at(data, position, extra)
        if not first & _CONTROL_BIT and length > room:
            self.code = self.code or MESSAGE_TOO_BIG.code
        end = start + length
        if len(data) < end:
            self._fed = start - position
            return position - end
        if not self.code:
            self._feed(data[start:end])
        return end

    def _feed(self, data: Bytes) -> None:
        self._protocol.receive_bytes(bytes(data))
        try:
            for frame in self._protocol.received_frames():
                if isinstance(frame.payload, tuple):
                    code, reason = frame.payload
                    self.closed = int(code), reason
        except ParseFailed as failed:
            self.code = int(failed.code)
