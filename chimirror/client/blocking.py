"""The blocking face: sessions for programs, and threads, that wait.

Everything may be called from any thread; several may wait in one session. What is
done is in `conversation`, what moves the bytes meanwhile in `pump`: this file gives
both a form that reads well, and nothing else.
"""

from __future__ import annotations

from threading import get_ident
from typing import Any, Generic, Literal, Self, TypeVar, overload

from . import url as urls
from .control_blocking import Control
from .conversation import Conversation
from .framing import Framing, create
from .opening import Plan
from .pump import Pump, connected
from .reading import OUTPUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Unpack

    from .events import Completed, Exit, Output
    from .opening import Options
    from .steps import Flow
    from .wire import Wire

__all__ = ["Control", "Session", "Stream", "connect"]

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Session(Generic[T_contra]):
    """A remote process, and the connection to it.

    To be used in a `with` statement, which closes it: a process that still runs then
    is stopped by the server. Iteration gives all output in the order in which it
    came; it ends when the process has, and raises SessionLost if nobody knows how.

    A `timeout` is in seconds and raises TimeoutError. Nothing is lost by that: the
    call can be made again (but for `send`, of which a part may have gone).

    Attributes:
        stdout: its standard output alone.
        stderr: its standard error alone.
        control: what can be done to it meanwhile; see `control_blocking.Control`.
    """

    def __init__(self, core: Conversation, pump: Pump) -> None:
        self._core = core
        self._pump = pump
        self.stdout = Stream(core, pump, "stdout")
        self.stderr = Stream(core, pump, "stderr")
        self.control = Control(core, pump)

    @property
    def id(self) -> str:
        """The server's name for the session; "" in framings that do not tell it."""
        return self._core.id

    @property
    def exit(self) -> Exit | None:
        """How the process ended; None as long as that is not known."""
        with self._pump.changed:
            return self._core.status

    @property
    def pty(self) -> bool:
        """Whether the process has a terminal. Framing stdio only."""
        return self._core.pty

    @property
    def responsive(self) -> bool:
        """Whether the server has given a sign of life since the last `signal`."""
        return not self._core.wire.unanswered

    # To the process.

    def send(self, data: T_contra, *, timeout: float | None = None) -> None:
        """Send to its standard input; waits while the connection is full.

        Args:
            data: bytes, or a str for its UTF-8; with framing json or lsp any JSON
                value; with lines a str, one line without its line break.

        Raises:
            SessionOver: it has ended.
        """
        self._pump.run(self._core.send(data), timeout)

    def end_input(self, *, timeout: float | None = None) -> None:
        """Close its standard input. Framing stdio only."""
        self._pump.run(self._core.end_input(), timeout)

    def signal(self, signal: str | int) -> None:
        """Send it a signal: "INT" or signal.SIGINT. Framing stdio only.

        It overtakes input that waits to be sent. See also `responsive`.
        """
        self._pump.run(self._core.signal(signal))

    def resize(self, columns: int, rows: int) -> None:
        """Set the size of its terminal, as `signal`. Only where `pty` is true."""
        self._pump.run(self._core.resize(columns, rows))

    # From the process.

    def __iter__(self) -> Iterator[Output]:
        reader = self._core.reader(*OUTPUT)
        return Items(self._pump, lambda: self._core.take(reader))

    def receive(self, *, timeout: float | None = None) -> Output | None:
        """The next output, of either stream; None when no more will come.

        Args:
            timeout: 0 asks whether there is some.
        """
        reader = self._core.reader(*OUTPUT)
        return self._pump.run(self._core.take(reader), timeout)

    @overload
    def on(
        self, kind: Literal["stdout", "stderr"], handler: Callable[[bytes], object]
    ) -> None: ...
    @overload
    def on(self, kind: Literal["error"], handler: Callable[[str], object]) -> None: ...
    @overload
    def on(self, kind: Literal["exit"], handler: Callable[[Exit], object]) -> None: ...
    def on(self, kind: str, handler: Callable[..., object]) -> None:
        """Have a function called with what comes of a kind.

        It is called by the calls that read (`run`, `wait`, `receive`, iteration), in
        their thread and in the order of arrival, and must not read itself. Nobody
        else gets what it gets.

        Args:
            kind: "stdout" or "stderr" (bytes), "error" (what the server says of a
                message that it did not deliver; without a handler NotDelivered is
                raised), "exit" (the Exit, last of all).
        """
        self._core.on(kind, handler)

    def run(self, *, timeout: float | None = None) -> Exit:
        """Call handlers until the process has ended; other output is dropped."""
        return self._pump.run(self._core.run(), timeout)

    def wait(self, *, timeout: float | None = None) -> Exit:
        """Wait until the process has ended; its output stays to be read.

        Raises:
            SessionLost: nobody knows how it ended.
            Unread: it cannot end, for there is too much output that nobody reads.
        """
        return self._pump.run(self._core.wait(), timeout)

    def communicate(
        self, data: bytes | str = b"", *, timeout: float | None = None
    ) -> Completed:
        """Send `data`, end the input, and wait for the end. Framing stdio only.

        All output is held in memory.
        """
        return self._pump.run(self._core.communicate(data), timeout)

    # The end.

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection, after what was sent; unread output is dropped.

        Takes two seconds at most. A process that still runs is stopped by the server.
        """
        self.control.disconnect()
        try:
            self._pump.run(self._core.close(code, reason))
        except BaseException:
            self.abort()
            raise
        self._pump.join()

    def abort(self) -> None:
        """Close the connection at once; what has not been sent is dropped."""
        self.control.disconnect()
        self._pump.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Stream:
    """One of the two outputs of a process.

    Iteration gives it in chunks, as they come, `lines` in lines. What the other one
    says meanwhile is kept, up to some 256 KiB. Beyond that the process is held up
    until somebody reads it, and if nobody does, `Unread` is raised.
    """

    def __init__(
        self, core: Conversation, pump: Pump, name: Literal["stdout", "stderr"]
    ) -> None:
        self._core = core
        self._pump = pump
        self._name = name

    def __iter__(self) -> Iterator[bytes]:
        reader = self._core.reader(self._name)
        return Items(self._pump, lambda: self._core.chunk(reader))

    def lines(
        self, *, encoding: str = "utf-8", errors: str = "strict", limit: int = 1 << 20
    ) -> Iterator[str]:
        """Line by line, without their line breaks; an unterminated last one, too.

        Args:
            limit: bytes; LineTooLong is raised at a longer one.
        """
        reader = self._core.reader(self._name)
        return Items(
            self._pump, lambda: self._core.line(reader, encoding, errors, limit)
        )

    def discard(self) -> None:
        """Drop what has come and was not read, and what will come."""
        with self._pump.changed:
            self._core.discard(self._name)
            self._pump.settle()


class Items(Generic[T]):
    """An iterator; unlike a generator's, it goes on after an exception."""

    def __init__(self, pump: Pump, following: Callable[[], Flow[T | None]]) -> None:
        self._pump = pump
        self._following = following

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        item = self._pump.run(self._following())
        if item is None:
            raise StopIteration
        return item


