"""A framing for clients that only receive (`--direction receive`, `--read-only`).

Knows no particular framing. Decides on the requests that the framing of the session
finds in messages. Control frames are not messages, and pass.
"""

from __future__ import annotations

from chimirror.framing import (
    EOF,
    Framing,
    FramingError,
    RejectedMessage,
    ResizeRequest,
    WindowRequest,
)
from chimirror.protocol import RECEIVE_ONLY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.framing import Buffers, Request

_NOTHING = b""
# Requests of a read-only client that have an effect.
_PASSING = ResizeRequest, WindowRequest, RejectedMessage


class ReceiveOnlyFraming(Framing):
    """Wrapper that sends like another framing and delivers no input.

    The end of input and empty input change nothing, because standard input has ended.
    Clients send them without regard to the direction.

    Args:
        framing: The framing of the session.
        read_only: Input and signals are ignored. Otherwise input ends the session.
    """

    __slots__ = ("_framing", "_read_only", "name", "sends_secret", "takes_binary")

    def __init__(self, framing: Framing, *, read_only: bool) -> None:
        self._framing = framing
        self._read_only = read_only
        self.name = framing.name
        self.sends_secret = framing.sends_secret
        self.takes_binary = framing.takes_binary

    def decode(self, message: bytes) -> Request:
        return self._restrict(self._framing.decode(message))

    def decode_binary(self, message: bytes) -> Request:
        return self._restrict(self._framing.decode_binary(message))

    def _restrict(self, request: Request) -> Request:
        """Return the request if a client that only receives may send it."""
        if request is EOF:
            return _NOTHING
        if self._read_only:
            passes = isinstance(request, _PASSING)
            return request if passes else _NOTHING
        is_input = type(request) is bytes and request
        if is_input or (isinstance(request, FramingError) and request.received):
            return FramingError(RECEIVE_ONLY)
        return request

    def encode(self, stream: str, chunk: bytes) -> Buffers:
        return self._framing.encode(stream, chunk)

    def flush(self, stream: str) -> Buffers:
        return self._framing.flush(stream)

    def session_message(
        self,
        session_id: str,
        secret: str,
        direction: str,
        *,
        read_only: bool,
        timings: tuple[float, float] | None = None,
    ) -> bytes:
        return self._framing.session_message(
            session_id, secret, direction, read_only=read_only, timings=timings
        )

    def alive_message(self) -> bytes:
        return self._framing.alive_message()

    def exit_message(self, code: int | None, signal: str | None) -> bytes:
        return self._framing.exit_message(code, signal)

    def error_message(self, text: str) -> bytes:
        return self._framing.error_message(text)
