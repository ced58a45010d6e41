"""Tests an MCP server on stdin and stdout with the client of the official SDK.

Neither of them knows of chimirror. The only configuration is `--protocol mcp`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import ClientSession
from mcp.client.websocket import websocket_client
from mcp.shared.exceptions import McpError
from mcp.types import CallToolResult, TextResourceContents
from pydantic import AnyUrl

from processes import until
from serve import SERVICES, Service

SERVER = Path(__file__).parents[2] / "examples" / "mcp_server.py"
# Version 2 of the SDK removes it.
pytestmark = pytest.mark.filterwarnings("ignore:The WebSocket client transport")


@pytest.fixture(params=["server", "activate"])
def service(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Service]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    command = [sys.executable, "-P", str(SERVER)]
    with SERVICES[request.param](tmp_path, command, "--protocol=mcp") as found:
        yield found
        until(lambda: not found.applications(), "no MCP server is left")


@asynccontextmanager
async def connected(service: Service) -> AsyncIterator[ClientSession]:
    url = f"ws://127.0.0.1:{service.port}/"
    async with websocket_client(url) as streams, ClientSession(*streams) as session:
        greeting = await session.initialize()
        assert greeting.serverInfo.name == "notebook"
        yield session


def said(result: CallToolResult) -> Any:
    assert not result.isError, result.content
    assert result.structuredContent is not None
    return result.structuredContent["result"]


def run(service: Service, story: Callable[[ClientSession], Awaitable[None]]) -> None:
    async def main() -> None:
        async with connected(service) as session:
            await story(session)

    asyncio.run(main())


def test_tools_and_resources(service: Service) -> None:
    async def story(session: ClientSession) -> None:
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
        assert set(tools) == {"remember", "remember_all", "recall", "wait_for"}
        assert tools["remember"].inputSchema["required"] == ["note"]
        note = 'Zeile 1\nline 2\r\n"quoted" 😀 \u2028'
        assert said(await session.call_tool("remember", {"note": note})) == 1
        assert said(await session.call_tool("recall", {"word": "line"})) == [note]
        assert said(await session.call_tool("recall", {"word": "else"})) == []
        (read,) = (await session.read_resource(AnyUrl("notebook://all"))).contents
        assert isinstance(read, TextResourceContents)
        assert read.text == note + "\n"
        await session.send_ping()

    run(service, story)


def test_mistakes(service: Service) -> None:
    async def story(session: ClientSession) -> None:
        assert (await session.call_tool("forget", {})).isError
        assert (await session.call_tool("remember", {})).isError
        with pytest.raises(McpError):
            await session.read_resource(AnyUrl("notebook://nothing"))
        assert said(await session.call_tool("recall", {})) == []

    run(service, story)


def test_notifications_come_before_the_result(service: Service) -> None:
    async def story(session: ClientSession) -> None:
        heard: list[tuple[float, float | None]] = []

        async def hear(
            progress: float, total: float | None, message: str | None
        ) -> None:
            heard.append((progress, total))

        several = [f"note {number}" for number in range(100)]
        result = await session.call_tool(
            "remember_all", {"several": several}, progress_callback=hear
        )
        assert said(result) == 100
        assert heard == [(number, 100) for number in range(1, 101)]

    run(service, story)


def test_calls_at_once(service: Service) -> None:
    """Requests wait for a later request."""

    async def story(session: ClientSession) -> None:
        words = [f"<{number}>" for number in range(20)]
        calls = [
            asyncio.create_task(session.call_tool("wait_for", {"word": word}))
            for word in words
        ]
        assert said(await session.call_tool("recall", {})) == []
        assert not any(call.done() for call in calls)
        await session.call_tool("remember_all", {"several": words[::-1]})
        assert [said(await call) for call in calls] == words

    run(service, story)


def test_large_messages(service: Service) -> None:
    """The client takes results of up to 1 MiB, the default of its library."""

    async def story(session: ClientSession) -> None:
        note = "x" * ((1 << 20) - 200)
        await session.call_tool("remember", {"note": note})
        (read,) = (await session.read_resource(AnyUrl("notebook://all"))).contents
        assert isinstance(read, TextResourceContents)
        assert read.text == note + "\n"
        await session.call_tool("remember", {"note": "x" * 200})
        await session.read_resource(AnyUrl("notebook://all"))

    with pytest.raises(BaseExceptionGroup):
        run(service, story)
    service.await_ends(1)
    assert "client close 1009" in service.log.read_text()


def test_every_client_has_a_notebook_of_its_own(service: Service) -> None:
    async def main() -> None:
        async with connected(service) as one, connected(service) as two:
            assert said(await one.call_tool("remember", {"note": "mine"})) == 1
            assert said(await two.call_tool("recall", {})) == []
            assert said(await one.call_tool("recall", {})) == ["mine"]
            assert len(service.applications()) == 2

    asyncio.run(main())


def test_client_disconnects_while_it_waits(service: Service) -> None:
    async def story(session: ClientSession) -> None:
        call = asyncio.create_task(session.call_tool("wait_for", {"word": "never"}))
        assert said(await session.call_tool("recall", {})) == []
        call.cancel()

    run(service, story)
    until(lambda: not service.applications(), "the MCP server has gone")
    service.await_ends(1)
    assert "client close 1000" in service.log.read_text()
