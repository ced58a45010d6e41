"""Clients and servers of language server libraries, behind --protocol lsp.

The libraries are unmodified: pygls, vscode-jsonrpc and vscode-ws-jsonrpc. A library
that starts its server as a command starts chimirror-connect.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types
from pygls.lsp.client import LanguageClient

from npm import NODE, packaged, with_packages
from page_server import CASES
from processes import PATIENCE, until
from serve import SERVICES, server
from tls_servers import server_url

SUPPORT = Path(__file__).parents[1] / "support"
PROGRAMS = Path(sys.executable).parent
CLANGD = [str(PROGRAMS / "clangd"), "--background-index=false"]
PYLSP = [sys.executable, "-P", "-m", "pylsp"]
PYGLS = [sys.executable, str(SUPPORT / "pygls_server.py")]
URI = "file:///nowhere/greet.c"
TEXT = "/// Grüße an: 😀.\nint greet(void) { return 1; }\nint one = greet();\n"
PLACE = {"line": 2, "character": 12}
WRITTEN = "Grüße an: 😀."


async def hover_with_pygls(url: str, transport: str) -> str:
    """Return the hover text that pygls gets.

    On a WebSocket it sends each message as binary.
    """
    client = LanguageClient("editor", "1")
    if transport == "stdio":
        await client.start_io(str(PROGRAMS / "chimirror-connect"), url)
    else:
        host, _, port = url.strip("ws:/").partition(":")
        await client.start_ws(host, int(port))
    await client.initialize_async(
        types.InitializeParams(capabilities=types.ClientCapabilities())
    )
    client.initialized(types.InitializedParams())
    item = types.TextDocumentItem(URI, "c", 1, TEXT)
    client.text_document_did_open(types.DidOpenTextDocumentParams(item))
    document, place = types.TextDocumentIdentifier(URI), types.Position(**PLACE)
    hover = await client.text_document_hover_async(types.HoverParams(document, place))
    await client.shutdown_async(None)
    client.exit(None)
    await client.stop()  # type: ignore[no-untyped-call]
    return str(hover)


@pytest.mark.parametrize("transport", ["websocket", "stdio"])
@pytest.mark.parametrize(
    ("command", "written"), [(CLANGD, WRITTEN), (PYGLS, "greet: 5 characters")]
)
def test_pygls(
    command: list[str],
    written: str,
    transport: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without pylsp, because pygls refuses its answers."""
    monkeypatch.setenv("NO_PROXY", "*")
    with server(
        tmp_path, command, "--protocol=lsp", f"--env=XDG_CACHE_HOME={tmp_path}"
    ) as at:
        asked = hover_with_pygls(server_url(at), transport)
        assert written in asyncio.run(asyncio.wait_for(asked, PATIENCE))
        until(lambda: not at.applications(), "no language server is left")


def messages(language: str, text: str) -> str:
    """Return JSON of [method, parameters, wants answer] for each message."""
    document = {"uri": URI}
    opened = {**document, "languageId": language, "version": 1, "text": text}
    told: list[tuple[str, Any, bool]] = [
        ("initialize", {"processId": None, "rootUri": None, "capabilities": {}}, True),
        ("initialized", {}, False),
        ("textDocument/didOpen", {"textDocument": opened}, False),
        ("textDocument/hover", {"textDocument": document, "position": PLACE}, True),
        ("shutdown", None, True),
        ("exit", None, False),
    ]
    return json.dumps(told)


def run_in_node(*argv: str | Path) -> list[Any]:
    words = [str(word) for word in (NODE, *argv)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert not done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("program", ["server", "activate"])
def test_the_byte_streams_of_vscode_jsonrpc(program: str, tmp_path: Path) -> None:
    """Header and body are messages of their own, and come back in one."""
    library = packaged("vscode-jsonrpc") / "lib" / "node" / "main.js"
    options = ("--protocol=lsp", f"--env=XDG_CACHE_HOME={tmp_path}")
    with SERVICES[program](tmp_path, CLANGD, *options) as at:
        script = CASES / "byte_stream.js"
        said = run_in_node(script, library, server_url(at), messages("c", TEXT))
        able, hovered, ended, closed = said
        assert able["capabilities"]["hoverProvider"]
        assert WRITTEN in hovered["contents"]["value"]
        assert ended is None
        assert closed == [True, 1000, "exit 0"]
        until(lambda: not at.applications(), "no language server is left")


def test_the_messages_of_vscode_ws_jsonrpc(tmp_path: Path) -> None:
    """It offers no subprotocol, and sends each message as one text."""
    script = with_packages(SUPPORT / "message_client.mjs", tmp_path)
    text = f"def greet():\n    '{WRITTEN}'\none = two, greet()\n"
    with server(
        tmp_path, PYLSP, "--protocol=lsp", f"--env=XDG_CACHE_HOME={tmp_path}"
    ) as at:
        said = run_in_node(script, server_url(at), messages("python", text))
        able, hovered, mistakes, ended, closed = said
        assert able["capabilities"]["hoverProvider"]
        assert WRITTEN in hovered["contents"]["value"]
        assert mistakes == ["undefined name 'two'"]
        assert ended is None
        assert closed == [1000, "exit 0"]
        until(lambda: not at.applications(), "no language server is left")
