"""Frames of RFC 6455 that a client sends: bytes in, messages out.

Everything that decides what a client's frame means is here; sockets, JSON and the
session are not known.  What clients send all day (whole text messages, pings, pongs,
closes) is read by this file alone.  Fragments and everything that looks wrong go,
frame by frame, to wsproto in `judge`, which is imported when the first one comes.
"""

from __future__ import annotations

from . import masking
from .headers import (
    CLOSE,
    EXTRA,
    MASKED,
    NO_STATUS,
    PING,
    PONG,
    SHORT,
    SHORTEST,
    TEXT,
    TOO_LONG,
    length_at,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .judge import Judge

    Bytes = bytes | bytearray

PROTOCOL_ERROR = 1002
UNSUPPORTED = 1003
NOT_UTF8 = 1007
TOO_BIG = 1009

_REASONS = {
    PROTOCOL_ERROR: "protocol",
    UNSUPPORTED: "binary",
    NOT_UTF8: "not UTF-8",
    TOO_BIG: "over --max-message",
}

_CONTROLS = (CLOSE, PING, PONG)
_BINARIES = (0x82, 0x02)
# Reads of fewer bytes hold no run of frames that is worth looking for.
_RUN = 2048
# Codes that need no second opinion; of others wsproto knows which are allowed.
_USUAL_CODES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011)
_PRIVATE_CODES = range(3000, 5000)
# Instead of the position after a frame: there is not enough of it yet.
_WAIT = -1


class Ping:
    """A ping, to be answered by a pong with the same payload."""

    __slots__ = ("payload",)

    def __init__(self, payload: bytes) -> None:
        self.payload = payload


class Pong:
    """A pong, asked for or not."""

    __slots__ = ("payload",)

    def __init__(self, payload: bytes) -> None:
        self.payload = payload


class Close:
    """The client's close frame; without a code it is `NO_STATUS`."""

    __slots__ = ("code", "reason")

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason


class Failure(Exception):
    """The client broke a rule: how the connection is to be closed."""

    __slots__ = ("code", "reason")

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code
        self.reason = _REASONS[code]


if TYPE_CHECKING:
    Event = bytes | Ping | Pong | Close | Failure


