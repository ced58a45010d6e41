"""Reads the WebSocket frames of a client (RFC 6455): bytes in, messages out.

Decides the meaning of every frame. Knows no socket, no JSON and no session. This file
reads all well-formed frames: messages, whole and in fragments, pings, pongs, closes.
Suspicious frames go to wsproto one by one, by way of `frame_fallback`, which is
imported with the first of them.

Each call reads a bounded number of frames, because a frame costs time however short it
is. The rest of the bytes stays here until the next call.
"""

from __future__ import annotations

from _codecs import utf_8_decode

from chimirror.protocol import (
    BINARY_FRAME,
    MESSAGE_TOO_BIG,
    NOT_UTF8,
    PROTOCOL_ERROR,
    frame_format,
)
from chimirror.protocol.frame_format import (
    CLOSE,
    CONTINUATION,
    EXTRA,
    FIRST_FRAGMENT,
    LAST_FRAGMENT,
    MASKED,
    MIN_LENGTHS,
    NO_STATUS,
    PING,
    PONG,
    SHORT,
    TEXT,
    TOO_LONG,
    length_at,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.protocol import CloseReason
    from chimirror.protocol.frame_fallback import FallbackReader

    Bytes = bytes | bytearray

_BY_CODE = {
    reason.code: reason
    for reason in (PROTOCOL_ERROR, BINARY_FRAME, NOT_UTF8, MESSAGE_TOO_BIG)
}

_CONTROLS = (CLOSE, PING, PONG)
_BINARIES = (0x82, 0x02)
_STARTS = (TEXT, FIRST_FRAGMENT, *_BINARIES)
_BINARY, _FIRST_BINARY = _BINARIES
_FRAGMENTS = (CONTINUATION, LAST_FRAGMENT)
NO_LIMIT = 1 << 62  # frames
# Shorter reads hold no run of frames that would save time.
_RUN = 2048
# Close codes that may be sent (RFC 6455, section 7.4, and the IANA registry). Not 1004,
# which has no meaning, nor 1005, 1006 and 1015, which are for libraries only.
_REGISTERED_CODES = (1000, 1001, 1002, 1003, *range(1007, 1015))
_PRIVATE_CODES = range(3000, 5000)
_TWO_MORE = MASKED + 126  # the length follows in two bytes
# Returned in place of the position after an incomplete frame.
_WAIT = -1


class Ping:
    """A ping. The answer is a pong with the same payload."""

    __slots__ = ("payload",)

    def __init__(self, payload: bytes) -> None:
        self.payload = payload


class Pong:
    """A pong, solicited or not."""

    __slots__ = ("payload",)

    def __init__(self, payload: bytes) -> None:
        self.payload = payload


class Binary:
    """A binary message, not checked for UTF-8."""

    __slots__ = ("payload",)

    def __init__(self, payload: bytes) -> None:
        self.payload = payload


class Close:
    """The client's close frame. Without a code, `code` is `NO_STATUS`."""

    __slots__ = ("code", "reason")

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason


class FrameError(Exception):
    """A violation by the client, with the reason to close the connection."""

    __slots__ = ("close_reason",)

    def __init__(self, close_reason: CloseReason) -> None:
        super().__init__(close_reason.text)
        self.close_reason = close_reason


if TYPE_CHECKING:
    Event = bytes | Binary | Ping | Pong | Close | FrameError


class FrameReader:
    """Reader of a client's frames, however the stream is cut into pieces.

    Args:
        max_message: Bytes of the longest message.
        takes_binary: Binary messages are events. Otherwise they are errors.

    Attributes:
        rest: Work for `read_rest`, or None: events put back, data, and the start of the
            next frame in the data.
    """

    __slots__ = (
        "_buffer",
        "_fallback",
        "_is_binary",
        "_max_message",
        "_need",
        "_takes_binary",
        "_text",
        "rest",
    )

    def __init__(self, max_message: int, *, takes_binary: bool = False) -> None:
        self._max_message = max_message
        self._takes_binary = takes_binary
        self._buffer: bytearray | None = None  # beginning of a frame
        self._need = 2  # bytes needed to continue, 0 after the end
        self.rest: tuple[list[Event], Bytes, int] | None = None
        self._text: bytearray | None = None  # of a message in fragments
        self._is_binary = False  # that message
        self._fallback: FallbackReader | None = None  # during a suspicious frame

    def set_max_message(self, size: int) -> None:
        """Set the limit, in bytes, for frames that come later."""
        self._max_message = size

    @property
    def partial_size(self) -> int:
        """Bytes received of an incomplete message."""
        return len(self._buffer or b"") + len(self._text or b"")

    def receive_data(self, data: bytes, limit: int = NO_LIMIT) -> list[Event]:
        """Process data from the socket, any piece of the stream.

        Args:
            data: The next bytes of the stream. Not before `rest` is None.
            limit: The number of frames to read now.

        Returns:
            The complete events in order: text messages (UTF-8), Binary, Ping, Pong. The
            last one is a Close or a FrameError, and later calls return nothing.
        """
        buffer = self._buffer
        if buffer is not None:
            return self._receive_more(buffer, data, limit)
        size = len(data)
        # One text message alone is the usual read of a dialogue. This path takes half
        # the time. The mask is the last four bytes before the text.
        if size < 6 or data[0] != TEXT or self._text is not None:
            return self._receive(data, 0, limit)
        start = 0
        if data[1] == size - 6 + MASKED <= MASKED + SHORT:
            start = 6
        elif data[1] == _TWO_MORE and size > 8 + SHORT and limit:
            start = 8 * (data[2] << 8 | data[3] == size - 8)
        if start and size - start <= self._max_message:
            text = frame_format.unmask(data[start:], data[start - 4 : start])
            if text.isascii() or is_utf8(text):
                return [text]
        return self._receive(data, 0, limit)

    def read_rest(self, limit: int = NO_LIMIT) -> list[Event]:
        """Return the next events of data that was received before."""
        if self.rest is None:
            return []
        events, data, position = self.rest
        self.rest = None
        if not events:
            return self._receive(data, position, limit)
        if data:
            self.rest = [], data, position
        return events

    def put_back(self, events: list[Event]) -> None:
        """Return these events with the next call of `read_rest`."""
        _, data, position = self.rest or ([], b"", 0)
        self.rest = events, data, position

    def _receive_more(self, buffer: bytearray, data: bytes, limit: int) -> list[Event]:
        if len(buffer) + len(data) < self._need:
            buffer += data
            return []
        if not self._need:
            return []
        self._buffer = None
        if len(buffer) < len(data):  # slices of bytes cost less than of a bytearray
            return self._receive(b"".join((buffer, data)), 0, limit)
        buffer += data
        return self._receive(buffer, 0, limit)

    def _receive(self, data: Bytes, position: int, limit: int) -> list[Event]:
        events: list[Event] = []
        try:
            position = self._read(data, position, limit, events)
        except FrameError as failure:
            events.append(failure)
            self._end()
        else:
            if self._need and position < len(data):
                self._keep(data, position)
        return events

    def _keep(self, data: Bytes, position: int) -> None:
        if len(data) - position >= self._need:
            self.rest = [], data, position
        elif position == 0 and isinstance(data, bytearray):
            self._buffer = data  # a long frame, still growing: not copied again
        else:
            self._buffer = bytearray(data[position:])

    def _end(self) -> None:
        self._need = 0
        self._buffer = bytearray()
        self._text = self._fallback = None

    def _wait(self, need: int) -> int:
        self._need = need
        return _WAIT

    def _read(self, data: Bytes, position: int, limit: int, events: list[Event]) -> int:
        """Read complete frames up to the limit. Return the start of the next one."""
        unmask = frame_format.unmask
        size = len(data)
        max_short = MASKED + min(SHORT, self._max_message)
        if size - position >= _RUN:
            position = self._read_run(data, position, limit, events)
            limit -= len(events)
        while size - position >= 2:
            if limit <= 0:
                self._need = self._size_of_text(data, position)
                return position
            limit -= 1
            second = data[position + 1]
            end = position + second - 122  # 2 + 4 + length, if masked and short
            if (
                data[position] == TEXT
                and MASKED <= second <= max_short
                and end <= size
                and self._text is None
            ):
                mask = data[position + 2 : position + 6]
                message = unmask(data[position + 6 : end], mask)
                events.append(message if message.isascii() else _utf8(message))
            else:
                end = self._frame(data, position, events)
                if end == _WAIT or not self._need:
                    return position
            position = end
        self._need = 2
        return position

    def _size_of_text(self, data: Bytes, position: int) -> int:
        """Return the size of the text frame at `position`, 2 for any other frame."""
        second = data[position + 1]
        if data[position] != TEXT or second < MASKED or self._text is not None:
            return 2
        extra = EXTRA.get(second - MASKED, 0)
        if len(data) < position + 2 + extra:
            return 2 + extra
        length = length_at(data, position, extra)
        return 6 + extra + length if MIN_LENGTHS[extra] <= length < _RUN else 2

    def _read_run(
        self, data: Bytes, position: int, limit: int, events: list[Event]
    ) -> int:
        """Read the frames of one size at `position`. Return their end."""
        if self._text is not None:
            return position
        from chimirror.protocol import frame_runs

        texts, end = frame_runs.read_uniform_run(
            data, position, self._max_message, limit
        )
        # A text cut inside a character is not UTF-8 if a line feed follows the cut.
        if not is_utf8(b"\n".join(texts)):
            return position  # frame by frame, to find the invalid one
        events += texts
        return end

    def _frame(self, data: Bytes, position: int, events: list[Event]) -> int:
        """Read one frame of any kind. Return its end, or `_WAIT`."""
        first, second = data[position], data[position + 1]
        control = first in _CONTROLS and second <= MASKED + SHORT
        part = first in (_STARTS if self._text is None else _FRAGMENTS)
        if second < MASKED or not (control or part) or self._fallback is not None:
            return self._read_with_fallback(data, position, events)
        start, length = position + 2, second - MASKED
        if length > SHORT:
            extra = EXTRA[length]
            start += extra
            if len(data) < start:
                return self._wait(2 + extra)
            length = length_at(data, position, extra)
            if not MIN_LENGTHS[extra] <= length < TOO_LONG:
                return self._read_with_fallback(data, position, events)
        if first in _BINARIES and not self._takes_binary:
            raise FrameError(BINARY_FRAME)
        if part and length > self._room:
            raise FrameError(MESSAGE_TOO_BIG)
        end = start + 4 + length
        if len(data) < end:
            return self._wait(end - position)
        if length <= SHORT:  # a copy costs less than three views
            payload = frame_format.unmask(
                data[start + 4 : end], data[start : start + 4]
            )
        else:
            with memoryview(data) as view:
                payload = frame_format.unmask(
                    view[start + 4 : end], view[start : start + 4]
                )
        if not self._add(first, payload, events):
            return self._read_with_fallback(data, position, events)
        return end

    def _add(self, first: int, payload: bytes, events: list[Event]) -> bool:
        """Add the event of a well-formed frame. Return False if wsproto decides."""
        if first == PING:
            events.append(Ping(payload))
        elif first == TEXT:
            events.append(_utf8(payload))
        elif first == PONG:
            events.append(Pong(payload))
        elif first == _BINARY:
            events.append(Binary(payload))
        elif first != CLOSE:
            if self._text is None:
                self._is_binary = first == _FIRST_BINARY
            self._add_fragment(payload, events, last=first == LAST_FRAGMENT)
        else:
            closed = _parse_close(payload)
            if closed is None:
                return False
            events.append(closed)
            self._end()
        return True

    @property
    def _room(self) -> int:
        """Bytes that the message may still have."""
        return self._max_message - (0 if self._text is None else len(self._text))

    def _add_fragment(self, payload: bytes, events: list[Event], *, last: bool) -> None:
        """Add to a message in fragments. A cut may be inside a character."""
        text = self._text
        if text is None:
            text = self._text = bytearray()
        if not self._is_binary and (
            not payload.isascii() or (text and text[-1] >= 0x80)
        ):
            # Only the last character can be incomplete. It is checked again.
            start = _last_character(text)
            try:
                utf_8_decode(bytes(text[start:]) + payload, "strict", last)
            except UnicodeDecodeError:
                raise FrameError(NOT_UTF8) from None
        text += payload
        if last:
            message = bytes(text)
            events.append(Binary(message) if self._is_binary else message)
            self._text = None

    def _read_with_fallback(
        self, data: Bytes, position: int, events: list[Event]
    ) -> int:
        """Do the work of `_frame` with wsproto."""
        if self._fallback is None:
            from chimirror.protocol.frame_fallback import (
                FallbackReader,  # imports wsproto
            )

            self._fallback = FallbackReader(within_message=self._text is not None)
        fallback = self._fallback
        end = fallback.feed(data, position, self._room)
        if fallback.code:
            raise FrameError(_BY_CODE[fallback.code])
        if end < 0:
            return self._wait(-end)
        if fallback.closed is None:
            raise FrameError(PROTOCOL_ERROR)  # `_frame` reads all other valid frames
        events.append(Close(*fallback.closed))
        self._end()
        return end


def _last_character(text: bytearray) -> int:
    """Return the start of the last character, which may be incomplete."""
    start = len(text) - 1
    while start > 0 and text[start] & 0xC0 == 0x80:
        start -= 1
    return max(start, 0)


def is_utf8(text: Bytes) -> bool:
    """Tell whether `text` is a valid text message."""
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _utf8(message: bytes) -> bytes:
    if not is_utf8(message):
        raise FrameError(NOT_UTF8)
    return message


def _parse_close(payload: bytes) -> Close | None:
    """Read a close frame's payload. Return None if wsproto has to decide."""
    if not payload:
        return Close(NO_STATUS, "")
    code = int.from_bytes(payload[:2])
    if code not in _REGISTERED_CODES and code not in _PRIVATE_CODES:
        return None
    try:
        return Close(code, payload[2:].decode())
    except UnicodeDecodeError:
        raise FrameError(NOT_UTF8) from None
