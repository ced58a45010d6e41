"""An MCP host, as a program: starts the command of a server, and calls its tools.

    mcp_host.py SERVER MODE STEP...

Made with version 2 of Python's SDK, which cannot share an environment with version 1:
PYTHONPATH names its directory. SERVER is an entry of mcp.json, MODE the SDK's name for
the way to negotiate the revision of the protocol. Each STEP is a JSON array: a tool,
its arguments, and true to await its last notification; or `read` and the URI of a
resource. Prints one line of JSON for the revision and for each step. stderr is the log
of the host and that of its server.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import Any

from mcp import Client, StdioServerParameters  # type: ignore[attr-defined] # version 2


async def perform(client: Any, step: list[Any]) -> dict[str, Any]:
    """Perform one step, and await its notifications of progress.

    The SDK calls back in a task of its own, sometimes after the result.
    """
    complete = asyncio.Event()

    async def on_progress(
        progress: float, total: float | None, message: str | None
    ) -> None:
        if progress == total:
            complete.set()

    name, value, *awaited = step
    if name == "read":
        (content,) = (await client.read_resource(value)).contents
        return {"result": content.text}
    result = await client.call_tool(name, value, progress_callback=on_progress)
    if awaited:
        await complete.wait()
    if result.is_error:
        return {"error": result.content[0].text}
    return {"result": result.structured_content["result"]}


def tell(value: object) -> None:
    print(json.dumps(value), flush=True)


async def main() -> None:
    server = StdioServerParameters(**json.loads(sys.argv[1]))
    async with Client(server, mode=sys.argv[2]) as client:
        tell({"version": client.protocol_version})
        for step in sys.argv[3:]:
            tell(await perform(client, json.loads(step)))


logging.basicConfig()
asyncio.run(main())
