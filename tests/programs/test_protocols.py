"""Tests --protocol of the bridge and of the server with a client of another project.

The program that is served, cat(1), knows no protocol: it returns each message.
"""

from __future__ import annotations

import json
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from serve import Service, ServiceFactory, activated, server
from websocket_peer import payload_of

HEADER = "Acp-Connection-Id"
# The names that a client may offer, the framing without a name first.
OFFERS = {
    "acp": ["chimirror.lines.v1", "chimirror.stdio.v1"],
    "mcp": ["chimirror.lines.v1", "mcp", "chimirror.stdio.v1"],
    "lsp": ["chimirror.lsp.v1", "chimirror.stdio.v1"],
    "dap": ["chimirror.lsp.v1", "chimirror.stdio.v1"],
}
LARGE = json.dumps({"jsonrpc": "2.0", "method": "x" * (2 << 20)})  # default: 1 MiB


def opened(service: Service, *offers: str, path: str = "/") -> ClientConnection:
    names = [Subprotocol(name) for name in offers]
    url = f"ws://127.0.0.1:{service.port}{path}"
    return connect(url, subprotocols=names or None, max_size=None, compression=None)


def answer(
    service: Service, method: str, path: str, accept: str = "*/*"
) -> tuple[int, str]:
    """Return status and text of the answer to a plain request."""
    client = HTTPConnection("127.0.0.1", service.port)
    try:
        client.request(method, path, headers={"Accept": accept})
        response = client.getresponse()
        return response.status, response.read().decode()
    finally:
        client.close()


def get(service: Service, path: str) -> Any:
    status, text = answer(service, "GET", path)
    assert status == 200
    return json.loads(text)


def check_session(
    service: Service, protocol: str, *offers: str, path: str = "/"
) -> None:
    """Check the response and the round trip of a message."""
    with opened(service, *offers, path=path) as client:
        assert client.response is not None
        chosen = client.response.headers.get("Sec-WebSocket-Protocol")
        assert chosen == (offers[0] if offers else None)
        session_id = client.response.headers.get(HEADER, "")
        assert len(session_id) == (32 if protocol == "acp" else 0)
        if chosen != "chimirror.stdio.v1":
            client.send(LARGE)
            assert client.recv() == LARGE
            return
        started = json.loads(client.recv())
        assert started["type"] == "session"
        assert session_id in ("", started["id"])
        client.send('{"type":"stdin","payload":"b25lCg=="}')
        assert payload_of(json.loads(client.recv())) == b"one\n"


@pytest.mark.parametrize("protocol", OFFERS)
@pytest.mark.parametrize("program", [activated, server], ids=["bridge", "server"])
def test_a_preset(program: ServiceFactory, protocol: str, tmp_path: Path) -> None:
    with program(tmp_path, ["cat"], "--protocol", protocol) as service:
        manifest = get(service, "/asyncapi.json")
        told = manifest["x-chimirror"]
        assert told["protocol"] == protocol
        framing = OFFERS[protocol][0].split(".")[1]
        assert [*manifest["channels"]][:2] == [framing, "stdio"]
        assert told["default_framing"] == framing
        assert told["protocol_options"]["framing"] == f"{framing},stdio"
        assert (told["max_message"], told["max_line"]) == (16 << 20, 64 << 20)
        assert told["session_id_header"] == (HEADER if protocol == "acp" else None)
        check_session(service, protocol)
        for name in OFFERS[protocol]:
            check_session(service, protocol, name)


def test_presets_of_files(tmp_path: Path) -> None:
    """The other half of ACP's remote transport is refused with a clear text."""
    apps = tmp_path / "apps"
    apps.mkdir()
    for name in OFFERS:
        text = f'command = ["cat"]\nprotocol = "{name}"\n'
        (apps / f"{name}.toml").write_text(text)
    options = ("--apps", str(apps), "--protocol", "acp")
    with server(tmp_path, [], *options) as service:
        listed = get(service, "/.well-known/chimirror")["applications"]
        told = {each["name"]: each["protocol"] for each in listed}
        assert told == {name: name for name in OFFERS}
        for name in OFFERS:
            check_session(service, name, path=f"/{name}")
        for method in ("POST", "DELETE"):
            text = f"{method} is not served here; connect with a WebSocket client\n"
            assert answer(service, method, "/acp") == (405, text)
        text = "only WebSocket is served here; connect with a WebSocket client\n"
        assert answer(service, "GET", "/acp", "text/event-stream") == (426, text)
