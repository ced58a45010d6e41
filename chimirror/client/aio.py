"""The asyncio face: sessions for tasks of an event loop.

Several tasks may wait in one session; whichever is cancelled leaves it as it was.
What is done is in `conversation`, what moves the bytes meanwhile in `link`: this file
gives both a form that reads well, and nothing else.
"""

from __future__ import annotations

from asyncio import current_task
from typing import Any, Generic, Literal, Self, TypeVar, overload

from . import url as urls
from .control_aio import Control
from .conversation import Conversation
from .framing import Framing, create
from .link import Link, connected
from .opening import Plan
from .reading import OUTPUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator
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

    To be used in an `async with` statement, which closes it: a process that still runs
    then is stopped by the server. Iteration (`async for`) gives all output in the order
    in which it came; it ends when the process has, and raises SessionLost if nobody
    knows how.

    A `timeout` is in seconds and raises TimeoutError. Nothing is lost by that: the
    call can be made again (but for `send`, of which a part may have gone).

    Attributes:
        stdout: its standard output alone.
        stderr: its standard error alone.
        control: what can be done to it meanwhile; see `control_aio.Control`.
    """

    def __init__(self, core: Conversation, link: Link) -> None:
        self._core = core
        self._link = link
        self.stdout = Stream(core, link, "stdout")
        self.stderr = Stream(core, link, "stderr")
        self.control = Control(core)

    @property
    def id(self) -> str:
        """The server's name for the session; "" in framings that do not tell it."""
        return self._core.id

    @property
    def exit(self) -> Exit | None:
        """How the process ended; None as long as that is not known."""
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

    async def send(self, data: T_contra, *, timeout: float | None = None) -> None:
        """Send to its standard input; waits while the connection is full.

        Args:
            data: bytes, or a str for its UTF-8; with framing json or lsp any JSON
                value; with lines a str, one line without its line break.

        Raises:
            SessionOver: it has ended.
        """
        await self._link.run(self._core.send(data), timeout)

    async def end_input(self, *, timeout: float | None = None) -> None:
        """Close its standard input. Framing stdio only."""
        await self._link.run(self._core.end_input(), timeout)

    async def signal(self, signal: str | int) -> None:
        """Send it a signal: "INT" or signal.SIGINT. Framing stdio only.

        It overtakes input that waits to be sent. See also `responsive`.
        """
        await self._link.run(self._core.signal(signal))

    async def resize(self, columns: int, rows: int) -> None:
        """Set the size of its terminal, as `signal`. Only where `pty` is true."""
        await self._link.run(self._core.resize(columns, rows))

    # From the process.

    def __aiter__(self) -> AsyncIterator[Output]:
        reader = self._core.reader(*OUTPUT)
        return Items(self._link, lambda: self._core.take(reader))

    async def receive(self, *, timeout: float | None = None) -> Output | None:
        """The next output, of either stream; None when no more will come.

        Args:
            timeout: 0 asks whether there is some.
        """
        reader = self._core.reader(*OUTPUT)
        return await self._link.run(self._core.take(reader), timeout)

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
        the order of arrival, and awaited if it can be; it must not read itself.
        Nobody else gets what it gets.

        Args:
            kind: "stdout" or "stderr" (bytes), "error" (what the server says of a
                message that it did not deliver; without a handler NotDelivered is
                raised), "exit" (the Exit, last of all).
        """
        self._core.on(kind, handler)

    async def run(self, *, timeout: float | None = None) -> Exit:
        """Call handlers until the process has ended; other output is dropped."""
        return await self._link.run(self._core.run(), timeout)

    async def wait(self, *, timeout: float | None = None) -> Exit:
        """Wait until the process has ended; its output stays to be read.

        Raises:
            SessionLost: nobody knows how it ended.
            Unread: it cannot end, for there is too much output that nobody reads.
        """
        return await self._link.run(self._core.wait(), timeout)

    async def communicate(
        self, data: bytes | str = b"", *, timeout: float | None = None
    ) -> Completed:
        """Send `data`, end the input, and wait for the end. Framing stdio only.

        All output is held in memory.
        """
        return await self._link.run(self._core.communicate(data), timeout)

    # The end.

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection, after what was sent; unread output is dropped.

        Takes two seconds at most. A process that still runs is stopped by the server.
        """
        self.control.disconnect()
        try:
            await self._link.run(self._core.close(code, reason))
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Close the connection at once; what has not been sent is dropped."""
        self.control.disconnect()
        self._link.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()


class Stream:
    """One of the two outputs of a process.

    Iteration gives it in chunks, as they come, `lines` in lines. What the other one
    says meanwhile is kept, up to some 256 KiB. Beyond that the process is held up
    until somebody reads it, and if nobody does, `Unread` is raised.
    """

    def __init__(
        self, core: Conversation, link: Link, name: Literal["stdout", "stderr"]
    ) -> None:
        self._core = core
        self._link = link
        self._name = name

    def __aiter__(self) -> AsyncIterator[bytes]:
        reader = self._core.reader(self._name)
        return Items(self._link, lambda: self._core.chunk(reader))

    def lines(
        self, *, encoding: str = "utf-8", errors: str = "strict", limit: int = 1 << 20
    ) -> AsyncIterator[str]:
        """Line by line, without their line breaks; an unterminated last one, too.

        Args:
            limit: bytes; LineTooLong is raised at a longer one.
        """
        reader = self._core.reader(self._name)
        return Items(
            self._link, lambda: self._core.line(reader, encoding, errors, limit)
        )

    def discard(self) -> None:
        """Drop what has come and was not read, and what will come."""
        self._core.discard(self._name)
        self._link.settle()


class Items(Generic[T]):
    """An iterator; unlike a generator's, it goes on after an exception."""

    def __init__(self, link: Link, following: Callable[[], Flow[T | None]]) -> None:
        self._link = link
        self._following = following

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        item = await self._link.run(self._following())
        if item is None:
            raise StopAsyncIteration
        return item


