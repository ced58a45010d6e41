"""Framings: how text messages and the application's byte streams become each other.

One class for each WebSocket subprotocol of chimirror.  They know frames, JSON and
base64; they do not know the socket, the application or the state of the session, and
what they return is put into effect by the session.
"""

from __future__ import annotations

import sys

from . import b64
from .contract import EOF, Framing, Mistake, Resize, Signal
from .headers import text_header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeGuard

    from .contract import Buffers, Bytes, Request
    from .jsonbatch import gather
    from .jsontext import fold, load  # noqa: TC004 (below, once it is needed)
else:

    def gather(events):
        """Bring batches in after orjson, without which there are none."""
        global gather
        if "orjson" not in sys.modules:
            return None
        from .jsonbatch import gather

        return gather(events)

    def load(message):
        """Bring the judges of JSON in with the first message: 0.7 ms of a start."""
        global fold, load
        from .jsontext import fold, load

        return load(message)


SIGNALS = ("HUP", "INT", "QUIT", "TERM", "KILL", "USR1", "USR2", "CONT", "WINCH")
LARGEST = 65535  # columns, or rows: the kernel's fields have two bytes

_SPLIT = 4096
_PREFIXES = {
    kind: b'{"type":"%b","payload":"' % kind.encode()
    for kind in ("stdout", "stderr", "error")
}


def _frame(message: bytes) -> bytes:
    return text_header(len(message)) + message


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

    def gather(self, events: list[Any]) -> bytes | None:
        return gather(events)

    def encode(self, stream: str, chunk: bytes) -> Buffers:
        return _wrap(stream, chunk), 1

    def error(self, text: str) -> bytes:
        return b"".join(_wrap("error", text.encode()))


def _wrap(kind: str, data: bytes) -> list[Bytes]:
    payload = b64.encode(data)
    prefix = _PREFIXES[kind]
    header = text_header(len(prefix) + len(payload) + 2)
    if len(payload) < _SPLIT:
        return [header + prefix + payload + b'"}']
    return [header + prefix, payload, b'"}']  # not copied once more


class Stdio(Json):
    """The whole process: stdin, its end and signals in; output and exit status out."""

    __slots__ = ()

    name = "stdio"
    subprotocol = b"chimirror.stdio.v1"
    tells_secret = True
    _kind = ""  # of session, to be told in its first message

    def gather(self, events: list[Any]) -> bytes | None:
        return None  # not every message is for stdin

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
        return self._more(request)

    def _more(self, request: dict[str, object]) -> Request:
        """What not every session can be asked for."""
        if request.get("type") == "resize":
            return Mistake("there is no terminal to resize")
        return Mistake("type is none of stdin, eof, signal")

    def opened(self, session_id: str, secret: str) -> bytes:
        told = self._kind + (f',"secret":"{secret}"' if secret else "")
        return _frame(f'{{"type":"session","id":"{session_id}"{told}}}'.encode())

    def ended(self, code: int | None, signal: str | None) -> bytes:
        if signal is not None:
            return _frame(b'{"type":"exit","signal":"%b"}' % signal.encode())
        return _frame(b'{"type":"exit","code":%d}' % (code or 0))


class Terminal(Stdio):
    """The same for one that is a terminal, of the client's size."""

    __slots__ = ()
    _kind = ',"pty":true'

    def _more(self, request: dict[str, object]) -> Request:
        if request.get("type") != "resize":
            return Mistake("type is none of stdin, eof, signal, resize")
        columns, rows = request.get("columns"), request.get("rows")
        if _is_size(columns) and _is_size(rows):
            return Resize(columns, rows)
        return Mistake(f"columns and rows are not each 1 to {LARGEST}")


def _is_size(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 < value <= LARGEST


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


_JSON = Json()
_STDIO = Stdio()
_TERMINAL = Terminal()


def create(name: str, max_message: int, *, pty: bool = False) -> Framing:
    """Returns the framing of that name, for one session.

    Args:
        pty: the application has a terminal; not with lines or lsp.
    """
    if name == "json":
        return _JSON
    if name == "stdio":
        return _TERMINAL if pty else _STDIO
    if name == "lines":
        from .lines import Lines

        return Lines(max_message)
    assert name == "lsp", name
    from .lsp import Lsp

    return Lsp(max_message)
