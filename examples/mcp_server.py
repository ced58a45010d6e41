"""A notebook for a language model: an MCP server on stdin and stdout.

An ordinary server, made with the official Python SDK (`pip install mcp`, version 1 or
2), which knows nothing of networks. Each client has its own process and thus its own
notebook, which ends with the session.

    chimirror-server --protocol mcp -- python3 mcp_server.py

Imports once for all clients, and forks a copy for each:

    chimirror-server --protocol mcp --preload mcp_server:main
"""

from __future__ import annotations

import asyncio

try:
    from mcp.server.fastmcp import Context
    from mcp.server.fastmcp import FastMCP as MCPServer
except ImportError:  # the module of version 2
    from mcp.server.mcpserver import (  # type: ignore[import-not-found, no-redef]
        Context,
        MCPServer,
    )

server = MCPServer("notebook", instructions="Keeps notes while you are here.")
notes: list[str] = []
written = asyncio.Condition()


@server.tool()
async def remember(note: str) -> int:
    """Keep a note. Returns the number of notes."""
    async with written:
        notes.append(note)
        written.notify_all()
    return len(notes)


@server.tool()
async def remember_all(
    several: list[str],
    context: Context,  # type: ignore[type-arg]
) -> int:
    """Keep several notes and report the progress."""
    for number, note in enumerate(several, 1):
        await remember(note)
        await context.report_progress(number, len(several))
    return len(notes)


@server.tool()
async def recall(word: str = "") -> list[str]:
    """Return the notes that contain a word, the oldest first."""
    return [note for note in notes if word in note]


@server.tool()
async def wait_for(word: str) -> str:
    """Wait for a note that contains a word, and return it."""
    async with written:
        await written.wait_for(lambda: any(word in note for note in notes))
    return next(note for note in notes if word in note)


@server.resource("notebook://all")
def everything() -> str:
    """All notes, one per line."""
    return "".join(f"{note}\n" for note in notes)


def main() -> None:
    server.run()


if __name__ == "__main__":
    main()
