"""Runs flows for the asyncio API, in the tasks of the caller.

Each wait has an epoll(7) of its own, which the event loop watches: several tasks may
wait for the same descriptor. Must not be used from other threads.
"""

from __future__ import annotations

import asyncio
import inspect
import select
import signal
import time

from chimirror.services.flow import Call
from chimirror.services.termination import end_by_signal, is_unhandled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeVar

    from chimirror.services.flow import Flow, Step, Wait

    T = TypeVar("T")


FAIR_STEPS = 64  # steps in a row that do not suspend their task


class AsyncioDriver:
    """The waits of all tasks of one server or one connection."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()
        self._steps = 0  # since a task was suspended

    async def run(self, flow: Flow[T], timeout: float | None = None) -> T:
        """Run a flow to its end.

        Raises:
            TimeoutError: The flow has not finished within `timeout` seconds.
        """
        await self._be_fair()
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

    async def _advance(self, flow: Flow[T]) -> T:
        result: object = None
        while True:
            try:
                step = flow.send(result)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            result = await self._perform(step)

    async def _perform(self, step: Step) -> object:
        if isinstance(step, Call):
            result = step.function(step.argument)
            return await result if inspect.isawaitable(result) else result
        return await self._wait(step)

    async def _be_fair(self) -> None:
        """Let other tasks run now and then. Messages in a buffer need no wait."""
        self._steps += 1
        if self._steps > FAIR_STEPS:
            self._steps = 0
            await asyncio.sleep(0)

    async def _wait(self, step: Wait) -> Mapping[int, int]:
        with select.epoll(select.EPOLL_CLOEXEC) as epoll:
            for fd, events in step.events.items():
                epoll.register(fd, events)
            self._steps += 1
            ready = dict(epoll.poll(0))
            if ready and self._steps <= FAIR_STEPS:
                return ready
            self._steps = 0
            await self._sleep(epoll, step.deadline)
            return dict(epoll.poll(0))

    async def _sleep(self, epoll: select.epoll, deadline: float | None) -> None:
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        timer = None
        loop.add_reader(epoll.fileno(), _finish, waiter)
        if deadline is not None:
            left = max(deadline - time.monotonic(), 0)
            timer = loop.call_later(left, _finish, waiter)
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.remove(waiter)
            loop.remove_reader(epoll.fileno())
            if timer is not None:
                timer.cancel()

    def wake(self) -> None:
        """Let all waiting flows look again."""
        for waiter in self._waiters:
            _finish(waiter)


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class AsyncioTermination:
    """Context in which SIGTERM cancels the current task. It then ends the process.

    Only where nothing else handles the signal, and in the main thread.
    """

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._is_installed = False
        self._has_arrived = False

    def __enter__(self) -> None:
        if is_unhandled():
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTERM, self._on_signal)
            self._is_installed = True

    def __exit__(self, *error: object) -> None:
        if self._is_installed:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
        if self._has_arrived:
            end_by_signal()

    def _on_signal(self) -> None:
        if self._task is not None and not self._has_arrived:
            self._has_arrived = True
            self._task.cancel()
