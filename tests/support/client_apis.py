"""Runs a test with both APIs of the client library.

A test is written for the blocking API and uses threads where it needs them. For the
asyncio API, an adapter runs each call in the event loop of another thread and waits for
the result. The adapter knows nothing of the methods.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

from chimirror.client import aio, blocking
from fake_server import LONG

Connect = Callable[..., AbstractContextManager[blocking.Session[Any]]]


class Portal:
    """Event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def call(self, function: Callable[..., object], *args: Any, **named: Any) -> Any:
        """Call a function in the event loop and return its (awaited) result."""

        async def called() -> object:
            result = function(*args, **named)
            return await result if inspect.isawaitable(result) else result

        future = asyncio.run_coroutine_threadsafe(called(), self._loop)
        return future.result(2 * LONG)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


class BlockingAdapter:
    """Adapter that gives an object of the asyncio API the blocking form."""

    def __init__(self, portal: Portal, target: object) -> None:
        self._portal = portal
        self._target = target

    def __getattr__(self, name: str) -> Any:
        value = self._portal.call(getattr, self._target, name)
        if not callable(value):
            return self._adapt(value)

        def method(*args: Any, **named: Any) -> Any:
            return self._adapt(self._portal.call(value, *args, **named))

        return method

    def _adapt(self, value: object) -> object:
        known = isinstance(value, (AsyncIterable, aio.Control))
        return BlockingAdapter(self._portal, value) if known else value

    def __iter__(self) -> BlockingAdapter:
        target = cast("AsyncIterable[object]", self._target)
        return BlockingAdapter(self._portal, self._portal.call(target.__aiter__))

    def __next__(self) -> object:
        target = cast("AsyncIterator[object]", self._target)
        try:
            return self._portal.call(target.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None


@contextmanager
def connect_asyncio(*args: Any, **named: Any) -> Iterator[blocking.Session[Any]]:
    portal = Portal()
    try:
        connecting = aio.connect(*args, **named)
        session = portal.call(connecting.__aenter__)
        try:
            yield cast("blocking.Session[Any]", BlockingAdapter(portal, session))
        finally:
            portal.call(connecting.__aexit__, None, None, None)
    finally:
        portal.close()


APIS: dict[str, Connect] = {"asyncio": connect_asyncio, "blocking": blocking.connect}
