"""The two faces of the client library as one, so that each test runs through both.

Law: a test is written for the blocking face, with threads where it needs them; the
asyncio face is the real one, in the event loop of a thread of its own, and every call
is made there and waited for here. Ignorance: of what the methods do.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

from chimirror.client import aio, blocking
from remote import LONG

Connect = Callable[..., AbstractContextManager[blocking.Session[Any]]]


class Portal:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def call(self, function: Callable[..., object], *args: Any, **named: Any) -> Any:
        """Call it there, await what it returns if that can be, and wait for it here."""

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


class Blocking:
    """An object of the asyncio face that looks like its counterpart."""

    def __init__(self, portal: Portal, target: object) -> None:
        self._portal = portal
        self._target = target

    def __getattr__(self, name: str) -> Any:
        value = self._portal.call(getattr, self._target, name)
        if not callable(value):
            return self._wrapped(value)

        def method(*args: Any, **named: Any) -> Any:
            return self._wrapped(self._portal.call(value, *args, **named))

        return method

    def _wrapped(self, value: object) -> object:
        known = isinstance(value, (AsyncIterable, aio.Control))
        return Blocking(self._portal, value) if known else value

    def __iter__(self) -> Blocking:
        target = cast("AsyncIterable[object]", self._target)
        return Blocking(self._portal, self._portal.call(target.__aiter__))

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
            yield cast("blocking.Session[Any]", Blocking(portal, session))
        finally:
            portal.call(connecting.__aexit__, None, None, None)
    finally:
        portal.close()


FACES: dict[str, Connect] = {"asyncio": connect_asyncio, "blocking": blocking.connect}
