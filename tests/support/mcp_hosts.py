"""Starts hosts of MCP, which start the commands of servers as users' hosts do.

A host is a program in Python or for Node, made with an SDK of MCP. It knows nothing of
chimirror, and finds `chimirror-connect` in PATH.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import npm

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
SERVER = EXAMPLES / "mcp_server.py"
NOISY = HERE / "mcp_noisy_server.py"
SDK_2 = Path(sys.prefix) / "mcp-2"
# SDK of the server, as the variables of its environment
SDKS = {
    1: f"PYTHONPATH={EXAMPLES}",
    2: f"PYTHONPATH={SDK_2}:{EXAMPLES}",
}
Host = Callable[[Path], list[str]]


class Told(NamedTuple):
    """What a host has printed: the values of its steps, its log and exit status."""

    version: str | None
    steps: list[dict[str, Any]]
    log: str
    status: int

    @property
    def results(self) -> list[Any]:
        return [step.get("result") for step in self.steps]


def python_2(directory: Path) -> list[str]:
    return [sys.executable, "-P", str(HERE / "mcp_host.py")]


def typescript(directory: Path) -> list[str]:
    script = npm.with_packages(HERE / "mcp_host.mjs", directory)
    return [str(npm.NODE), str(script), "sdk"]


def typescript_2(directory: Path) -> list[str]:
    script = npm.with_packages(HERE / "mcp_host.mjs", directory)
    return [str(npm.NODE), str(script), "client"]


def serve(sdk: int, script: Path = SERVER) -> tuple[list[str], str, str]:
    """Return the command line of a server, and the options that set its SDK."""
    return [sys.executable, "-P", str(script)], "--env", SDKS[sdk]


def through(url: str, *options: str) -> dict[str, Any]:
    """Return an entry of mcp.json for this URL."""
    return {"command": "chimirror-connect", "args": [*options, url]}


@contextmanager
def running_host(
    host: Host, directory: Path, server: dict[str, Any], *steps: object, mode: str
) -> Iterator[subprocess.Popen[str]]:
    """Start a host. Kills it at the end."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "PYTHONPATH": str(SDK_2)}
    argv = [*host(directory), json.dumps(server), mode, *map(json.dumps, steps)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        argv, env=env, stdout=pipe, stderr=pipe, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run_host(
    host: Host,
    directory: Path,
    server: dict[str, Any],
    *steps: object,
    mode: str = "auto",
) -> Told:
    """Run a host to its end."""
    with running_host(host, directory, server, *steps, mode=mode) as process:
        said, log = process.communicate()
    version, *values = [json.loads(line) for line in said.splitlines()] or [{}]
    return Told(version.get("version"), values, log, process.returncode)
