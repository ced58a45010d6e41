"""Framings: how text messages and the application's byte streams become each other.

One class for each WebSocket subprotocol of chimirror.  They know frames, JSON and
base64; they do not know the socket, the application or the state of the session, and
what they return is put into effect by the session.
"""

from __future__ import annotations

from . import b64
from .frames import text_frames, text_header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .jsontext import fold, load  # noqa: TC004 (below, once it is needed)

    Buffers = tuple[list[bytes], int]
else:

    def load(message):
        """Bring the judges of JSON in with the first message: 0.7 ms of a start."""
        global fold, load
        from .jsontext import fold, load

        return load(message)


SIGNALS = ("HUP", "INT", "QUIT", "TERM", "KILL", "USR1", "USR2", "CONT", "WINCH")

_NOT_UTF8 = 1007
_INTERNAL_ERROR = 1011


class Eof:
    """The client asks to close stdin."""

    __slots__ = ()


EOF = Eof()


class Signal:
    """The client asks for a signal, by its name without SIG."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Mistake:
    """The client's message is answered by an error message and not delivered."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class Violation(Exception):
    """The session must be closed: by the client's message, or by what was printed.

    Attributes:
        sent: what `encode` had for the lines before the mistake; still to be sent.
    """

    __slots__ = ("code", "reason", "sent")

    def __init__(self, code: int, reason: str, sent: Buffers | None = None) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
        self.sent: Buffers = sent or ([], 0)


if TYPE_CHECKING:
    Request = bytes | Eof | Signal | Mistake | Violation

_SPLIT = 4096
# As integers: `in` takes eight times as long for a bytes object.
_LF, _CR = b"\n\r"
_NOTHING = b""


def _frame(message: bytes) -> bytes:
    return text_header(len(message)) + message


class Framing:
    """What the session asks of a framing; the answers of one that has none."""

    __slots__ = ()

    name: str
    subprotocol: bytes
    default_stderr: str

    def decode(self, message: bytes) -> Request:
        """Returns what a client's message asks for; bytes are for stdin."""
        raise NotImplementedError

    def encode(self, stream: str, chunk: bytes) -> Buffers:
        """Returns the frames for a piece of output, and how many messages they are.

        Args:
            stream: "stdout" or "stderr".

        Raises:
            Violation: the application printed what this framing cannot carry.
        """
        raise NotImplementedError

    def finish(self, stream: str) -> Buffers:
        """Returns the frames for what was kept back, at the end of the output."""
        return [], 0

    def opened(self, session_id: str) -> bytes:
        """Returns the first frame of the session, or nothing."""
        return _NOTHING

    def ended(self, code: int | None, signal: str | None) -> bytes:
        """Returns the frame that tells how the application ended, or nothing."""
        return _NOTHING

    def error(self, text: str) -> bytes:
        """Returns the frame that answers a Mistake, or nothing."""
        return _NOTHING


class Json(Framing):
    """Any JSON text in, one line of it on stdin; output wrapped, in base64."""

    __slots__ = ()

    name = "json"
    subprotocol = b"chimirror.json.v1"
    default_stderr = "client"

    def decode(self, message: bytes) -> Request:
        try:
            load(message)
        except ValueError:
            return Mistake("not JSON")
        return fold(message) + b"\n"

    def encode(self, stream: str, chunk: bytes) -> Buffers:
        return _wrap(stream, chunk), 1

    def error(self, text: str) -> bytes:
        return b"".join(_wrap("error", text.encode()))


def _wrap(kind: str, data: bytes) -> list[bytes]:
    payload = b64.encode(data)
    prefix = b'{"type":"%b","payload":"' % kind.encode()
    header = text_header(len(prefix) + len(payload) + 2)
    if len(payload) < _SPLIT:
        return [b'%b%b%b"}' % (header, prefix, payload)]
    return [header + prefix, payload, b'"}']  # not copied once more


