"""wsproto's part of reading frames: those that are not plain.

Importing this module imports wsproto (50 ms), so `frames` does that when the first
fragment or the first thing that looks wrong has come.  Knows frames only by the bytes
that it hands to `FrameProtocol`, which follows RFC 6455, and puts its answers into
plain values.
"""

from __future__ import annotations

from wsproto.frame_protocol import FrameProtocol, ParseFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    Bytes = bytes | bytearray


class Judge:
    """Judges the frames of one message, each fed in pieces as they come.

    Attributes:
        fed: how much of the current frame has been fed; counted by the caller.
        done: the whole message, or code and reason of a close frame, once there.
    """

    __slots__ = ("_protocol", "_text", "done", "fed")

    def __init__(self) -> None:
        self._protocol = FrameProtocol(client=False, extensions=[])
        self._text = bytearray()
        self.fed = 0
        self.done: bytes | tuple[int, str] | None = None

    def size(self) -> int:
        """Returns how many bytes the fragments so far hold."""
        return len(self._text)

    def feed(self, data: Bytes) -> int:
        """Passes on the next bytes; returns the close code they deserve, or 0."""
        self._protocol.receive_bytes(bytes(data))
        try:
            for frame in self._protocol.received_frames():
                if isinstance(frame.payload, tuple):
                    code, reason = frame.payload
                    self.done = int(code), reason
                else:
                    self._add(str(frame.payload), last=frame.message_finished)
        except ParseFailed as failed:
            return int(failed.code)
        return 0

    def _add(self, text: str, *, last: bool) -> None:
        self._text += text.encode()
        if last:
            self.done = bytes(self._text)
