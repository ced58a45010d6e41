"""The asyncio API alone: cancellation at every suspension, and awaited handlers.

A scenario is cancelled at its first suspension, then at its second, until it runs
through. Each time, every descriptor is closed and no callback is left in the loop.
Tests for both APIs are in test_client_session.py.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import serve
from chimirror import client
from client_scripts import echo, send_session, sends
from fake_server import LONG, Remote, fake, output
from process_state import descriptors
from tls_servers import certificate, encrypted, server_url

__all__ = ["certificate"]


class Cut:
    """Awaits a coroutine and cancels the task at its `at`-th suspension."""

    def __init__(self, coroutine: Coroutine[Any, Any, object], at: int) -> None:
        self.steps = coroutine.__await__()
        self.left = at

    def __await__(self) -> Generator[Any, Any, object]:
        step: Callable[[], Any] = lambda: next(self.steps)  # noqa: E731
        while True:
            try:
                awaited = step()
            except StopIteration as stop:
                return stop.value
            self.left -= 1
            if self.left == 0:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            try:
                value = yield awaited
            except BaseException as error:  # noqa: BLE001 it is passed on
                thrown = error
                step = lambda: self.steps.throw(thrown)  # noqa: B023, E731
            else:
                sent = value
                step = lambda: self.steps.send(sent)  # noqa: B023, E731


async def cancel_everywhere(scenario: Callable[[], Coroutine[Any, Any, object]]) -> int:
    """Cancel the scenario at each suspension. Returns the number of suspensions."""
    await scenario()
    held, at = descriptors(), 0
    while True:
        at += 1
        cut = Cut(scenario(), at)
        task = asyncio.ensure_future(cut)
        with suppress(asyncio.CancelledError):
            await task
        limit = time.monotonic() + LONG
        # A server in this process may still have been closing at the first sample.
        while not descriptors().items() <= held.items() and time.monotonic() < limit:
            await asyncio.sleep(0.005)  # name resolution cannot be cancelled
        assert descriptors().items() <= held.items(), at
        loop: Any = asyncio.get_running_loop()
        assert len(loop._selector.get_map()) == 1, at  # descriptors of the loop
        assert len(asyncio.all_tasks()) == 1, at
        if not task.cancelled():
            return at
        assert at < 500


def test_cancelled_anywhere(tmp_path: Path) -> None:
    """A complete session with a real server."""

    async def handle(data: bytes) -> None:
        await asyncio.sleep(0)

    async def scenario(url: str) -> None:
        async with client.connect(url) as session:
            session.on("stderr", handle)
            await session.send(b"x" * (1 << 19) + b"\n")
            await session.signal("CONT")
            assert await session.control.pause("stdin") == ["stdin"]
            await session.control.resume()
            async for _ in session.stdout.lines():
                break
            await session.send(b"y")
            await session.end_input()
            async for _ in session:
                pass
            await session.receive(timeout=200)
            (await session.wait(timeout=200)).check()

    command = ["sh", "-c", "echo oops >&2; exec cat"]
    with serve.server(tmp_path, command) as service:
        url = server_url(service)
        assert asyncio.run(cancel_everywhere(lambda: scenario(url))) > 10
        # The same with name resolution.
        host = url.replace("127.0.0.1", "localhost")

        async def brief() -> None:
            session = await client.connect(host)
            try:
                await session.communicate(b"x")
            finally:
                session.abort()

        asyncio.run(cancel_everywhere(brief))


def test_cancelled_anywhere_in_tls(certificate: Path, tmp_path: Path) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate))

    async def scenario(url: str) -> None:
        async with client.connect(url, ssl=trusting) as session:
            session.stdout.discard()
            await session.send(bytes(1 << 19))
            await session.end_input()
            await session.wait()

    with (
        serve.server(tmp_path, ["cat"]) as service,
        encrypted(service, certificate) as url,
    ):
        assert asyncio.run(cancel_everywhere(lambda: scenario(url))) > 5


def test_a_cancelled_call_can_be_made_again() -> None:
    async def scenario(url: str) -> bytes:
        async with client.connect(url) as session:
            reading = asyncio.ensure_future(session.receive())
            await asyncio.sleep(0)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            await session.send(b"x")
            await session.end_input()
            return b"".join([chunk async for chunk in session.stdout])

    with fake(echo) as server:
        assert asyncio.run(scenario(server.url)) == b"x"


def test_a_session_can_be_awaited() -> None:
    async def scenario(url: str) -> None:
        async with await client.connect(url) as session:
            assert session.id == "x"
            session.abort()

    with fake(sends(output(bytes(1 << 20)))) as server:
        asyncio.run(scenario(server.url))


def test_handlers_are_awaited() -> None:
    received: list[object] = []

    async def slow(data: bytes) -> None:
        received.append(("begin", data))
        await asyncio.sleep(0)
        received.append(("end", data))

    async def scenario(url: str) -> client.Exit:
        async with client.connect(url) as session:
            session.on("stdout", slow)
            session.on("exit", received.append)
            # Two readers: each output is handled once, and handlers do not overlap.
            first, second = await asyncio.gather(session.run(), session.wait())
            assert first == second
            return first

    with fake(sends(output(b"a"), output(b"b"))) as server:
        found = asyncio.run(scenario(server.url))
    assert received == [
        ("begin", b"a"),
        ("end", b"a"),
        ("begin", b"b"),
        ("end", b"b"),
        found,
    ]


def test_a_handler_may_send() -> None:
    async def scenario(url: str) -> int | None:
        async with client.connect(url) as session:

            async def answer(data: bytes) -> None:
                if len(data) < 4:
                    await session.send(data * 2)
                else:
                    await session.end_input()

            session.on("stdout", answer)
            await session.send(b"x")
            return (await session.run()).code

    with fake(echo) as server:
        assert asyncio.run(scenario(server.url)) == 3


def test_a_handler_cannot_read() -> None:
    """A handler that reads would wait for itself. Another task may read."""

    async def scenario(url: str) -> client.Output | None:
        async with client.connect(url) as session:
            session.on("stdout", lambda data: session.receive())
            with pytest.raises(RuntimeError, match="a handler cannot read"):
                await session.run()
            others: list[asyncio.Task[client.Output | None]] = []

            async def delegate(_: object) -> None:
                others.append(asyncio.create_task(session.receive()))
                await asyncio.sleep(0)

            session.on("stdout", delegate)
            (await session.run()).check()
            return await others[0]

    with fake(sends(output(b"a"), output(b"b"))) as server:
        assert asyncio.run(scenario(server.url)) is None


def test_a_busy_sender_yields_to_other_tasks() -> None:
    turns = [0]

    async def other() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    async def scenario(url: str) -> None:
        async with client.connect(url) as session:
            task = asyncio.ensure_future(other())
            await session.send(bytes(1 << 22))
            task.cancel()

    def handler(ws: Remote) -> None:
        send_session(ws)
        list(ws)

    with fake(handler) as server:
        asyncio.run(scenario(server.url))
    assert turns[0] > 10
