"""Frames of RFC 6455, server side: bytes in, messages out; headers for what goes out.

Everything that decides what a client's frame means is here; sockets, JSON and the
session are not known.  What clients send all day (whole text messages, pings, pongs,
closes) is read by this file alone.  Fragments and everything that looks wrong go,
frame by frame, to wsproto in `judge`, which is imported when the first one comes.
"""

from __future__ import annotations

from . import masking

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .judge import Judge

    Bytes = bytes | bytearray

NO_STATUS = 1005
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

# The first byte of a frame, FIN set and reserved bits clear.
_TEXT, _CLOSE, _PING, _PONG = 0x81, 0x88, 0x89, 0x8A
_CONTROLS = (_CLOSE, _PING, _PONG)
_BINARIES = (0x82, 0x02)
_CONTROL_BIT = 0x08
# The second: the mask bit, and a length, or how many bytes hold the length.
_MASKED = 0x80
_SHORT = 125
_EXTRA = {126: 2, 127: 8}
_SHORTEST = {0: 0, 2: _SHORT + 1, 8: 1 << 16}
_LENGTHS = 1 << 63
_MAX_REASON = _SHORT - 2

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
        events: list[Event] = []
        if not self._need:
            return events
        chunk: Bytes = data
        if self._buffer is not None:
            self._buffer += data
            if len(self._buffer) < self._need:
                return events
            chunk, self._buffer = self._buffer, None
        try:
            position = self._read(chunk, events)
        except Failure as failure:
            events.append(failure)
            self._end()
        else:
            if self._need and position < len(chunk):
                self._keep(chunk, position)
        return events

    def _keep(self, chunk: Bytes, position: int) -> None:
        if position == 0 and isinstance(chunk, bytearray):
            self._buffer = chunk  # a long frame, still growing: not copied again
        else:
            self._buffer = bytearray(chunk[position:])

    def _end(self) -> None:
        self._need = 0
        self._judge = None

    def _wait(self, need: int) -> int:
        self._need = need
        return _WAIT

    def _read(self, data: Bytes, events: list[Event]) -> int:
        """Takes all whole frames; returns where an incomplete one begins."""
        unmask = masking.unmask
        size = len(data)
        longest = _MASKED + min(_SHORT, self._max_message)
        position = 0
        while size - position >= 2:
            second = data[position + 1]
            end = position + second - 122  # 2 + 4 + length, if masked and short
            if (
                data[position] == _TEXT
                and _MASKED <= second <= longest
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

    def _frame(  # noqa: C901 (one frame, read from left to right)
        self, data: Bytes, position: int, events: list[Event]
    ) -> int:
        """Takes one frame of any kind; returns its end, or `_WAIT`."""
        first, second = data[position], data[position + 1]
        control = first in _CONTROLS and second <= _MASKED + _SHORT
        whole = self._judge is None and (first == _TEXT or first in _BINARIES)
        if second < _MASKED or not (control or whole):
            return self._judged(data, position, events)
        extra = _EXTRA.get(second - _MASKED, 0)
        start = position + 2 + extra
        if len(data) < start:
            return self._wait(2 + extra)
        length = _length(data, position, extra)
        if not _SHORTEST[extra] <= length < _LENGTHS:
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
        if first == _TEXT:
            events.append(_utf8(payload))
        elif first == _PING:
            events.append(Ping(payload))
        elif first == _PONG:
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
        judge = self._judge = self._judge or _new_judge()
        first, second = data[position], data[position + 1]
        extra = _EXTRA.get(second & ~_MASKED, 0)
        start = position + 2 + extra + (4 if second >= _MASKED else 0)
        # It fails on the first byte that decides, so it gets each as it comes.
        _feed(judge, data[position + judge.fed : start])
        if len(data) < start:
            judge.fed = len(data) - position
            return self._wait(start - position)
        length = _length(data, position, extra)
        if not first & _CONTROL_BIT and judge.size() + length > self._max_message:
            raise Failure(TOO_BIG)
        end = start + length
        if len(data) < end:
            judge.fed = start - position
            return self._wait(end - position)
        _feed(judge, data[start:end])
        judge.fed = 0
        if isinstance(judge.done, tuple):
            events.append(Close(*judge.done))
            self._end()
        elif judge.done is not None:
            events.append(judge.done)
            self._judge = None
        return end


def _new_judge() -> Judge:
    from .judge import Judge  # imports wsproto

    return Judge()


def _feed(judge: Judge, data: Bytes) -> None:
    code = judge.feed(data)
    if code:
        raise Failure(code)


def _length(data: Bytes, position: int, extra: int) -> int:
    if extra:
        return int.from_bytes(data[position + 2 : position + 2 + extra])
    return data[position + 1] & ~_MASKED


def _utf8(message: bytes) -> bytes:
    if not message.isascii():
        try:
            message.decode()
        except UnicodeDecodeError:
            raise Failure(NOT_UTF8) from None
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


_SHORT_HEADERS = [bytes((_TEXT, length)) for length in range(_SHORT + 1)]


def text_header(length: int) -> bytes:
    """Returns what comes before a text message of so many bytes."""
    if length <= _SHORT:
        return _SHORT_HEADERS[length]
    if length < _SHORTEST[8]:
        return b"\x81\x7e" + length.to_bytes(2)
    return b"\x81\x7f" + length.to_bytes(8)


def text_frames(messages: list[bytes]) -> bytes:
    """Returns the frames of many text messages, one after the other."""
    # A call for each short message would take twice the time.
    short = _SHORT_HEADERS
    return b"".join(
        [
            (short[len(text)] if len(text) <= _SHORT else text_header(len(text))) + text
            for text in messages
        ]
    )


def ping(payload: bytes) -> bytes:
    """Returns a ping frame; the payload has at most 125 bytes."""
    return bytes((_PING, len(payload))) + payload


def pong(payload: bytes) -> bytes:
    """Returns a pong frame; the payload has at most 125 bytes."""
    return bytes((_PONG, len(payload))) + payload


def close(code: int, reason: str = "") -> bytes:
    """Returns a close frame, the reason cut to what fits; `NO_STATUS` sends none."""
    if code == NO_STATUS:
        return bytes((_CLOSE, 0))
    text = reason.encode(errors="replace")[:_MAX_REASON]
    payload = code.to_bytes(2) + text.decode(errors="ignore").encode()
    return bytes((_CLOSE, len(payload))) + payload
