"""The framings json and stdio: JSON messages in, output in base64 (RFC 4648).

`chimirror.json.v1` writes JSON texts to stdin as lines. `chimirror.stdio.v1` carries
the whole process: stdin, its end, signals, output and exit status.
"""

from __future__ import annotations

import sys
from binascii import a2b_base64, b2a_base64

from chimirror.framing import (
    EOF,
    Framing,
    RejectedMessage,
    ResizeRequest,
    SignalRequest,
    WindowRequest,
)
from chimirror.protocol import MAX_TERMINAL_SIZE, MAX_WINDOW
from chimirror.protocol.frame_format import text_header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeGuard

    from chimirror.framing import Buffer, Buffers, Request
    from chimirror.framing.json_batch import decode_batch
    from chimirror.protocol.json_text import JsonTextError, parse, to_single_line  # noqa: TC004 (below, once it is needed)
else:

    def decode_batch(events):
        """Import batches once orjson is loaded, because they need it."""
        global decode_batch
        if "orjson" not in sys.modules:
            return None
        from chimirror.framing.json_batch import decode_batch

        return decode_batch(events)

    def parse(message):
        """Import the JSON check with the first message: saves 0.7 ms of the start."""
        global JsonTextError, parse, to_single_line
        from chimirror.protocol.json_text import JsonTextError, parse, to_single_line

        return parse(message)


# At this size binascii takes 2 µs to encode and 5 µs to decode, pybase64 below 1 µs.
MIN_PYBASE64 = 1024


def encode_base64(data: bytes) -> bytes:
    """Return `data` in base64."""
    if len(data) < MIN_PYBASE64:
        return b2a_base64(data, newline=False)
    from pybase64 import b64encode

    return b64encode(data)


def decode_base64(text: str | bytes) -> bytes:
    """Return the bytes that `text` encodes.

    Raises:
        ValueError: The text is not base64, has a line break, or lacks its padding.
    """
    data = text.encode("ascii") if isinstance(text, str) else text
    if len(data) < MIN_PYBASE64:
        # Even in strict mode binascii accepts padding after a complete group.
        if len(data) % 4 or data.endswith(b"==="):
            raise ValueError("wrong padding")
        return a2b_base64(data, strict_mode=True)
    from pybase64 import b64decode

    return b64decode(data, validate=True)


SIGNALS = ("HUP", "INT", "QUIT", "TERM", "KILL", "USR1", "USR2", "CONT", "WINCH")

_MIN_SPLIT = 4096
_PREFIXES = {
    kind: b'{"type":"%b","payload":"' % kind.encode() for kind in ("stdout", "stderr")
}
_SUFFIX = b'"}'
_OVERHEAD = max(map(len, _PREFIXES.values())) + len(_SUFFIX)


def _frame(message: bytes) -> bytes:
    return text_header(len(message)) + message


_ALIVE = _frame(b'{"type":"alive"}')


class JsonFraming(Framing):
    """JSON texts in, as lines on stdin. Output in base64, wrapped in JSON.

    A piece of output that is too large for one message becomes several messages.

    Args:
        max_message: Bytes of the largest message of output, from 1024 up.
    """

    __slots__ = ("_full", "_next", "_payload_size", "_piece_size")

    name = "json"

    def __init__(self, max_message: int) -> None:
        groups = (max_message - _OVERHEAD) // 4
        self._piece_size, self._payload_size = groups * 3, groups * 4
        # The beginnings of messages with a piece of that size, and the same behind the
        # end of another message.
        self._full = {kind: _start(kind, self._payload_size) for kind in _PREFIXES}
        self._next = {kind: _SUFFIX + start for kind, start in self._full.items()}

    def decode(self, message: bytes) -> Request:
        try:
            parse(message)
        except JsonTextError as error:
            return RejectedMessage(error.describe(message))
        return to_single_line(message) + b"\n"

    def decode_batch(self, events: list[Any]) -> bytes | None:
        return decode_batch(events)

    def encode(self, stream: str, chunk: bytes) -> Buffers:
        if len(chunk) <= self._piece_size:
            return _wrap(stream, chunk), 1
        return self._cut(stream, chunk)

    def _cut(self, stream: str, chunk: bytes) -> Buffers:
        """Return several messages, all but the last of the largest size.

        The chunk is encoded at once, and the messages refer to parts of the result.
        """
        payload, size = memoryview(encode_base64(chunk)), self._payload_size
        position, last = size, len(payload) - size
        following = self._next[stream]
        buffers: list[Buffer] = [self._full[stream], payload[:size]]
        while position < last:
            buffers += (following, payload[position : position + size])
            position += size
        start = _start(stream, len(payload) - position)
        buffers += (_SUFFIX + start, payload[position:], _SUFFIX)
        return buffers, len(buffers) // 2

    def error_message(self, text: str) -> bytes:
        data = text.encode()
        quoted = data.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        members = encode_base64(data), quoted
        return _frame(b'{"type":"error","payload":"%b","text":"%b"}' % members)


