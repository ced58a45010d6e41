"""Framings: translation between text messages and the application's byte streams.

Layer 1, pure. Knows frames, JSON and base64. Knows no socket, no application and no
state of a session: the session carries out the requests that a framing returns. This
file holds the interface Framing, and the requests in a client's message.

- registry: one row for each framing, and their creation
- json_framing, lines, lsp: the framings, each with its subprotocol
- lsp_header, lsp_stream: headers of lsp, and clients that send a byte stream
- fragments: long messages of output in several frames
- receive_only: a framing for applications that only send
- json_batch: strict JSON (RFC 8259) of many messages at once

Imports protocol. The bridge loads this file before the first byte.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.protocol import CloseReason
    from chimirror.protocol.frame_reader import Event

    Bytes = bytes | bytearray
    Buffer = Bytes | memoryview
    Buffers = tuple[list[Buffer], int]

_NOTHING = b""
MAX_FOUND = 80  # bytes that show an error, before and after they are escaped
_CONTEXT = 20  # of them, before the error
# Bytes of a line or body that are held until it is complete. A longer one is sent in
# fragments.
MAX_HELD = 256 * 1024


class EndOfInput:
    """A request to close stdin."""

    __slots__ = ()


EOF = EndOfInput()


class SignalRequest:
    """A request for a signal. The name is without SIG."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class ResizeRequest:
    """A request to set the size of the application's terminal."""

    __slots__ = ("columns", "rows")

    def __init__(self, columns: int, rows: int) -> None:
        self.columns = columns
        self.rows = rows


class WindowRequest:
    """A request to send output of the terminal up to this number of bytes in all."""

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size = size


class RejectedMessage:
    """A message that is not delivered. An error message with this text answers it."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class FramingError(Exception):
    """A message or an output that ends the session.

    Attributes:
        close_reason: The code and reason to close with.
        found: The bytes that show the error, empty if there are none.
        sent: Frames of the output before the error, still to be sent.
        received: Input before the error, still to be delivered.
    """

    __slots__ = ("close_reason", "found", "sent")

    def __init__(
        self,
        close_reason: CloseReason,
        found: Bytes = _NOTHING,
        sent: Buffers | None = None,
    ) -> None:
        super().__init__(close_reason.text)
        self.close_reason = close_reason
        self.found = bytes(found[:MAX_FOUND])
        self.sent: Buffers = sent or ([], 0)
        self.received = _NOTHING

    def full_reason(self) -> CloseReason:
        """Return the reason with what was found, escaped."""
        if not self.found:
            return self.close_reason
        from chimirror.text import escape

        found = escape(self.found, MAX_FOUND)
        return self.close_reason.with_text(f"{self.close_reason.text}: {found}")


def bytes_around(data: Bytes, position: int) -> Bytes:
    """Return the bytes at a position, and a few before it."""
    return data[max(position - _CONTEXT, 0) :][:MAX_FOUND]


def invalid_utf8(data: Bytes) -> Bytes:
    """Return the bytes around the first that is not UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return bytes_around(data, error.start)
    return _NOTHING


if TYPE_CHECKING:
    Request = (
        bytes
        | EndOfInput
        | SignalRequest
        | ResizeRequest
        | WindowRequest
        | RejectedMessage
        | FramingError
    )


class Framing:
    """The interface of a framing. This base class sends no messages of its own."""

    __slots__ = ()

    name: str
    sends_secret = False  # whether the first message can carry the secret
    takes_binary = False  # whether UTF-8 in a binary message is read as text

    def decode(self, message: bytes) -> Request:
        """Return the request in a client's message. Bytes are for stdin."""
        raise NotImplementedError

    def decode_binary(self, message: bytes) -> Request:
        """Return the request in a binary message, if the framing takes them."""
        found = invalid_utf8(message)
        if found:
            from chimirror.protocol import BINARY_FRAME

            return FramingError(BINARY_FRAME, found)
        return self.decode(message)

    def decode_batch(self, events: list[Event]) -> bytes | None:
        """Return the bytes for stdin from many messages at once.

        Returns:
            The bytes that `decode` would give for all events. None if an event is not a
            message, if a message is not for stdin, or if one call for all saves
            nothing.
            The caller then decodes them one by one.
        """
        return None

    def encode(self, stream: str, chunk: bytes) -> Buffers:
        """Return the frames for a piece of output, and the number of messages in them.

        Args:
            stream: "stdout" or "stderr".
            chunk: The piece of output.

        Raises:
            FramingError: The framing cannot carry this output.
        """
        raise NotImplementedError

    def flush(self, stream: str) -> Buffers:
        """Return the frames for output that is still held, at the end of the output."""
        return [], 0

    def session_message(
        self,
        session_id: str,
        secret: str,
        direction: str,
        *,
        read_only: bool,
        timings: tuple[float, float] | None = None,
    ) -> bytes:
        """Return the first frame of the session, b"" if there is none.

        Args:
            session_id: The id of the session in the log.
            secret: The secret for control connections, "" if control is unavailable.
            direction: The direction of messages, as seen by the client.
            read_only: What the client sends is ignored.
            timings: The ping interval and the ping timeout, for a client that gets
                `alive_message` once in an interval.
        """
        return _NOTHING

    def alive_message(self) -> bytes:
        """Return the frame that shows a living server, b"" if there is none."""
        return _NOTHING

    def exit_message(self, code: int | None, signal: str | None) -> bytes:
        """Return the frame that reports the application's end, b"" if there is none."""
        return _NOTHING

    def error_message(self, text: str) -> bytes:
        """Return the frame that answers a RejectedMessage, b"" if there is none."""
        return _NOTHING
