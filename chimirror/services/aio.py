"""Asyncio API of the services library, for the tasks of one event loop.

Several tasks may use one server and one pipe. A cancelled call leaves the pipe
unchanged. This module only gives the API its form: the logic is in `server_core`,
`client_core` and `pipe_core`.
"""

from __future__ import annotations

from typing import Any, Generic, Self, TypeVar, overload

from chimirror.services.asyncio_driver import AsyncioDriver, AsyncioTermination
from chimirror.services.client_core import Connection
from chimirror.services.errors import PeerClosed
from chimirror.services.options import UNSET
from chimirror.services.server_core import ServerCore, TargetParams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from typing import Never, Unpack

    from chimirror.services.errors import InvalidMessage
    from chimirror.services.options import PipeOptions
    from chimirror.services.pipe_core import PipeCore
    from chimirror.services.results import Exit
    from chimirror.services.service import Service
    from chimirror.services.target import File, Path

__all__ = ["Pipe", "Server", "ServerPipe", "connect"]

R = TypeVar("R")
S = TypeVar("S")
KILL_GRACE = 5.0  # seconds, as the option --kill-grace


class Pipe(Generic[R, S]):
    """A service: values to receive and values to send.

    Iteration yields the received values and ends when the other side has closed the
    direction. A `timeout` is in seconds and raises TimeoutError.
    """

    def __init__(self, core: PipeCore, driver: AsyncioDriver) -> None:
        self._core = core
        self._driver = driver

    @property
    def name(self) -> str:
        """Name of the service."""
        return self._core.name

    async def receive(self, *, timeout: float | None = None) -> R:
        """Return the next value. Waits for it.

        Raises:
            InvalidMessage: The next message is no value. Later ones still arrive.
            PeerClosed: There are no further messages.
        """
        found: R = await self._driver.run(self._core.receive(), timeout)
        return found

    async def send(self, value: S, *, timeout: float | None = None) -> None:
        """Send a value. Waits while the pipe is full.

        After TimeoutError the value has not been sent, or its rest follows with the
        next value.

        Raises:
            PeerClosed: The other side reads no more.
        """
        await self._driver.run(self._core.send(value), timeout)

    def __aiter__(self) -> AsyncIterator[R]:
        return self

    async def __anext__(self) -> R:
        try:
            return await self.receive()
        except PeerClosed:
            raise StopAsyncIteration from None

    def close_receive(self) -> None:
        """Close the direction to this process. Unread values are dropped."""
        self._core.close_receive()
        self._driver.wake()

    def close_send(self) -> None:
        """Close the direction from this process. What was sent still arrives."""
        self._core.close_send()
        self._driver.wake()

    def close(self) -> None:
        """Close both directions."""
        self._core.close()
        self._driver.wake()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.close()


class ServerPipe(Pipe[R, S]):
    """A service of a server."""

    def __init__(self, service: Service, driver: AsyncioDriver) -> None:
        super().__init__(service, driver)
        self._service = service

    @overload
    def handler(
        self, function: Callable[[R], Awaitable[S]]
    ) -> Callable[[R], Awaitable[S]]: ...
    @overload
    def handler(self, function: Callable[[R], S]) -> Callable[[R], S]: ...
    def handler(self, function: Callable[[R], object]) -> Callable[[R], object]:
        """Let a function handle each value. What it returns is sent.

        `run` and `wait` call it, and await its result if that is awaitable. Handlers
        run one at a time. Without a type to send, it returns None. An exception of a
        handler stops the target and ends `run`.
        """
        self._service.set_handler(function)
        self._driver.wake()
        return function

    def on_invalid(
        self, function: Callable[[InvalidMessage], object]
    ) -> Callable[[InvalidMessage], object]:
        """Let a function handle each message that is no value of the service.

        Without one, a line on standard error reports it.
        """
        self._service.on_invalid = function
        return function


