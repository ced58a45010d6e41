"""The messages of chimirror.stdio.v1, as a client sends and reads them.

(What a server of chimirror.json.v1 sends is a part of these.)

Pure: bytes in, values out. Knows no socket, no terminal and no process. The law is
chimirror-protocol(7): JSON objects with a `type`, byte streams in base64; members
and types that it does not know are passed over, so that a newer server can talk to
an older client.
"""

from __future__ import annotations

import binascii
import json

from .events import Exit, Output, Stream

SUBPROTOCOL = "chimirror.stdio.v1"

EOF = b'{"type":"eof"}'


class Notice:
    """An `error` message: something that we sent was refused."""

    __slots__ = ("text",)

    def __init__(self, text: bytes) -> None:
        self.text = text


class Opened:
    """First of all messages: the session's id, and what it takes to steer it.

    Attributes:
        pty: the process has a terminal.
    """

    __slots__ = ("id", "pty", "secret")

    def __init__(self, session: str, secret: str, *, pty: bool) -> None:
        self.id = session
        self.secret = secret
        self.pty = pty


Event = Output | Notice | Opened | Exit


class Violation(Exception):
    """The server sent what the framing does not allow; carries the close code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def stdin(chunk: bytes | memoryview) -> bytes:
    """The message that carries `chunk` to the remote stdin."""
    payload = binascii.b2a_base64(chunk, newline=False)
    return b'{"type":"stdin","payload":"' + payload + b'"}'


def signal(name: str) -> bytes:
    """The message that sends a signal; `name` without SIG: "INT"."""
    return b'{"type":"signal","name":"' + name.encode("ascii") + b'"}'


def resize(columns: int, rows: int) -> bytes:
    """The message that sets the size of the terminal."""
    return b'{"type":"resize","columns":%d,"rows":%d}' % (columns, rows)


def decode(message: bytes) -> Event | None:
    """Read one text message of the server.

    Returns:
        What it says, None for a type that is not known here.

    Raises:
        Violation: it is not what a server of this framing sends.
    """
    # The two that make up the bulk, as every server writes them; strict base64
    # refuses whatever else the slice might hold, and then JSON decides.
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
        raise Violation(1007, "a message is not UTF-8") from None
    except (ValueError, RecursionError):
        raise Violation(1008, "a message is not JSON") from None
    if not isinstance(value, dict):
        raise Violation(1008, "a message is not a JSON object")
    return value


def _interpret(message: dict[str, object]) -> Event | None:
    match message.get("type"):
        case "stdout":
            return Output("stdout", _payload(message))
        case "stderr":
            return Output("stderr", _payload(message))
        case "error":
            return Notice(_payload(message))
        case "session":
            secret = _text(message, "secret") if "secret" in message else ""
            pty = message.get("pty") is True
            return Opened(_text(message, "id"), secret, pty=pty)
        case "exit":
            return _exit(message)
        case str():
            return None
    raise Violation(1008, "a message has no type")


def _exit(message: dict[str, object]) -> Exit:
    code = message.get("code")
    if code is None:
        return Exit(None, _text(message, "signal"))
    # True is an int to Python, not to JSON.
    if type(code) is not int or not 0 <= code <= 255:
        raise Violation(1008, "the exit code is not a number from 0 to 255")
    return Exit(code, None)


def _payload(message: dict[str, object]) -> bytes:
    try:
        return binascii.a2b_base64(_text(message, "payload"), strict_mode=True)
    except ValueError:
        raise Violation(1008, "a payload is not base64") from None


def _text(message: dict[str, object], name: str) -> str:
    value = message.get(name)
    if not isinstance(value, str):
        raise Violation(1008, f"a message lacks its {name}")
    return value
