"""wsproto's part of reading frames: those that are not plain.

Importing this module imports wsproto (50 ms), so `frames` does that when the first
fragment or the first thing that looks wrong has come.  Knows frames only by the bytes
that it hands to `FrameProtocol`, which follows RFC 6455, and puts its answers into
plain values.
"""

from __future__ import annotations

from wsproto.frame_protocol import FrameProtocol, ParseFailed

from .headers import EXTRA, MASKED, length_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    Bytes = bytes | bytearray

TOO_BIG = 1009
_CONTROL_BIT = 0x08


class Judge:
    """Judges the frames of one message, each fed in pieces as they come.

    Attributes:
        code: the close code that they deserve, or 0.
        done: the whole message, or code and reason of a close frame, once there.
    """

    __slots__ = ("_fed", "_protocol", "_text", "code", "done")

    def __init__(self) -> None:
        self._protocol = FrameProtocol(client=False, extensions=[])
        self._text = bytearray()
        self._fed = 0  # of the current frame
        self.code = 0
        self.done: bytes | tuple[int, str] | None = None

    def take(self, data: Bytes, position: int, max_message: int) -> int:
        """Takes what there is of the frame at `position`, again from its beginning.

        Returns:
            Where it ends; or, negative, how many bytes of it are needed to go on.
        """
        first, second = data[position], data[position + 1]
        extra = EXTRA.get(second & ~MASKED, 0)
        start = position + 2 + extra + (4 if second >= MASKED else 0)
        # It fails on the first byte that decides, so it gets each as it comes.
        self._feed(data[position + self._fed : start])
        if len(data) < start:
            self._fed = len(data) - position
            return position - start
        length = length_at(data, position, extra)
        if not first & _CONTROL_BIT and len(self._text) + length > max_message:
            self.code = self.code or TOO_BIG
        end = start + length
        if len(data) < end:
            self._fed = start - position
            return position - end
        if not self.code:
            self._feed(data[start:end])
        self._fed = 0
        return end

    def _feed(self, data: Bytes) -> None:
        self._protocol.receive_bytes(bytes(data))
        try:
            for frame in self._protocol.received_frames():
                if isinstance(frame.payload, tuple):
                    code, reason = frame.payload
                    self.done = int(code), reason
                else:
                    self._add(str(frame.payload), last=frame.message_finished)
        except ParseFailed as failed:
            self.code = int(failed.code)

    def _add(self, text: str, *, last: bool) -> None:
        self._text += text.encode()
        if last:
            self.done = bytes(self._text)
