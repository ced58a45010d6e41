"""How what the caller sends becomes messages, and messages become events.

Pure: one class for each framing of chimirror-protocol(7), of which a session has one.
"""

from __future__ import annotations

import json

from . import stdio
from .events import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# In base64 small enough for a server that was told --max-message 64K, large enough
# that the cost per message does not show (measured: 64 KiB is no faster).
CHUNK = 32 * 1024

SIGNALS = ("HUP", "INT", "QUIT", "TERM", "KILL", "USR1", "USR2", "CONT", "WINCH")


class Framing:
    """What all have in common.

    Attributes:
        name: for --framing.
        subprotocol: what is asked for in the handshake.
        whole: the server tells the session's id first and the exit status last, and
            takes the end of input and signals.
    """

    name = ""
    subprotocol = ""
    whole = False

    def messages(self, data: object) -> Iterator[bytes]:
        """The messages that carry `data` to the application.

        Raises:
            TypeError, ValueError: it is nothing that this framing can carry.
        """
        raise NotImplementedError

    def decode(self, message: bytes) -> stdio.Event | None:
        """What a message of the server says.

        Raises:
            stdio.Violation: it is not what such a server sends.
        """
        return stdio.decode(message)


class Stdio(Framing):
    """Bytes in, bytes out; text is sent as UTF-8."""

    name = "stdio"
    subprotocol = stdio.SUBPROTOCOL
    whole = True

    def messages(self, data: object) -> Iterator[bytes]:
        if isinstance(data, str):
            data = data.encode()
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"bytes or str, please, not {type(data).__name__}")
        view = memoryview(data).cast("B")
        return (
            stdio.stdin(view[start : start + CHUNK])
            for start in range(0, len(view), CHUNK)
        )


class Json(Framing):
    """Any JSON value, as one line, in; bytes out."""

    name = "json"
    subprotocol = "chimirror.json.v1"

    def messages(self, data: object) -> Iterator[bytes]:
        return iter((_json(data),))

    def decode(self, message: bytes) -> stdio.Event | None:
        event = stdio.decode(message)
        return event if isinstance(event, (Output, stdio.Notice)) else None


class Lines(Framing):
    """One line of text in, one out, which gets its line break back here."""

    name = "lines"
    subprotocol = "chimirror.lines.v1"

    def messages(self, data: object) -> Iterator[bytes]:
        if not isinstance(data, str):
            raise TypeError(f"str, please, not {type(data).__name__}")
        if "\n" in data or "\r" in data:
            raise ValueError("one line at a time, and without its line break, please")
        return iter((data.encode(),))

    def decode(self, message: bytes) -> stdio.Event | None:
        try:
            message.decode()
        except UnicodeDecodeError:
            raise stdio.Violation(1007, "a message is not UTF-8") from None
        return Output("stdout", message + b"\n")


class Lsp(Lines):
    """Any JSON value, as one message of a language server, in; one such out, a line."""

    name = "lsp"
    subprotocol = "chimirror.lsp.v1"

    def messages(self, data: object) -> Iterator[bytes]:
        return iter((_json(data),))

    def decode(self, message: bytes) -> stdio.Event | None:
        # Line breaks of a JSON text stand between its tokens.
        return super().decode(message.translate(_FOLDED))


_FOLDED = bytes.maketrans(b"\r\n", b"  ")


def _json(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # A lone surrogate can only stand in a string, where \ud800 is JSON for it.
    return text.encode("utf-8", "backslashreplace")


_ALL: dict[str, type[Framing]] = {kind.name: kind for kind in (Stdio, Json, Lines, Lsp)}


def create(name: str) -> Framing:
    """The framing of this name.

    Raises:
        ValueError: there is none.
    """
    if name not in _ALL:
        raise ValueError(f"framing {name!r}: there are {', '.join(_ALL)}")
    return _ALL[name]()


def signal_name(signal: str | int) -> str:
    """A signal in the words of the protocol: `INT` for "INT", "SIGINT" and SIGINT.

    Raises:
        ValueError: it cannot be sent.
    """
    name = signal
    if isinstance(signal, int):
        import signal as signals

        name = signals.Signals(signal).name
    name = str(name).removeprefix("SIG")
    if name not in SIGNALS:
        raise ValueError(f"signal {signal!r}: there are {', '.join(SIGNALS)}")
    return name