class Stdio(Json):
    """The whole process: stdin, its end and signals in; output and exit status out."""

    __slots__ = ()

    name = "stdio"
    subprotocol = b"chimirror.stdio.v1"

    def decode(self, message: bytes) -> Request:
        try:
            request = load(message)
        except ValueError:
            return Mistake("not JSON")
        if not isinstance(request, dict):
            return Mistake("not an object")
        kind = request.get("type")
        if kind == "stdin":
            return _stdin(request.get("payload"))
        if kind == "eof":
            return EOF
        if kind == "signal":
            return _signal(request.get("name"))
        return Mistake("type is none of stdin, eof, signal")

    def opened(self, session_id: str) -> bytes:
        return _frame(b'{"type":"session","id":"%b"}' % session_id.encode())

    def ended(self, code: int | None, signal: str | None) -> bytes:
        if signal is not None:
            return _frame(b'{"type":"exit","signal":"%b"}' % signal.encode())
        return _frame(b'{"type":"exit","code":%d}' % (code or 0))


def _stdin(payload: object) -> bytes | Mistake:
    try:
        if isinstance(payload, str):
            return b64.decode(payload)
    except ValueError:
        pass
    return Mistake("payload is not base64")


def _signal(name: object) -> Signal | Mistake:
    if isinstance(name, str) and name in SIGNALS:
        return Signal(name)
    return Mistake("name is none of " + ", ".join(SIGNALS))


class Lines(Framing):
    """One message, one line, both ways; one object for each session."""

    __slots__ = ("_max_message", "_partial")

    name = "lines"
    subprotocol = b"chimirror.lines.v1"
    default_stderr = "log"

    def __init__(self, max_message: int) -> None:
        self._max_message = max_message
        self._partial: bytearray | None = None  # a line's beginning

    def decode(self, message: bytes) -> Request:
        if _LF in message or _CR in message:
            from .jsontext import fold, valid

            if not valid(message):
                return Violation(_NOT_UTF8, "line break outside JSON")
            message = fold(message)
        return message + b"\n"

    def encode(self, stream: str, chunk: bytes) -> Buffers:
        assert stream == "stdout", "stderr has no place among the lines"
        end = chunk.rfind(b"\n") + 1
        if not end:
            self._keep(chunk)
            return [], 0
        block = chunk[:end]
        if self._partial is not None:
            block = bytes(self._partial) + block
            self._partial = None
        lines = block.split(b"\n")
        lines.pop()
        if _CR in block:
            lines = [line.removesuffix(b"\r") for line in lines]
        buffers = self._frames(lines, block)
        if end < len(chunk):
            try:
                self._keep(chunk[end:])
            except Violation as violation:
                violation.sent = buffers
                raise
        return buffers

    def finish(self, stream: str) -> Buffers:
        if not self._partial:
            return [], 0
        line = bytes(self._partial)
        self._partial = None
        return self._frames([line], line)

    def _keep(self, piece: bytes) -> None:
        """Adds to the line's beginning, which is never longer than a line may be."""
        if self._partial is None:
            self._partial = bytearray()
        self._partial += piece
        over = len(self._partial) - self._max_message
        # One byte more may still turn out to be the \r of the line's end.
        if over > 1 or (over == 1 and not self._partial.endswith(b"\r")):
            raise Violation(_INTERNAL_ERROR, "line over --max-message")

    def _frames(self, lines: list[bytes], block: bytes) -> Buffers:
        if len(block) > self._max_message or not _is_utf8(block):
            self._check(lines)
        return [text_frames(lines)], len(lines)

    def _check(self, lines: list[bytes]) -> None:
        for number, line in enumerate(lines):
            if len(line) > self._max_message:
                reason = "line over --max-message"
            elif not _is_utf8(line):
                reason = "line not UTF-8"
            else:
                continue
            sent = [text_frames(lines[:number])] if number else []
            raise Violation(_INTERNAL_ERROR, reason, (sent, number))


def _is_utf8(text: bytes) -> bool:
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


_JSON = Json()
_STDIO = Stdio()


def create(name: str, max_message: int) -> Framing:
    """Returns the framing of that name, for one session."""
    if name == "json":
        return _JSON
    if name == "stdio":
        return _STDIO
    assert name == "lines", name
    return Lines(max_message)
