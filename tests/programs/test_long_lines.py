"""Lines and bodies of many megabytes: one, and many at once."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from client_apis import APIS
from npm import NODE
from page_server import CASES
from processes import Memory, steady, until, written
from serve import server
from tls_servers import server_url
from websocket_peer import Closed, Peer

LIMIT = 16 << 20
LINE = """
import os
left = memoryview(b"x" * %d + b"\\n")
while left:
    left = left[os.write(1, left[:65536]) :]
"""
BODY = """
import sys
body = b'"' + b"\\xc3\\xa9" * %d + b'"'
sys.stdout.buffer.write(b"Content-Length: %%d\\r\\n\\r\\n%%b" %% (len(body), body))
"""
MANY = 12


def command(script: str, size: int) -> list[str]:
    return [sys.executable, "-c", script % size]


@pytest.mark.parametrize("size", [3_000_000, LIMIT])
def test_a_long_line(size: int, tmp_path: Path) -> None:
    with (
        server(tmp_path, command(LINE, size), "--framing=lines") as service,
        connect(f"ws://127.0.0.1:{service.port}/", max_size=None) as client,
    ):
        assert [*client] == ["x" * size]
        assert (client.close_code, client.close_reason) == (1000, "exit 0")


def test_a_long_body(tmp_path: Path) -> None:
    with (
        server(tmp_path, command(BODY, 5_000_000), "--framing=lsp") as service,
        connect(f"ws://127.0.0.1:{service.port}/", max_size=None) as client,
    ):
        assert [json.loads(message) for message in client] == ["é" * 5_000_000]
        assert (client.close_code, client.close_reason) == (1000, "exit 0")


def test_a_line_over_the_limit(tmp_path: Path) -> None:
    with (
        server(tmp_path, command(LINE, LIMIT + 1), "--framing=lines") as service,
        connect(f"ws://127.0.0.1:{service.port}/", max_size=None) as client,
    ):
        with pytest.raises(ConnectionClosedError):
            client.recv()
        assert client.close_code == 1011
        assert (client.close_reason or "").startswith("line over --max-line: ")


def test_node_reads_a_long_line(tmp_path: Path) -> None:
    with server(tmp_path, command(LINE, 3_000_000), "--framing=lines") as service:
        address = f"ws://127.0.0.1:{service.port}/"
        argv = [str(NODE), str(CASES / "builtin.js"), address, "", ""]
        done = subprocess.run(argv, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["x" * 3_000_000, " 1000 exit 0"]


@pytest.mark.parametrize("framing", ["stdio", "json", "lines"])
@pytest.mark.parametrize("api", sorted(APIS))
def test_our_clients_take_the_longest_line(
    api: str, framing: str, tmp_path: Path
) -> None:
    options = "--framing=stdio,json,lines"
    with (
        server(tmp_path, command(LINE, LIMIT), options) as service,
        APIS[api](server_url(service), framing=framing) as session,
    ):
        (line,) = session.stdout.lines()
        assert line == "x" * LIMIT
        assert session.wait() == (0, None, "exit 0", 1000)


def test_many_long_lines_at_once_take_little_memory(tmp_path: Path) -> None:
    """Clients do not read. Their applications wait within the line, and no others."""
    options = ("--framing=lines", "--workers=1")
    with (
        server(tmp_path, command(LINE, LIMIT), *options) as service,
        ExitStack() as stack,
    ):
        memory = Memory(service.serving())
        peers = [stack.enter_context(Peer(service.connect())) for _ in range(MANY)]
        for peer in peers:
            assert peer.open(framing="lines").status == 101
        until(lambda: len(service.applications()) == MANY, "all have started")
        pids = service.applications()
        until(steady(lambda: sum(map(written, pids))), "the applications wait")
        assert memory.growth() < MANY << 20
        for peer in peers:
            assert peer.receive() == b"x" * LIMIT
            assert peer.receive() == Closed(1000, "exit 0")
        assert memory.growth() < MANY << 20
