"""What only the asyncio face has: cancellation anywhere, handlers that are awaited.

Law: a scenario is cancelled at its first suspension, its second, and so on until it
runs through; each time, every descriptor is closed and no callback is left with the
loop. (What both faces have is in test_library.py.)
"""

from __future__ import annotations

import asyncio
import ssl
import time
import uuid
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import launch
from chimirror import client
from conftest import descriptors
from remote import LONG, Remote, fake, output
from test_connect_failures import certificate
from test_connect_live import where
from test_library import echo, greet, says

__all__ = ["certificate"]


class Cut:
    """Awaits a coroutine, and cancels the task at its `at`-th suspension."""

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


async def survives(scenario: Callable[[], Coroutine[Any, Any, object]]) -> int:
    """Cut the scenario everywhere; how many places there were."""
    await scenario()
    held, at = descriptors(), 0
    while True:
        at += 1
        cut = Cut(scenario(), at)
        task = asyncio.ensure_future(cut)
        with suppress(asyncio.CancelledError):
            await task
        limit = time.monotonic() + LONG
        # A server in this process may still have been closing when we looked first.
        while not descriptors().items() <= held.items() and time.monotonic() < limit:
            await asyncio.sleep(0.005)  # a search for an address cannot be cut short
        assert descriptors().items() <= held.items(), at
        loop: Any = asyncio.get_running_loop()
        assert len(loop._selector.get_map()) == 1, at  # the loop's own
        assert len(asyncio.all_tasks()) == 1, at
        if not task.cancelled():
            return at
        assert at < 500


def test_cancelled_anywhere(tmp_path: Path) -> None:
    """A whole session with a real server."""

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
            await session.receive(timeout=10)
            (await session.wait(timeout=10)).check()

    command = ["sh", "-c", "echo oops >&2; exec cat"]
    with launch.server(tmp_path, command) as service:
        url = where(service)
        assert asyncio.run(survives(lambda: scenario(url))) > 10
        # And with a connection that has to be found by name.
        host = url.replace("127.0.0.1", "localhost")

        async def brief() -> None:
            session = await client.connect(host)
            try:
                await session.communicate(b"x")
            finally:
                session.abort()

        asyncio.run(survives(brief))


@contextmanager
def encrypted(service: launch.Service, certificate: Path) -> Iterator[str]:
    """TLS before a server, in a process of its own; its URL."""
    listen = f"OPENSSL-LISTEN:0,bind=127.0.0.1,fork,cert={certificate},verify=0"
    argv = ["socat", "-d", "-d", listen, f"TCP:127.0.0.1:{service.port}"]
    directory = service.log.parent
    with launch.running(directory, argv, uuid.uuid4().hex) as proxy:
        port = proxy.find(r"listening on AF=2 127\.0\.0\.1:(\d+)")
        yield f"wss://127.0.0.1:{port}/"


def test_cancelled_anywhere_in_tls(certificate: Path, tmp_path: Path) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate))

    async def scenario(url: str) -> None:
        async with client.connect(url, ssl=trusting) as session:
            session.stdout.discard()
            await session.send(bytes(1 << 19))
            await session.end_input()
            await session.wait()

    with (
        launch.server(tmp_path, ["cat"]) as service,
        encrypted(service, certificate) as url,
    ):
        assert asyncio.run(survives(lambda: scenario(url))) > 5


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

    with fake(says(output(bytes(1 << 20)))) as server:
        asyncio.run(scenario(server.url))


def test_handlers_are_awaited() -> None:
    told: list[object] = []

    async def slow(data: bytes) -> None:
        told.append(("begin", data))
        await asyncio.sleep(0)
        told.append(("end", data))

    async def scenario(url: str) -> client.Exit:
        async with client.connect(url) as session:
            session.on("stdout", slow)
            session.on("exit", told.append)
            # Two that read: each output is handled once, one after the other.
            first, second = await asyncio.gather(session.run(), session.wait())
            assert first == second
            return first

    with fake(says(output(b"a"), output(b"b"))) as server:
        found = asyncio.run(scenario(server.url))
    assert told == [
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
    """It would wait for itself; another task may."""

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

    with fake(says(output(b"a"), output(b"b"))) as server:
        assert asyncio.run(scenario(server.url)) is None


def test_who_sends_much_lets_others_have_their_turn() -> None:
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
        greet(ws)
        list(ws)

    with fake(handler) as server:
        asyncio.run(scenario(server.url))
    assert turns[0] > 10