@overload
def connect(
    url: str,
    *,
    framing: Literal["stdio"] = ...,
    subprotocol: str | None = ...,
    **options: Unpack[Options],
) -> Session[bytes | str]: ...
@overload
def connect(
    url: str,
    *,
    framing: Literal["json", "lsp"],
    subprotocol: str | None = ...,
    **options: Unpack[Options],
) -> Session[object]: ...
@overload
def connect(
    url: str,
    *,
    framing: Literal["lines"],
    subprotocol: str | None = ...,
    **options: Unpack[Options],
) -> Session[str]: ...
def connect(
    url: str,
    *,
    framing: str = "stdio",
    subprotocol: str | None = None,
    **options: Unpack[Options],
) -> Session[Any]:
    """Open a session: a fresh process of the application that is served there.

    Nothing reconnects by itself: a new session is a new process, and what the old one
    knew is gone. Whether to open another one when SessionLost, NotConnected or
    Refused (with status 503, say) is raised is for the caller to decide.

    Args:
        url: ws://HOST[:PORT][/PATH], wss://... or ws+unix:SOCKET[:/PATH].
        framing: what travels: "stdio" (bytes, the exit status, signals), "json" (any
            JSON value to the process), "lines" (text, a line at a time) or "lsp"
            (JSON values as language servers exchange them).
        subprotocol: the server's own name for that framing, such as "mcp".
        headers: more fields of the request; a Host replaces the URL's.
        origin: to be sent, as the page of a browser does.
        ssl: for wss://, a context other than the system's default.
        timeout: seconds, for all of the opening; 10 unless told otherwise.
        ping_interval: seconds of silence after which the server is asked for a sign
            of life, commonly 20; None leaves it to TCP.
        ping_timeout: seconds for that sign to come, commonly 20.
        max_message: bytes, of a message of the server; commonly 4 MiB.

    Raises:
        NotConnected: there is no session; Refused, if the server said why.
        InvalidURL, ValueError: there cannot be any.
    """
    plan = Plan(urls.parse(url), **options)
    return start(plan, create(framing), subprotocol)


def start(
    plan: Plan,
    framing: Framing,
    subprotocol: str | None = None,
    *,
    greeted: bool = True,
) -> Session[Any]:
    """Open a session according to plan; see `Conversation` for `greeted`."""
    used = subprotocol or framing.subprotocol

    def make(wire: Wire) -> Conversation:
        return Conversation(wire, framing, plan, used, get_ident, greeted=greeted)

    core, pump = connected(plan, used, make)
    return Session(core, pump)
