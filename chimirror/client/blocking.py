"""Blocking API of the client library: sessions for programs and threads.

Every method may be called from any thread, and several threads may wait in one
session. This module only gives the API its form: `session` holds the logic,
`thread_driver` moves the bytes.
"""

from __future__ import annotations

from threading import get_ident
from typing import Any, Generic, Literal, Self, TypeVar, overload

from chimirror.client.buffers import MAX_LINE
from chimirror.client.control_blocking import Control
from chimirror.client.framing import Offer, create
from chimirror.client.output import OUTPUT_STREAMS
from chimirror.client.servers import servers_from
from chimirror.client.session import SessionProtocol
from chimirror.client.thread_driver import ThreadDriver, open_connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Unpack

    from chimirror.client.flow import Flow
    from chimirror.client.handshake import ConnectionParams
    from chimirror.client.results import Completed, Exit, Output
    from chimirror.client.servers import ConnectOptions
    from chimirror.client.websocket import WebSocketProtocol

__all__ = ["Control", "Session", "Stream", "connect"]

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Session(Generic[T_contra]):
    """A remote process and the connection to it.

    Used in a `with` statement, which closes the session. The server then stops a
    process that still runs. Iteration yields all output in order of arrival. The
    iteration ends with the process and raises SessionLost if its exit status is
    unknown.

    A `timeout` is in seconds and raises TimeoutError. No data are lost: the call can be
    repeated, except `send`, of which a part may have been sent.

    Attributes:
        stdout: Standard output alone.
        stderr: Standard error alone.
        control: Calls about the session while data flow, a `control_blocking.Control`.
    """

    def __init__(self, protocol: SessionProtocol, driver: ThreadDriver) -> None:
        self._protocol = protocol
        self._driver = driver
        self.stdout = Stream(protocol, driver, "stdout")
        self.stderr = Stream(protocol, driver, "stderr")
        self.control = Control(protocol, driver)

    @property
    def id(self) -> str:
        """Id of the session on the server, "" in framings that do not carry it."""
        return self._protocol.id

    @property
    def url(self) -> str:
        """The URL that was reached, as given to `connect`."""
        return self._protocol.connection_params.target.url

    @property
    def exit(self) -> Exit | None:
        """Exit of the process, None while it is unknown."""
        with self._driver.changed:
            return self._protocol.known_exit

    @property
    def pty(self) -> bool:
        """Whether the process has a terminal. Framing stdio only."""
        return self._protocol.pty

    @property
    def direction(self) -> str:
        """Direction of the data: "send", "receive" or "both". Framing stdio only."""
        return self._protocol.direction

    @property
    def read_only(self) -> bool:
        """Whether the server ignores input and signals. Framing stdio only."""
        return self._protocol.read_only

    @property
    def framing(self) -> str:
        """Name of the framing."""
        return self._protocol.framing.name

    @property
    def subprotocol(self) -> str:
        """Name that the server has chosen, "" for none."""
        return self._protocol.websocket.protocol.subprotocol or ""

    @property
    def unsent(self) -> int:
        """Number of bytes that wait to be sent."""
        return self._protocol.websocket.pending_bytes

    @property
    def responsive(self) -> bool:
        """Whether the server has answered since the last `signal`."""
        return not self._protocol.websocket.unanswered_pings

    # Input of the process.

    def send(self, data: T_contra, *, timeout: float | None = None) -> None:
        """Send to standard input. Waits while the connection is full.

        Args:
            data: Framing stdio: bytes, or a str that is sent as UTF-8. Framings json
                and
                lsp: any JSON value. Framing lines: a str, one line without its line
                    break.

        Raises:
            SessionOver: The session has ended.
        """
        self._driver.run(self._protocol.send(data), timeout)

    def end_input(self, *, timeout: float | None = None) -> None:
        """Close standard input. Framing stdio only."""
        self._driver.run(self._protocol.end_input(), timeout)

    def signal(self, signal: str | int) -> None:
        """Send a signal to the process: "INT" or signal.SIGINT. Framing stdio only.

        The signal overtakes input that waits to be sent. The property `responsive` is
        False until the server has answered.
        """
        self._driver.run(self._protocol.signal(signal))

    def resize(self, columns: int, rows: int) -> None:
        """Set the size of the terminal, ahead of waiting input. Needs a terminal."""
        self._driver.run(self._protocol.resize(columns, rows))

    # Output of the process.

    def __iter__(self) -> Iterator[Output]:
        claim = self._protocol.claim(*OUTPUT_STREAMS)
        return OutputIterator(self._driver, lambda: self._protocol.next_output(claim))

    def receive(self, *, timeout: float | None = None) -> Output | None:
        """Return the next output of either stream, None at the end of all output.

        Args:
            timeout: Seconds. With 0 only output that has already arrived is returned.
        """
        claim = self._protocol.claim(*OUTPUT_STREAMS)
        return self._driver.run(self._protocol.next_output(claim), timeout)

    @overload
    def on(
        self, kind: Literal["stdout", "stderr"], handler: Callable[[bytes], object]
    ) -> None: ...
    @overload
    def on(self, kind: Literal["error"], handler: Callable[[str], object]) -> None: ...
    @overload
    def on(self, kind: Literal["exit"], handler: Callable[[Exit], object]) -> None: ...
    def on(self, kind: str, handler: Callable[..., object]) -> None:
        """Register a handler for output, errors or the exit.

        The calls that read (`run`, `wait`, `receive`, iteration) call it in order of
        arrival and in their own thread. A handler must not read.
        Output that a handler gets is returned by no call.

        Args:
            kind: "stdout" or "stderr": bytes. "error": the server's text about a
                message that it did not deliver. Without a handler, such an error raises
                NotDelivered. "exit": the Exit, as the last call.
            handler: The function to call.
        """
        self._protocol.on(kind, handler)

    def run(self, *, timeout: float | None = None) -> Exit:
        """Call handlers until the process has ended and drop all other output."""
        return self._driver.run(self._protocol.run(), timeout)

    def wait(self, *, timeout: float | None = None) -> Exit:
        """Wait until the process has ended. Its output can still be read.

        Raises:
            SessionLost: The exit status is unknown.
            Unread: The process cannot end, because too much output is unread.
        """
        return self._driver.run(self._protocol.wait(), timeout)

    def communicate(
        self, data: bytes | str = b"", *, timeout: float | None = None
    ) -> Completed:
        """Send `data`, end the input and wait for the end. Framing stdio only.

        All output is held in memory.
        """
        return self._driver.run(self._protocol.communicate(data), timeout)

    # Closing.

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection after all queued data and drop unread output.

        Takes at most two seconds. The server stops a process that still runs.
        """
        self.control.disconnect()
        try:
            self._driver.run(self._protocol.close(code, reason))
        except BaseException:
            self.abort()
            raise
        self._driver.join()

    def abort(self) -> None:
        """Close the connection at once and drop unsent data."""
        self.control.disconnect()
        self._driver.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Stream:
    """One output stream of a process: stdout or stderr.

    Iteration yields chunks in order of arrival, `lines` yields lines. Meanwhile
    up to about 256 KiB of the other stream are kept. Beyond that, back-pressure
    stops the process until the other stream is read. If there is no reader for the
    other stream, `Unread` is raised.
    """

    def __init__(
        self,
        protocol: SessionProtocol,
        driver: ThreadDriver,
        name: Literal["stdout", "stderr"],
    ) -> None:
        self._protocol = protocol
        self._driver = driver
        self._name = name

    def __iter__(self) -> Iterator[bytes]:
        claim = self._protocol.claim(self._name)
        return OutputIterator(self._driver, lambda: self._protocol.next_chunk(claim))

    def lines(
        self, *, encoding: str = "utf-8", errors: str = "strict", limit: int = MAX_LINE
    ) -> Iterator[str]:
        """Iterate over lines without their line breaks.

        An unterminated last line is included.

        Args:
            encoding: Encoding of the output.
            errors: Error handler of `bytes.decode`.
            limit: Length of the longest line in bytes. A longer line raises
                LineTooLong.
        """
        claim = self._protocol.claim(self._name)
        return OutputIterator(
            self._driver,
            lambda: self._protocol.next_line(claim, encoding, errors, limit),
        )

    def discard(self) -> None:
        """Drop the output that is unread and all later output of this stream."""
        with self._driver.changed:
            self._protocol.discard(self._name)
            self._driver.update()


class OutputIterator(Generic[T]):
    """Iterator over output. Unlike a generator, it continues after an exception."""

    def __init__(
        self, driver: ThreadDriver, next_item: Callable[[], Flow[T | None]]
    ) -> None:
        self._driver = driver
        self._next_item = next_item

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        item = self._driver.run(self._next_item())
        if item is None:
            raise StopIteration
        return item


@overload
def connect(
    url: str | Sequence[str],
    *,
    framing: Literal["stdio"] = ...,
    subprotocol: str | None = ...,
    **options: Unpack[ConnectOptions],
) -> Session[bytes | str]: ...
@overload
def connect(
    url: str | Sequence[str],
    *,
    framing: Literal["json", "lsp"],
    subprotocol: str | None = ...,
    **options: Unpack[ConnectOptions],
) -> Session[object]: ...
@overload
def connect(
    url: str | Sequence[str],
    *,
    framing: Literal["lines"],
    subprotocol: str | None = ...,
    **options: Unpack[ConnectOptions],
) -> Session[str]: ...
def connect(
    url: str | Sequence[str],
    *,
    framing: str = "stdio",
    subprotocol: str | None = None,
    **options: Unpack[ConnectOptions],
) -> Session[Any]:
    """Open a session: the server starts a new process of the application.

    There is no automatic reconnection: a new session is a new process without the
    state of the old one. The caller decides whether to open another session after
    SessionLost, NotConnected or Refused (for example with status 503).

    Args:
        url: ws://HOST[:PORT][/PATH], wss://... or ws+unix:SOCKET[:/PATH]. Of several
            URLs, the next one is tried where a server cannot be reached, does not
            answer in time, or answers 408, 429 or 5xx.
        framing: "stdio" carries bytes, the exit status and signals. "json" carries
            JSON values to the process, "lines" text, a line at a time. "lsp" carries
            JSON values that are framed as for language servers.
        subprotocol: The server's own name for that framing, such as "mcp".
        headers: Additional header fields of the request. A Host replaces that of the
            URL.
        token: Token that the server asks for (Bearer), or a function that returns one.
            The function is called for each connection.
        origin: Value of an Origin header, as browsers send it.
        ca: PEM file of the authorities to trust for wss://, instead of the system's.
        cert: PEM file of a client certificate, or a pair of it and the file of its key.
            The key has no passphrase.
        ssl: TLS context for wss://, instead of `ca` and `cert`.
        timeout: Seconds for the whole handshake, up to the first message, for each URL.
            Default: 10.
        ping_interval: Seconds of silence after which the client pings the server.
            Default: 20. None leaves the detection of a dead peer to TCP.
        ping_timeout: Seconds until the pong must arrive. Default: 20.
        max_message: Size of the longest message from the server, in bytes.
            Default: 16 MiB and 4 KiB.
        size: Columns and rows of the terminal before the application starts. Without
            effect if it has no terminal. `resize` changes the size later.

    Raises:
        NotConnected: There is no session. Refused: the server gave a reason.
            Unauthorized: it does not know the client.
        InvalidURL, ValueError: The arguments cannot describe a session.
        InvalidCertificate: A file of `ca` or `cert` cannot be used.
        TypeError: `ssl` is given with `ca` or `cert`, or `token` has another type.
    """
    servers = servers_from(url, options)
    kind = create(framing)
    return start(servers, [Offer(subprotocol or kind.subprotocol, kind)])


def start(
    servers: Sequence[ConnectionParams],
    offers: Sequence[Offer],
    *,
    await_first_message: bool = True,
) -> Session[Any]:
    """Open a session with parsed parameters.

    Args:
        servers: Parameters for each URL, as of `servers_from`.
        offers: Subprotocols to offer with their framings, the preferred one first.
        await_first_message: Wait for the first message, which carries the session id.
    """

    def create_protocol(
        params: ConnectionParams, websocket: WebSocketProtocol
    ) -> SessionProtocol:
        return SessionProtocol(
            websocket,
            offers,
            params,
            get_ident,
            await_first_message=await_first_message,
        )

    protocol, driver = open_connection(
        servers, [offer.subprotocol for offer in offers], create_protocol
    )
    return Session(protocol, driver)