class Connecting(Generic[T_contra]):
    """A session that is still to be opened: to be awaited, or used in `async with`."""

    def __init__(self, opening: Callable[[], Awaitable[Session[T_contra]]]) -> None:
        self._opening = opening
        self._session: Session[T_contra] | None = None

    def __await__(self) -> Generator[Any, None, Session[T_contra]]:
        return self._opening().__await__()

    async def __aenter__(self) -> Session[T_contra]:
        self._session = await self
        return self._session

    async def __aexit__(self, *error: object) -> None:
        if self._session is not None:
            await self._session.close()


@overload
def connect(
    url: str,
    *,
    framing: Literal["stdio"] = ...,
    subprotocol: str | None = ...,
    **options: Unpack[Options],
) -> Connecting[bytes | str]: ...
@overload
def connect(
    url: str,
    *,
    framing: Literal["json", "lsp"],
    subprotocol: str | None = ...,
    **options: Unpack[Options],
) -> Connecting[object]: ...
@overload
def connect(
    url: str,
    *,
    framing: Literal["lines"],
    subprotocol: str | None = ...,
    **options: Unpack[Options],
) -> Connecting[str]: ...
def connect(
    url: str,
    *,
    framing: str = "stdio",
    subprotocol: str | None = None,
    **options: Unpack[Options],
) -> Connecting[Any]:
    """Open a session: a fresh process of the application that is served there.

    To be used as `async with connect(...) as session`, or awaited for the session.

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
    kind = create(framing)
    return Connecting(lambda: _start(plan, kind, subprotocol or kind.subprotocol))


async def _start(plan: Plan, framing: Framing, subprotocol: str) -> Session[Any]:
    def make(wire: Wire) -> Conversation:
        return Conversation(wire, framing, plan, subprotocol, current_task)

    core, link = await connected(plan, subprotocol, make)
    return Session(core, link)