def _wrap(kind: str, data: bytes) -> list[Buffer]:
    payload = encode_base64(data)
    start = _start(kind, len(payload))
    if len(payload) < _MIN_SPLIT:
        return [start + payload + _SUFFIX]
    return [start, payload, _SUFFIX]  # without another copy


def _start(kind: str, payload_size: int) -> bytes:
    """Return a message up to its payload, with the header of the frame."""
    prefix = _PREFIXES[kind]
    return text_header(len(prefix) + payload_size + len(_SUFFIX)) + prefix


class StdioFraming(JsonFraming):
    """The whole process: stdin, its end and signals in, output and exit status out."""

    __slots__ = ()

    name = "stdio"
    sends_secret = True
    _session_members = ""  # further members of the first message

    def decode_batch(self, events: list[Any]) -> bytes | None:
        return None  # not every message is for stdin

    def decode(self, message: bytes) -> Request:
        try:
            request = parse(message)
        except JsonTextError as error:
            return RejectedMessage(error.describe(message))
        if not isinstance(request, dict):
            return _rejected("not an object", request)
        kind = request.get("type")
        if kind == "stdin":
            return _stdin(request.get("payload"))
        if kind == "eof":
            return EOF
        if kind == "signal":
            return _signal(request.get("name"))
        return self._decode_other(request)

    def _decode_other(self, request: dict[str, object]) -> Request:
        """Return the request in a message that only some sessions accept."""
        kind = request.get("type")
        if kind == "resize":
            return RejectedMessage("there is no terminal to resize")
        if kind == "window":
            return RejectedMessage("there is no terminal with a window")
        return _rejected("type is none of stdin, eof, signal", kind)

    def session_message(
        self,
        session_id: str,
        secret: str,
        direction: str,
        *,
        read_only: bool,
        timings: tuple[float, float] | None = None,
    ) -> bytes:
        members = f',"direction":"{direction}"'
        members += ',"read_only":true' if read_only else ""
        if timings:
            members += ',"ping_interval":{},"ping_timeout":{}'.format(*timings)
        members += self._session_members + (f',"secret":"{secret}"' if secret else "")
        return _frame(f'{{"type":"session","id":"{session_id}"{members}}}'.encode())

    def alive_message(self) -> bytes:
        return _ALIVE

    def exit_message(self, code: int | None, signal: str | None) -> bytes:
        if signal is not None:
            return _frame(b'{"type":"exit","signal":"%b"}' % signal.encode())
        return _frame(b'{"type":"exit","code":%d}' % (code or 0))


class TerminalFraming(StdioFraming):
    """The framing stdio for an application with a terminal of the client's size."""

    __slots__ = ()
    _session_members = ',"pty":true,"window":true'

    def _decode_other(self, request: dict[str, object]) -> Request:
        kind = request.get("type")
        if kind == "resize":
            return _resize(request.get("columns"), request.get("rows"))
        if kind == "window":
            return _window(request.get("bytes"))
        return _rejected("type is none of stdin, eof, signal, resize, window", kind)


def _resize(columns: object, rows: object) -> ResizeRequest | RejectedMessage:
    if _is_size(columns) and _is_size(rows):
        return ResizeRequest(columns, rows)
    return _rejected(
        f"columns and rows are not each 1 to {MAX_TERMINAL_SIZE}",
        rows if _is_size(columns) else columns,
    )


def _window(size: object) -> WindowRequest | RejectedMessage:
    if type(size) is int and 0 <= size <= MAX_WINDOW:
        return WindowRequest(size)
    return _rejected(f"bytes is not an integer from 0 to {MAX_WINDOW}", size)


def _is_size(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 < value <= MAX_TERMINAL_SIZE


def _stdin(payload: object) -> bytes | RejectedMessage:
    try:
        if isinstance(payload, str):
            return decode_base64(payload)
    except ValueError:
        pass
    return _rejected("payload is not base64", payload)


def _signal(name: object) -> SignalRequest | RejectedMessage:
    if isinstance(name, str) and name in SIGNALS:
        return SignalRequest(name)
    return _rejected("name is none of " + ", ".join(SIGNALS), name)


def _rejected(text: str, value: object) -> RejectedMessage:
    """Return the rejection of a message with its wrong value."""
    from chimirror.protocol.json_text import MAX_FOUND
    from chimirror.text import escape

    if isinstance(value, (list, dict)):
        shown = "an array" if isinstance(value, list) else "an object"
    elif isinstance(value, str):
        shown = f'"{escape(value, MAX_FOUND)}"'
    else:
        shown = "nothing" if value is None else str(value).lower()
    return RejectedMessage(f"{text}: found {shown}")
