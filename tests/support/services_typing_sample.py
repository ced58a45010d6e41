"""Uses of the services library for type checkers: read by mypy (test_lint.py).

mypy reports an ignore comment that is not needed. So each ignore below proves an error.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Never, assert_type

from chimirror import services
from chimirror.services import aio


def test_server() -> None:
    server = services.Server(["x"], kill_grace=1, environment={"A": "b"})
    sums = server.pipe("sums", receive=list[int], send=int, max_message=10)
    assert_type(sums, services.ServerPipe[list[int], int])

    @sums.handler
    def add(values: list[int]) -> int:
        return sum(values)

    assert_type(add([1]), int)
    sums.handler(sum)
    sums.handler(len)
    sums.handler(str)  # type: ignore[arg-type]
    sums.on_invalid(lambda error: print(error.evidence))
    for values in sums:
        assert_type(values, list[int])
        sums.send(len(values), timeout=1)
        sums.send("x")  # type: ignore[arg-type]
    assert_type(sums.receive(timeout=0), list[int])
    log = server.pipe("log", receive=str)
    log.handler(lambda line: None)
    log.handler(len)  # type: ignore[arg-type]
    events = server.pipe("events", send=bytes)
    assert_type(events, services.ServerPipe[Never, bytes])
    events.send(b"x")
    assert_type(server.pipe("x", receive=int | None), services.ServerPipe[Any, Any])
    server.pipe("x", receive=int, other=1)  # type: ignore[call-overload]
    assert_type(server.run(), services.Exit)
    assert_type(server.wait(timeout=1).code, int | None)


def test_connect() -> None:
    with services.connect("sums", send=list[int], receive=int) as pipe:
        assert_type(pipe, services.Pipe[int, list[int]])
        pipe.send([1])
        pipe.send([""])  # type: ignore[list-item]
        assert_type(pipe.receive(), int)
    services.connect("x", receive=memoryview).receive().release()


async def test_asyncio() -> None:
    server = aio.Server(["x"])
    sums = server.pipe("sums", receive=list[int], send=int)

    @sums.handler
    async def add(values: list[int]) -> int:
        return sum(values)

    sums.handler(sum)
    assert_type(aiter(sums), AsyncIterator[list[int]])
    assert_type(await sums.receive(), list[int])
    await sums.send("x")  # type: ignore[arg-type]
    assert_type(await server.run(), services.Exit)
    async with aio.connect("x", send=int) as pipe:
        await pipe.send(1)
    assert await add([1]) == 1
