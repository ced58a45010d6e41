"""Messages of chimirror.stdio.v1, as a client encodes and decodes them.

Pure: knows no socket, no terminal and no process. The contract is
chimirror-protocol(7): JSON objects with a `type`, byte streams in base64. Unknown
members and types are ignored, so that newer servers work with older clients.

The messages of a chimirror.json.v1 server are a subset of these.
"""

from __future__ import annotations

import binascii
import json

from chimirror.client.results import Exit, Output, Stream

SUBPROTOCOL = "chimirror.stdio.v1"

EOF = b'{"type":"eof"}'


class ErrorMessage:
    """An `error` message: the server refused a message of the client."""

    __slots__ = ("text",)

    def __init__(self, text: bytes) -> None:
        self.text = text


class SessionMessage:
    """First message of the server: the session id and the control secret.

    Attributes:
        id: The session id.
        pty: The process has a terminal.
        direction: "send" if the process only receives, "receive" if it only sends,
            "both" otherwise.
        read_only: The server ignores input and signals.
        secret: Authorizes control connections, "" if the server offers none.
        window: The server knows windows.
    """

    __slots__ = ("direction", "id", "pty", "read_only", "secret", "window")

    def __init__(
        self,
        session: str,
        secret: str,
        *,
        pty: bool,
        direction: str = "both",
        read_only: bool = False,
        window: bool = False,
    ) -> None:
        self.id = session
        self.secret = secret
        self.pty = pty
        self.direction = direction
        self.read_only = read_only
        self.window = window


Event = Output | ErrorMessage | SessionMessage | Exit


class MessageError(Exception):
    """A message of the server violates the framing.

    Attributes:
        code: The close code for it.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def stdin(chunk: bytes | memoryview) -> bytes:
    """Encode `chunk` for the remote stdin."""
    payload = binascii.b2a_base64(chunk, newline=False)
    return b'{"type":"stdin","payload":"' + payload + b'"}'


def signal(name: str) -> bytes:
    """Encode a signal. `name` is without SIG: "INT"."""
    return b'{"type":"signal","name":"' + name.encode("ascii") + b'"}'


def resize(columns: int, rows: int) -> bytes:
    """Encode the size of the terminal."""
    return b'{"type":"resize","columns":%d,"rows":%d}' % (columns, rows)


def window(size: int) -> bytes:
    """Encode the number of bytes of output that the server may send in all."""
    return b'{"type":"window","bytes":%d}' % size


def decode(message: bytes) -> Event | None:
    """Decode one text message of the server.

    Returns:
        The event, None for an unknown type.

    Raises:
        MessageError: The message violates the framing.
    """
    # Fast path for output messages in their usual form, without parsing JSON. Strict
    # base64 rejects everything else in the slice, and then the JSON parser decides.
    for stream, head in _HEADS:
        if message.startswith(head) and message.endswith(b'"}'):
            try:
                data = binascii.a2b_base64(
                    memoryview(message)[len(head) : -2], strict_mode=True
                )
            except binascii.Error:
                break
            return Output(stream, data)
    return _interpret(_parse(message))


_HEADS: tuple[tuple[Stream, bytes], ...] = (
    ("stdout", b'{"type":"stdout","payload":"'),
    ("stderr", b'{"type":"stderr","payload":"'),
)


def _parse(message: bytes) -> dict[str, object]:
    try:
        value = json.loads(message.decode("utf-8"))
    except UnicodeDecodeError:
        raise MessageError(1007, "a message is not UTF-8") from None
    except (ValueError, RecursionError):
        raise MessageError(1008, "a message is not JSON") from None
    if not isinstance(value, dict):
        raise MessageError(1008, "a message is not a JSON object")
    return value


def _interpret(message: dict[str, object]) -> Event | None:
    match message.get("type"):
        case "stdout":
            return Output("stdout", _payload(message))
        case "stderr":
            return Output("stderr", _payload(message))
        case "error":
            return ErrorMessage(_payload(message))
        case "session":
            return _session(message)
        case "exit":
            return _exit(message)
        case str():
            return None
    raise MessageError(1008, "a message has no type")


def _session(message: dict[str, object]) -> SessionMessage:
    direction = message.get("direction")
    return SessionMessage(
        _text(message, "id"),
        _text(message, "secret") if "secret" in message else "",
        pty=message.get("pty") is True,
        direction=str(direction) if direction in ("send", "receive") else "both",
        read_only=message.get("read_only") is True,
        window=message.get("window") is True,
    )


def _exit(message: dict[str, object]) -> Exit:
    code = message.get("code")
    if code is None:
        return Exit(None, _text(message, "signal"))
    # In Python, True is an int. In JSON, it is not a number.
    if type(code) is not int or not 0 <= code <= 255:
        raise MessageError(1008, "the exit code is not a number from 0 to 255")
    return Exit(code, None)


def _payload(message: dict[str, object]) -> bytes:
    try:
        return binascii.a2b_base64(_text(message, "payload"), strict_mode=True)
    except ValueError:
        raise MessageError(1008, "a payload is not base64") from None


def _text(message: dict[str, object], name: str) -> str:
    value = message.get(name)
    if not isinstance(value, str):
        raise MessageError(1008, f"a message lacks its {name}")
    return value
