"""Framings: convert data of the caller to messages, and messages to events.

Pure. One class for each framing of chimirror-protocol(7). Each session has one
instance.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from chimirror.client import stdio_messages
from chimirror.client.results import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# With base64 this fits into a server's limit of --max-message 64K. It is also large
# enough that the cost per message is negligible (measured: 64 KiB is no faster).
CHUNK_SIZE = 32 * 1024

SIGNALS = ("HUP", "INT", "QUIT", "TERM", "KILL", "USR1", "USR2", "CONT", "WINCH")


class Framing:
    """Base class of the framings.

    Attributes:
        name: Name of the framing, as for --framing.
        subprotocol: Subprotocol of the handshake.
        has_session_messages: The server sends the session id first and the exit status
            last. It accepts the end of input and signals.
    """

    name = ""
    subprotocol = ""
    has_session_messages = False

    def messages(self, data: object) -> Iterator[bytes]:
        """Return the messages that carry `data` to the application.

        Raises:
            TypeError, ValueError: The framing cannot carry the data.
        """
        raise NotImplementedError

    def decode(self, message: bytes) -> stdio_messages.Event | None:
        """Decode a message of the server.

        Raises:
            stdio_messages.MessageError: The message violates the framing.
        """
        return stdio_messages.decode(message)


class Offer(NamedTuple):
    """A subprotocol that a client offers, and the framing that it selects.

    Attributes:
        subprotocol: Its name. "" stands for a server that chooses none: the name is
            not sent, and such an answer is accepted.
        framing: Framing of the session if the server chooses this subprotocol.
    """

    subprotocol: str
    framing: Framing


class StdioFraming(Framing):
    """Framing stdio: bytes in both directions. Text is sent as UTF-8."""

    name = "stdio"
    subprotocol = stdio_messages.SUBPROTOCOL
    has_session_messages = True

    def messages(self, data: object) -> Iterator[bytes]:
        if isinstance(data, str):
            data = data.encode()
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"the data must be bytes or str, not {type(data).__name__}")
        view = memoryview(data).cast("B")
        return (
            stdio_messages.stdin(view[start : start + CHUNK_SIZE])
            for start in range(0, len(view), CHUNK_SIZE)
        )


class JsonFraming(Framing):
    """Framing json: JSON values to the application as lines, bytes back."""

    name = "json"
    subprotocol = "chimirror.json.v1"

    def messages(self, data: object) -> Iterator[bytes]:
        return iter((_json(data),))

    def decode(self, message: bytes) -> stdio_messages.Event | None:
        event = stdio_messages.decode(message)
        return (
            event if isinstance(event, (Output, stdio_messages.ErrorMessage)) else None
        )


class LinesFraming(Framing):
    """Framing lines: one line in each message. Adds the line break on receipt."""

    name = "lines"
    subprotocol = "chimirror.lines.v1"

    def messages(self, data: object) -> Iterator[bytes]:
        if not isinstance(data, str):
            raise TypeError(f"the data must be a str, not {type(data).__name__}")
        if "\n" in data or "\r" in data:
            raise ValueError("the data must be one line without its line break")
        return iter((data.encode(),))

    def decode(self, message: bytes) -> stdio_messages.Event | None:
        try:
            message.decode()
        except UnicodeDecodeError:
            raise stdio_messages.MessageError(1007, "a message is not UTF-8") from None
        return Output("stdout", message + b"\n")


class LspFraming(LinesFraming):
    """Framing lsp: JSON values in both directions. A received value is one line."""

    name = "lsp"
    subprotocol = "chimirror.lsp.v1"

    def messages(self, data: object) -> Iterator[bytes]:
        return iter((_json(data),))

    def decode(self, message: bytes) -> stdio_messages.Event | None:
        # Line breaks in a JSON text are only allowed between its tokens.
        return super().decode(message.translate(_LINE_BREAKS_TO_SPACES))


_LINE_BREAKS_TO_SPACES = bytes.maketrans(b"\r\n", b"  ")


def _json(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # A lone surrogate occurs only in JSON strings, where \ud800 is its escape.
    return text.encode("utf-8", "backslashreplace")


_FRAMINGS: dict[str, type[Framing]] = {
    kind.name: kind for kind in (StdioFraming, JsonFraming, LinesFraming, LspFraming)
}
NAMES = tuple(_FRAMINGS)


def create(name: str) -> Framing:
    """Create the framing of this name.

    Raises:
        ValueError: A framing of this name does not exist.
    """
    if name not in _FRAMINGS:
        raise ValueError(
            f"unknown framing {name!r}: write one of {', '.join(_FRAMINGS)}"
        )
    return _FRAMINGS[name]()


def signal_name(signal: str | int) -> str:
    """Return the protocol's name of a signal: `INT` for "INT", "SIGINT" and SIGINT.

    Raises:
        ValueError: The protocol does not carry this signal.
    """
    name = signal
    if isinstance(signal, int):
        import signal as signals

        name = signals.Signals(signal).name
    name = str(name).removeprefix("SIG")
    if name not in SIGNALS:
        raise ValueError(
            f"unknown signal {signal!r}: write one of {', '.join(SIGNALS)}"
        )
    return name