class FrameReader:
    """Makes messages of what a client sends, however it is cut into pieces."""

    __slots__ = ("_buffer", "_judge", "_max_message", "_need")

    def __init__(self, max_message: int) -> None:
        self._max_message = max_message
        self._buffer: bytearray | None = None  # the beginning of a frame
        self._need = 2  # how long that must be to go on; 0: nothing more is read
        self._judge: Judge | None = None  # there from first fragment to last

    def receive(self, data: bytes) -> list[Event]:
        """Takes what came from the socket, any piece of it.

        Returns:
            What is complete, in order: a text message (UTF-8), Ping, Pong, and last a
            Close or a Failure, after which nothing is returned any more.
        """
        buffer = self._buffer
        if buffer is not None:
            return self._receive_more(buffer, data)
        size = len(data)
        # One short text and nothing else, which is what a dialogue is made of: in half
        # the time. Six bytes come before it, the last four of them the mask.
        if (
            6 <= size <= 6 + SHORT
            and data[0] == TEXT
            and data[1] == size - 6 + MASKED
            and size - 6 <= self._max_message
            and self._judge is None
        ):
            text = masking.unmask(data[6:], data[2:6])
            if text.isascii() or is_utf8(text):
                return [text]
        return self._receive(data)

    def _receive_more(self, buffer: bytearray, data: bytes) -> list[Event]:
        if len(buffer) + len(data) < self._need:
            buffer += data
            return []
        if not self._need:
            return []
        self._buffer = None
        if len(buffer) < len(data):  # pieces of bytes cost less than of a bytearray
            return self._receive(b"".join((buffer, data)))
        buffer += data
        return self._receive(buffer)

    def _receive(self, data: Bytes) -> list[Event]:
        events: list[Event] = []
        try:
            position = self._read(data, events)
        except Failure as failure:
            events.append(failure)
            self._end()
        else:
            if self._need and position < len(data):
                self._keep(data, position)
        return events

    def _keep(self, data: Bytes, position: int) -> None:
        if position == 0 and isinstance(data, bytearray):
            self._buffer = data  # a long frame, still growing: not copied again
        else:
            self._buffer = bytearray(data[position:])

    def _end(self) -> None:
        self._need = 0
        self._buffer = bytearray()
        self._judge = None

    def _wait(self, need: int) -> int:
        self._need = need
        return _WAIT

    def _read(self, data: Bytes, events: list[Event]) -> int:
        """Takes all whole frames; returns where an incomplete one begins."""
        unmask = masking.unmask
        size = len(data)
        longest = MASKED + min(SHORT, self._max_message)
        position = self._read_run(data, events) if size >= _RUN else 0
        while size - position >= 2:
            second = data[position + 1]
            end = position + second - 122  # 2 + 4 + length, if masked and short
            if (
                data[position] == TEXT
                and MASKED <= second <= longest
                and end <= size
                and self._judge is None
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

    def _read_run(self, data: Bytes, events: list[Event]) -> int:
        """Takes the frames of one size at the beginning; returns where they end."""
        if self._judge is not None:
            return 0
        from . import runs

        texts, end = runs.texts(data, self._max_message)
        # Nothing that is cut in two inside a character can go on with a line feed.
        if not is_utf8(b"\n".join(texts)):
            return 0  # one by one, to find the one
        events += texts
        return end

    def _frame(  # noqa: C901 (one frame, read from left to right)
        self, data: Bytes, position: int, events: list[Event]
    ) -> int:
        """Takes one frame of any kind; returns its end, or `_WAIT`."""
        first, second = data[position], data[position + 1]
        control = first in _CONTROLS and second <= MASKED + SHORT
        whole = self._judge is None and (first == TEXT or first in _BINARIES)
        if second < MASKED or not (control or whole):
            return self._judged(data, position, events)
        extra = EXTRA.get(second - MASKED, 0)
        start = position + 2 + extra
        if len(data) < start:
            return self._wait(2 + extra)
        length = length_at(data, position, extra)
        if not SHORTEST[extra] <= length < TOO_LONG:
            return self._judged(data, position, events)
        if first in _BINARIES:
            raise Failure(UNSUPPORTED)
        if whole and length > self._max_message:
            raise Failure(TOO_BIG)
        end = start + 4 + length
        if len(data) < end:
            return self._wait(end - position)
        with memoryview(data) as view:
            payload = masking.unmask(view[start + 4 : end], view[start : start + 4])
        if first == TEXT:
            events.append(_utf8(payload))
        elif first == PING:
            events.append(Ping(payload))
        elif first == PONG:
            events.append(Pong(payload))
        else:
            closed = _closed(payload)
            if closed is None:
                return self._judged(data, position, events)
            events.append(closed)
            self._end()
        return end

    def _judged(self, data: Bytes, position: int, events: list[Event]) -> int:
        """Does the work of `_frame` with the help of wsproto."""
        if self._judge is None:
            from .judge import Judge  # imports wsproto

            self._judge = Judge()
        judge = self._judge
        end = judge.take(data, position, self._max_message)
        if judge.code:
            raise Failure(judge.code)
        if end < 0:
            return self._wait(-end)
        if isinstance(judge.done, tuple):
            events.append(Close(*judge.done))
            self._end()
        elif judge.done is not None:
            events.append(judge.done)
            self._judge = None
        return end


def is_utf8(text: Bytes) -> bool:
    """Tells whether it can be a text message."""
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _utf8(message: bytes) -> bytes:
    if not is_utf8(message):
        raise Failure(NOT_UTF8)
    return message


def _closed(payload: bytes) -> Close | None:
    """Reads a close frame's payload; None is for what wsproto has to say."""
    if not payload:
        return Close(NO_STATUS, "")
    code = int.from_bytes(payload[:2])
    if code not in _USUAL_CODES and code not in _PRIVATE_CODES:
        return None
    try:
        return Close(code, payload[2:].decode())
    except UnicodeDecodeError:
        raise Failure(NOT_UTF8) from None
