"""What a framing is to the session: what it is asked, and what it can answer.

Knows no framing in particular; see `framing`, `lines` and `lsp`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .frames import Event

    Bytes = bytes | bytearray
    Buffers = tuple[list[Bytes], int]

_NOTHING = b""


class Eof:
    """The client asks to close stdin."""

    __slots__ = ()


EOF = Eof()


class Signal:
    """The client asks for a signal, by its name without SIG."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Resize:
    """The window of the client's terminal has this size."""

    __slots__ = ("columns", "rows")

    def __init__(self, columns: int, rows: int) -> None:
        self.columns = columns
        self.rows = rows


class Mistake:
    """The client's message is answered by an error message and not delivered."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class Violation(Exception):
    """The session must be closed: by the client's message, or by what was printed.

    Attributes:
        sent: what `encode` had for what came before the mistake; still to be sent.
    """

    __slots__ = ("code", "reason", "sent")

    def __init__(self, code: int, reason: str, sent: Buffers | None = None) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
        self.sent: Buffers = sent or ([], 0)


if TYPE_CHECKING:
    Request = bytes | Eof | Signal | Resize | Mistake | Violation


class Framing:
    """What the session asks of a framing; the answers of one that has none."""

    __slots__ = ()

    name: str
    subprotocol: bytes
    default_stderr: str
    tells_secret = False  # its first frame has a place for it

    def decode(self, message: bytes) -> Request:
        """Returns what a client's message asks for; bytes are for stdin."""
        raise NotImplementedError

    def gather(self, events: list[Event]) -> bytes | None:
        """Returns at once what `decode` of all these would give to stdin.

        None: not everything is a message, or not every message is for stdin, or it
        would save nothing. Then `decode` is asked, one by one.
        """
        return None

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

    def opened(self, session_id: str, secret: str) -> bytes:
        """Returns the first frame of the session, or nothing.

        Args:
            secret: for those who may steer the session; empty where nobody can.
        """
        return _NOTHING

    def ended(self, code: int | None, signal: str | None) -> bytes:
        """Returns the frame that tells how the application ended, or nothing."""
        return _NOTHING

    def error(self, text: str) -> bytes:
        """Returns the frame that answers a Mistake, or nothing."""
        return _NOTHING
