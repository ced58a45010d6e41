"""Tests each framing with clients of other projects.

They are Node.js, the npm package ws, websockets and websocket-client. The command line
of websockets offers no subprotocol, and gets the server's first.
"""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import b64decode, b64encode
from pathlib import Path
from typing import NamedTuple

import pytest
from websocket import ABNF, create_connection
from websockets.sync.client import connect

from npm import NODE, with_packages
from page_server import CASES
from serve import server

HERE = Path(__file__).parents[1] / "support"
LINE = '{"a":"é"}'
PAYLOAD = b64encode(f"{LINE}\n".encode()).decode()
OUTPUT = {"type": "stdout", "payload": PAYLOAD}
ONE_LINE = ["head", "-n", "1"]
ONE_BODY = """
import sys
size = int(sys.stdin.buffer.readline().split()[1])
body = sys.stdin.buffer.read(2 + size)
sys.stdout.buffer.write(b"Content-Length: %d\\r\\n" % size + body)
"""


class Talk(NamedTuple):
    command: list[str]
    sent: str
    told: list[object]  # without the session id


SPOKEN = {
    "json": Talk(ONE_LINE, LINE, [OUTPUT]),
    "stdio": Talk(
        ONE_LINE,
        json.dumps({"type": "stdin", "payload": PAYLOAD}),
        [{"type": "session"}, OUTPUT, {"type": "exit", "code": 0}],
    ),
    "lines": Talk(ONE_LINE, LINE, [json.loads(LINE)]),
    "lsp": Talk([sys.executable, "-c", ONE_BODY], LINE, [json.loads(LINE)]),
}


def read(messages: list[str]) -> list[object]:
    """The messages, without unpredictable parts."""
    told = [json.loads(message) for message in messages]
    return [
        {"type": "session"} if each.get("type") == "session" else each for each in told
    ]


def test_the_version_of_node() -> None:
    """Return the Node.js that has a WebSocket, even if PATH finds another one first."""
    said = subprocess.run([NODE, "--version"], capture_output=True, text=True).stdout
    assert int(said.removeprefix("v").partition(".")[0]) >= 22


OFFERS = {
    "own": ("unknown,chimirror.{}.v1", "chimirror.{}.v1"),
    "none": ("", ""),
    "foreign": ("theirs", "theirs"),
}


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("framing", SPOKEN)
def test_node(framing: str, offer: str, tmp_path: Path) -> None:
    talk = SPOKEN[framing]
    offered, chosen = (each.format(framing) for each in OFFERS[offer])
    others = [name for name in SPOKEN if name != framing]
    options = ["--framing", ",".join([framing, *others])]
    options += ["--subprotocol", f"theirs={framing}"]
    with server(tmp_path, talk.command, *options) as service:
        address = f"ws://127.0.0.1:{service.port}/"
        argv = [str(NODE), str(CASES / "builtin.js"), address, offered, talk.sent]
        done = subprocess.run(argv, capture_output=True, text=True)
    *messages, end = done.stdout.splitlines()
    assert (end, done.stderr) == (f"{chosen} 1000 exit 0", "")
    assert read(messages) == talk.told


@pytest.mark.parametrize("framing", SPOKEN)
def test_ws(framing: str, tmp_path: Path) -> None:
    """The package offers permessage-deflate, which is not accepted."""
    talk = SPOKEN[framing]
    script = with_packages(HERE / "ws_client.mjs", tmp_path)
    with server(tmp_path, talk.command, "--framing", framing) as service:
        address = f"ws://127.0.0.1:{service.port}/"
        argv = [str(NODE), str(script), str(CASES / "builtin.js"), address, ""]
        done = subprocess.run([*argv, talk.sent], capture_output=True, text=True)
    *messages, end = done.stdout.splitlines()
    assert (end, done.stderr) == (" 1000 exit 0", "")
    assert read(messages) == talk.told


@pytest.mark.parametrize("framing", SPOKEN)
def test_websocket_client(framing: str, tmp_path: Path) -> None:
    """The library sends the Origin of the server."""
    talk = SPOKEN[framing]
    name = f"chimirror.{framing}.v1"
    with server(tmp_path, talk.command, "--framing", framing) as service:
        address = f"ws://127.0.0.1:{service.port}/"
        client = create_connection(address, subprotocols=["unknown", name])
        assert client.getsubprotocol() == name
        client.send(talk.sent)
        received = [client.recv_data()]
        while received[-1][0] != ABNF.OPCODE_CLOSE:
            received.append(client.recv_data())
        client.shutdown()  # type: ignore[no-untyped-call]
    *messages, closing = [data for _, data in received]
    assert read([message.decode() for message in messages]) == talk.told
    assert closing == (1000).to_bytes(2, "big") + b"exit 0"


@pytest.mark.parametrize("framing", SPOKEN)
def test_websockets(framing: str, tmp_path: Path) -> None:
    talk = SPOKEN[framing]
    pipe = subprocess.PIPE
    with server(tmp_path, talk.command, "--framing", framing) as service:
        argv = [sys.executable, "-m", "websockets"]
        argv += [f"ws://127.0.0.1:{service.port}/"]
        with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True) as client:
            assert client.stdin
            assert client.stdout
            client.stdin.write(f"{talk.sent}\n")
            client.stdin.flush()
            shown = client.stdout.read().splitlines()
    assert shown[-1].endswith("Connection closed: 1000 (OK) exit 0.")
    received = [line.partition("< ")[2] for line in shown if "< " in line]
    assert read(received) == talk.told


@pytest.mark.parametrize("framing", ["json", "stdio"])
def test_a_client_that_reads_32_kib_gets_a_burst(framing: str, tmp_path: Path) -> None:
    """Some libraries close the connection at a message over 32,768 bytes."""
    burst = ["head", "-c", "3000000", "/dev/zero"]
    with (
        server(tmp_path, burst, "--framing", framing) as service,
        connect(f"ws://127.0.0.1:{service.port}/", max_size=32768) as client,
    ):
        found = [json.loads(message) for message in client]
        closed = (client.close_code, client.close_reason)
    output = [each["payload"] for each in found if each["type"] == "stdout"]
    assert b"".join(map(b64decode, output)) == bytes(3_000_000)
    assert closed == (1000, "exit 0")
