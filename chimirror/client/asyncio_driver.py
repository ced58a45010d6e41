"""Moves bytes for the asyncio API, by callbacks of the running event loop.

The event loop calls the driver when the socket is ready or a timer expires. After
each change the driver wakes all waiting flows, and each flow checks its own
condition. Must not be used from other threads.
"""

from __future__ import annotations

import asyncio
import inspect
import socket

from chimirror.client.errors import NotConnected
from chimirror.client.failover import open_first
from chimirror.client.flow import OpenConnection, ResolveHost, Sleep, WaitForSocket
from chimirror.client.transport import Transport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from chimirror.client.flow import Flow, Step
    from chimirror.client.handshake import ConnectionParams
    from chimirror.client.transport import TransportProtocol
    from chimirror.client.websocket import WebSocketProtocol

    P = TypeVar("P", bound=TransportProtocol)
    T = TypeVar("T")


class AsyncioDriver:
    """Connects one socket to the event loop. Exists until the connection has ended."""

    def __init__(self, sock: socket.socket, protocol: TransportProtocol) -> None:
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._websocket = protocol.websocket
        self._transport = Transport(sock, protocol)
        self._waiters: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._reader_added = False
        self._writer_added = False
        self._resuming = False  # `_resume_reading` is scheduled
        self._closed = False
        self._update()

    # Called by the tasks of the caller.

    async def run(self, flow: Flow[T], timeout: float | None = None) -> T:
        """Run a flow to its end.

        Raises:
            TimeoutError: The flow has not finished within `timeout` seconds.
        """
        try:
            if timeout is None:
                return await self._advance(flow)
            try:
                async with asyncio.timeout(timeout) as scope:
                    return await self._advance(flow)
            except TimeoutError:
                if not scope.expired():
                    raise  # raised by a handler
                raise TimeoutError("not finished within the timeout") from None
        finally:
            flow.close()
            self.update()

    async def _advance(self, flow: Flow[T]) -> T:
        while True:
            try:
                step = next(flow)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            progressed = self._update()
            if callable(step):
                result = step()
                if inspect.isawaitable(result):
                    await result
            elif progressed:
                # a task that sends much must not starve the other tasks
                await asyncio.sleep(0)
            else:
                waiter = self._loop.create_future()
                self._waiters.append(waiter)
                await waiter

    def abort(self) -> None:
        """Close the connection at once."""
        self._protocol.abort()
        self.update()

    def update(self) -> None:
        """Flush and poll the connection, then wake all waiting flows."""
        self._update()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # Called by the event loop.

    def _update(self) -> bool:
        if self._closed:
            return False
        progressed = self._transport.flush()
        fd = self._transport.fileno()
        self._update_watchers(fd)
        if self._websocket.lost_reason is not None:
            self._closed = True
            self._transport.close()
        self._set_timer()
        return progressed

    def _update_watchers(self, fd: int) -> None:
        read, write = self._transport.wants_read, self._transport.wants_write
        if read and not self._reader_added:
            self._loop.add_reader(fd, self._on_readable)
            self._schedule_reading()
        elif self._reader_added and not read:
            self._loop.remove_reader(fd)
        if write and not self._writer_added:
            self._loop.add_writer(fd, self.update)
        elif self._writer_added and not write:
            self._loop.remove_writer(fd)
        self._reader_added, self._writer_added = read, write

    def _set_timer(self) -> None:
        due = self._websocket.next_deadline()
        if self._timer is not None and (self._closed or due < self._timer.when()):
            self._timer.cancel()
            self._timer = None
        if self._timer is None and due < float("inf"):
            self._timer = self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.update()

    def _on_readable(self) -> None:
        if not self._resuming:
            self._receive()

    def _schedule_reading(self) -> None:
        """Read received bytes in the next turn: the loop polls only the socket."""
        if not self._resuming and self._transport.has_buffered_data():
            self._resuming = True
            self._loop.call_soon(self._resume_reading)

    def _resume_reading(self) -> None:
        self._resuming = False
        self._receive()

    def _receive(self) -> None:
        if self._closed or not self._transport.wants_read:
            return
        self._transport.receive()
        self._schedule_reading()
        self.update()


async def open_connection(
    servers: Sequence[ConnectionParams],
    subprotocols: Sequence[str],
    create_protocol: Callable[[ConnectionParams, WebSocketProtocol], P],
) -> tuple[P, AsyncioDriver]:
    """Connect to the first server that accepts, and wait until its protocol is open.

    Args:
        servers: The servers, in the order of the attempts.
        subprotocols: Subprotocols to offer, the preferred one first.
        create_protocol: Makes the protocol for a new WebSocket, of this server.

    Raises:
        NotConnected: There is no connection.
    """
    clock = asyncio.get_running_loop().time

    async def perform(step: OpenConnection) -> tuple[P, AsyncioDriver]:
        websocket = step.params.create_websocket(subprotocols, clock)
        protocol = create_protocol(step.params, websocket)
        driver = AsyncioDriver(step.sock, protocol)
        try:
            await driver.run(protocol.wait_until_open(), step.seconds)
        except BaseException as error:  # noqa: BLE001 whichever, it is raised again
            late = step.params.timeout_error(protocol.timeout_cause)
            driver.abort()
            raise (late if isinstance(error, TimeoutError) else error) from None
        return protocol, driver

    flow = open_first(servers, clock)
    try:
        step = next(flow)
        while True:
            try:
                if isinstance(step, OpenConnection):
                    answer: object = await perform(step)
                else:
                    answer = await _wait_for_step(step)
            except (OSError, UnicodeError, NotConnected) as error:
                step = flow.throw(error)
            else:
                step = flow.send(answer)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        flow.close()


async def _wait_for_step(step: Step) -> object:
    loop = asyncio.get_running_loop()
    if isinstance(step, Sleep):
        await asyncio.sleep(step.seconds)
        return None
    if callable(step):
        result = step()
        return await result if inspect.isawaitable(result) else result
    if isinstance(step, ResolveHost):
        return await loop.getaddrinfo(step.host, step.port, type=socket.SOCK_STREAM)
    assert isinstance(step, WaitForSocket)
    fd = step.sock.fileno()
    ready = loop.create_future()
    add, remove = loop.add_reader, loop.remove_reader
    if step.write:
        add, remove = loop.add_writer, loop.remove_writer
    add(fd, _set_ready, ready)
    try:
        async with asyncio.timeout(step.seconds):
            await ready
    except TimeoutError:
        return False
    finally:
        remove(fd)
    return True


def _set_ready(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
