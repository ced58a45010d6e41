"""The server of examples/mcp_server.py, with tools that disturb: an MCP server.

PYTHONPATH names the directory of the examples.
"""

from __future__ import annotations

import os
import sys

from mcp_server import main, server


@server.resource("sized://{size}")
def sized(size: int) -> str:
    """A text of this size."""
    return "x" * size


@server.tool()
async def print_line(text: str) -> str:
    """Print a line to stdout, between the messages."""
    os.write(1, text.encode() + b"\n")
    return "printed"


@server.tool()
async def log_line(size: int) -> str:
    """Print a line of this size to stderr."""
    sys.stderr.write("e" * (size - 5) + " end\n")
    sys.stderr.flush()
    return "logged"


@server.tool()
async def end_at_once(status: int) -> str:
    """Exit, as a crash does: without an answer."""
    os._exit(status)


main()
