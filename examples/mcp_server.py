"""A notebook for a language model: an MCP server on stdin and stdout.

An ordinary one, made with the official Python SDK (`pip install mcp`); it knows nothing
of networks. Each client has a process of its own and so a notebook of its own, which
is gone when it goes.

    chimirror-server --subprotocol mcp=lines -- python3 mcp_server.py
"""

from __future__ import annotations

import asyncio

try:
    from mcp.server.fastmcp import Context
    from mcp.server.fastmcp import FastMCP as MCPServer
except ImportError:  # from version 2 on
    from mcp.server.mcpserver import (  # type: ignore[import-not-found, no-redef]
        Context,
        MCPServer,
    )

server = MCPServer("notebook", instructions="Keeps notes while you are here.")
notes: list[str] = []
written = asyncio.Condition()


@server.tool()
async def remember(note: str) -> int:
    """Keep a note. Returns how many there are."""
    async with written:
        notes.append(note)
        written.notify_all()
    return len(notes)


@server.tool()
async def remember_all(
    several: list[str],
    context: Context,  # type: ignore[type-arg]
) -> int:
    """Keep many notes, and report the progress."""
    for number, note in enumerate(several, 1):
        await remember(note)
        await context.report_progress(number, len(several))
    return len(notes)


@server.tool()
async def recall(word: str = "") -> list[str]:
    """The notes that hold a word, the oldest first."""
    return [note for note in notes if word in note]


@server.tool()
async def wait_for(word: str) -> str:
    """The first note that holds a word, as soon as there is one."""
    async with written:
        await written.wait_for(lambda: any(word in note for note in notes))
    return next(note for note in notes if word in note)


@server.resource("notebook://all")
def everything() -> str:
    """All notes, one in a line."""
    return "".join(f"{note}\n" for note in notes)


if __name__ == "__main__":
    server.run()
