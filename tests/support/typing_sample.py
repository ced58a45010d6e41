"""Uses of the client library for type checkers: read by mypy (test_lint.py), never run.

mypy reports an ignore comment that is not needed. So each ignore below proves an error.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, assert_type

from chimirror import client
from chimirror.client import blocking


def test_blocking(url: str) -> None:
    with blocking.connect(url, timeout=5, headers={"A": "b"}) as session:
        assert_type(session, blocking.Session[bytes | str])
        session.send(b"x", timeout=1)
        session.send("x")
        session.send(1)  # type: ignore[arg-type]
        assert_type(session.receive(timeout=0), client.Output | None)
        for stream, data in session:
            assert_type(stream, "client.results.Stream")
            assert_type(data, bytes)
        assert_type(iter(session.stdout), Iterator[bytes])
        assert_type(session.stderr.lines(), Iterator[str])
        assert_type(session.communicate(b"").stdout, bytes)
        assert_type(session.wait().code, int | None)
        session.on("stdout", lambda data: data.decode())
        session.on("exit", lambda found: found.check())
        session.on("exit", lambda found: found.decode())  # type: ignore[call-overload]
        session.on("other", print)  # type: ignore[call-overload]
        assert_type(session.control.pause("stdin"), list[str])
        for note in session.control.notifications():
            assert_type(note, client.Notification)
    blocking.connect(url, framing="json").send({"a": [1, None]})
    blocking.connect(url, framing="lines", subprotocol="mcp").send("text")
    blocking.connect(url, framing="lines").send(b"x")  # type: ignore[arg-type]
    blocking.connect(url, framing="other")  # type: ignore[call-overload]
    blocking.connect(url, size=(132, 43))
    blocking.connect(url, token="x")
    blocking.connect(url, token=lambda: "x")
    blocking.connect(url, token=b"x")  # type: ignore[call-overload]
    assert_type(blocking.connect([url, url]).url, str)
    blocking.connect(url, size=132)  # type: ignore[call-overload]
    blocking.connect(url, time=1)  # type: ignore[call-overload]


async def test_asyncio(url: str) -> None:
    async with client.connect(url) as session:
        assert_type(session, client.Session[bytes | str])
        await session.send(b"x")
        await session.send(1)  # type: ignore[arg-type]
        assert_type(await session.receive(timeout=0), client.Output | None)
        async for output in session:
            assert_type(output, client.Output)
        assert_type(aiter(session.stdout), AsyncIterator[bytes])
        assert_type(session.stderr.lines(), AsyncIterator[str])
        assert_type(await session.run(), client.Exit)
        assert_type(await session.control.status(), dict[str, Any])
        async for status in session.control.subscribe(0.5):
            assert_type(status, dict[str, Any])
    other = await client.connect(url, framing="json")
    assert_type(other, client.Session[object])
    client.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_errors(error: client.Error) -> None:
    if isinstance(error, client.Refused):
        assert_type(error.status, int)
    if isinstance(error, client.ExitFailure):
        assert_type(error.exit, client.Exit)
