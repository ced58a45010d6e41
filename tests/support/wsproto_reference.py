"""The frame protocol of wsproto as the reference for frames, with one code more."""

from __future__ import annotations

from wsproto.frame_protocol import Frame, FrameProtocol

BAD_GATEWAY = 1014  # registered with IANA, unknown to wsproto
KNOWN = 1013


class ReferenceProtocol(FrameProtocol):
    """A server's frame protocol that takes every registered close code."""

    def __init__(self) -> None:
        super().__init__(client=False, extensions=[])

    def _process_close(self, frame: Frame) -> Frame:
        data = frame.payload
        assert isinstance(data, (bytes, bytearray))
        if data[:2] != BAD_GATEWAY.to_bytes(2):
            return super()._process_close(frame)
        read = super()._process_close(
            frame._replace(payload=KNOWN.to_bytes(2) + data[2:])
        )
        assert isinstance(read.payload, tuple)
        return read._replace(payload=(BAD_GATEWAY, read.payload[1]))