class Server:
    """A server for one target: the process that it starts, and that it serves.

    Used with `run`, or in a `with` statement, which stops the target at its end.

    Args:
        command: Program and arguments of the target.
        environment: Environment of the target, instead of that of this process.
        directory: Directory to start the target in.
        stdin: Standard input of the target, as subprocess takes it. Inherited if None.
        stdout: Likewise.
        stderr: Likewise.
        kill_grace: Seconds between TERM and KILL when the target is stopped.
        memory: Whether large values may travel by shared memory.
    """

    def __init__(
        self,
        command: Sequence[Path],
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        stdin: File = None,
        stdout: File = None,
        stderr: File = None,
        kill_grace: float = KILL_GRACE,
        memory: bool = True,
    ) -> None:
        files = (stdin, stdout, stderr)
        self._core = ServerCore(
            TargetParams(command, environment, directory, files, kill_grace, memory)
        )
        self._driver = AsyncioDriver()

    @property
    def pid(self) -> int | None:
        """Process id of the target, which leads its process group. None before it."""
        return None if self._core.target is None else self._core.target.pid

    @overload
    def pipe(
        self,
        name: str,
        *,
        receive: type[R],
        send: type[S],
        **options: Unpack[PipeOptions],
    ) -> ServerPipe[R, S]: ...
    @overload
    def pipe(
        self, name: str, *, receive: type[R], **options: Unpack[PipeOptions]
    ) -> ServerPipe[R, None]: ...
    @overload
    def pipe(
        self, name: str, *, send: type[S], **options: Unpack[PipeOptions]
    ) -> ServerPipe[Never, S]: ...
    @overload
    def pipe(
        self,
        name: str,
        *,
        receive: Any = ...,
        send: Any = ...,
        **options: Unpack[PipeOptions],
    ) -> ServerPipe[Any, Any]: ...
    def pipe(
        self,
        name: str,
        *,
        receive: Any = UNSET,
        send: Any = UNSET,
        **options: Unpack[PipeOptions],
    ) -> ServerPipe[Any, Any]:
        """Add a service, before the start.

        Args:
            name: 1 to 64 letters, digits, _ and -.
            receive: Type of the values from the target. Without it, there are none.
            send: Type of the values to the target. Without it, there are none.
            options: max_message, enc_hook and dec_hook, as PipeOptions describes them.
        """
        service = self._core.declare(name, receive, send, options)
        return ServerPipe(service, self._driver)

    async def run(self) -> Exit:
        """Start the target, serve it with the handlers, and return its exit.

        Nothing is left of the target then. At SIGTERM and at an exception, that of a
        handler too, the target is stopped first.

        Raises:
            OSError: The target cannot be started.
        """
        with AsyncioTermination():
            try:
                self.start()
                return await self.wait()
            except BaseException:
                await self.close()
                raise

    def start(self) -> None:
        """Start the target, for a caller that iterates its pipes.

        Raises:
            OSError: It cannot be started.
        """
        self._core.start()

    async def wait(self, *, timeout: float | None = None) -> Exit:
        """Serve the target with the handlers until it ends, and return its exit."""
        return await self._driver.run(self._core.wait(), timeout)

    def kill(self) -> None:
        """Begin to stop the target: TERM and CONT to its group, later KILL.

        Returns at once. For handlers and for other tasks.
        """
        self._core.kill()
        self._driver.wake()

    async def close(self) -> None:
        """Stop the target and close all pipes. May be called again."""
        await self._driver.run(self._core.stop())
        self._driver.wake()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()


@overload
def connect(
    name: str, *, receive: type[R], send: type[S], **options: Unpack[PipeOptions]
) -> Pipe[R, S]: ...
@overload
def connect(
    name: str, *, receive: type[R], **options: Unpack[PipeOptions]
) -> Pipe[R, None]: ...
@overload
def connect(
    name: str, *, send: type[S], **options: Unpack[PipeOptions]
) -> Pipe[Never, S]: ...
@overload
def connect(
    name: str, *, receive: Any = ..., send: Any = ..., **options: Unpack[PipeOptions]
) -> Pipe[Any, Any]: ...
def connect(
    name: str,
    *,
    receive: Any = UNSET,
    send: Any = UNSET,
    **options: Unpack[PipeOptions],
) -> Pipe[Any, Any]:
    """Connect to a service of the server that started this program. Never waits.

    Args:
        name: Of the service.
        receive: Type of the values from the server. Without it, that direction is not
            opened.
        send: Type of the values to the server, likewise.
        options: max_message, enc_hook and dec_hook, as PipeOptions describes them.

    Raises:
        NotConnected: There is no such service, or its server has ended.
    """
    return Pipe(Connection(name, receive, send, options), AsyncioDriver())
