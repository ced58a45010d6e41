"""A framing of which a client only ever hears: for an application that only sends.

Knows no framing in particular. Control frames are no messages, and pass.
"""

from __future__ import annotations

from .contract import Framing, Violation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .contract import Buffers, Request

POLICY = 1008  # RFC 6455, 7.4.1: against the rules of this endpoint


class Deaf(Framing):
    """Says what another framing says, and takes no message.

    Args:
        framing: of this session.
    """

    __slots__ = ("_framing", "default_stderr", "name", "tells_secret")

    def __init__(self, framing: Framing) -> None:
        self._framing = framing
        self.name = framing.name
        self.default_stderr = framing.default_stderr
        self.tells_secret = framing.tells_secret

    def decode(self, message: bytes) -> Request:
        return Violation(POLICY, "this application only sends")

    def encode(self, stream: str, chunk: bytes) -> Buffers:
        return self._framing.encode(stream, chunk)

    def finish(self, stream: str) -> Buffers:
        return self._framing.finish(stream)

    def opened(self, session_id: str, secret: str) -> bytes:
        return self._framing.opened(session_id, secret)

    def ended(self, code: int | None, signal: str | None) -> bytes:
        return self._framing.ended(code, signal)
