"""What moves the bytes under the asyncio face: callbacks of the running event loop.

They are called when the socket is ready, or the time has come; whoever waits for a
change is woken, and looks for himself. Not to be used from other threads.
"""

from __future__ import annotations

import asyncio
import inspect
import socket

from .dial import Deadline, dial
from .line import Line
from .steps import Lookup, Ready

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from .line import Party
    from .opening import Plan
    from .steps import Flow, Step
    from .wire import Wire

    P = TypeVar("P", bound=Party)
    T = TypeVar("T")


class Link:
    """Lives until the connection has ended."""

    def __init__(self, sock: socket.socket, party: Party) -> None:
        self._loop = asyncio.get_running_loop()
        self._party = party
        self._wire = party.wire
        self._line = Line(sock, party)
        self._waiters: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._reads = False
        self._writes = False
        self._closed = False
        self._settle()

    # For the caller's tasks.

    async def run(self, flow: Flow[T], timeout: float | None = None) -> T:
        """Run a flow to its end.

        Raises:
            TimeoutError: it is not at its end in so many seconds.
        """
        try:
            if timeout is None:
                return await self._advance(flow)
            try:
                async with asyncio.timeout(timeout) as scope:
                    return await self._advance(flow)
            except TimeoutError:
                if not scope.expired():
                    raise  # a handler's own
                raise TimeoutError("not within the time that was given") from None
        finally:
            flow.close()
            self.settle()

    async def _advance(self, flow: Flow[T]) -> T:
        while True:
            try:
                step = next(flow)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            moved = self._settle()
            if callable(step):
                result = step()
                if inspect.isawaitable(result):
                    await result
            elif moved:
                await asyncio.sleep(0)  # whoever sends much lets others have their turn
            else:
                waiter = self._loop.create_future()
                self._waiters.append(waiter)
                await waiter

    def abort(self) -> None:
        """Close the connection at once."""
        self._party.abort()
        self.settle()

    def settle(self) -> None:
        """Act upon what has changed, and wake all who wait for a change."""
        self._settle()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # For the loop.

    def _settle(self) -> bool:
        if self._closed:
            return False
        moved = self._line.settle()
        fd = self._line.fileno()
        self._watch(fd)
        if self._wire.lost is not None:
            self._closed = True
            self._line.close()
        self._set_timer()
        return moved

    def _watch(self, fd: int) -> None:
        reads, writes = self._line.reading, self._line.writing
        if reads and not self._reads:
            self._loop.add_reader(fd, self._readable)
            if self._line.buffered():  # the loop will not tell of it
                self._loop.call_soon(self._readable)
        elif self._reads and not reads:
            self._loop.remove_reader(fd)
        if writes and not self._writes:
            self._loop.add_writer(fd, self.settle)
        elif self._writes and not writes:
            self._loop.remove_writer(fd)
        self._reads, self._writes = reads, writes

    def _set_timer(self) -> None:
        due = self._wire.due()
        if self._timer is not None and (self._closed or due < self._timer.when()):
            self._timer.cancel()
            self._timer = None
        if self._timer is None and due < float("inf"):
            self._timer = self._loop.call_at(due, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self.settle()

    def _readable(self) -> None:
        while self._line.reading:
            self._line.receive()
            if not self._line.buffered():
                break
        self.settle()


async def connected(
    plan: Plan, subprotocol: str, make: Callable[[Wire], P]
) -> tuple[P, Link]:
    """Get to a server, and wait until the party made for it is open.

    Raises:
        NotConnected: it did not come about.
    """
    deadline = Deadline(plan.timeout)
    sock = await _dialled(dial(plan, deadline))
    party = make(plan.wire(subprotocol, asyncio.get_running_loop().time))
    link = Link(sock, party)
    try:
        await link.run(party.opened(), deadline.left())
    except BaseException as error:  # noqa: BLE001 whichever, it is raised again
        late = plan.late(party.awaited)
        link.abort()
        raise (late if isinstance(error, TimeoutError) else error) from None
    return party, link


async def _dialled(flow: Flow[T]) -> T:
    """Run a flow that dials."""
    try:
        step = next(flow)
        while True:
            try:
                answer = await _answer(step)
            except (OSError, UnicodeError) as error:
                step = flow.throw(error)
            else:
                step = flow.send(answer)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        flow.close()


async def _answer(step: Step) -> object:
    loop = asyncio.get_running_loop()
    if isinstance(step, Lookup):
        return await loop.getaddrinfo(step.host, step.port, type=socket.SOCK_STREAM)
    assert isinstance(step, Ready)
    fd = step.sock.fileno()
    ready = loop.create_future()
    add, remove = loop.add_reader, loop.remove_reader
    if step.write:
        add, remove = loop.add_writer, loop.remove_writer
    add(fd, _tell, ready)
    try:
        async with asyncio.timeout(step.seconds):
            await ready
    except TimeoutError:
        return False
    finally:
        remove(fd)
    return True


def _tell(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
