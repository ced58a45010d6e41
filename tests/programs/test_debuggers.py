"""A debugger of another project, debugpy, behind --protocol dap.

One client is that of VS Code's tests for debug adapters, which starts
chimirror-connect as its adapter. The other one sends each message of the Debug Adapter
Protocol as a JSON text of its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from npm import NODE, with_packages
from processes import PATIENCE, until
from serve import SERVICES, Service
from tls_servers import server_url

CLIENT = Path(__file__).parents[1] / "support" / "debug_client.js"
CONNECT = Path(sys.executable).with_name("chimirror-connect")
ADAPTER = [sys.executable, "-P", "-m", "debugpy.adapter"]
PROGRAM = """\
import sys
total = sum(range(4))
print("Summe: é😀", total)
sys.exit(3)
"""
STUBBORN = """\
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pid, child = os.getpid(), os.fork()
if not child:
    os.setsid()
    signal.pause()
print(child)
"""


@pytest.fixture(params=["server", "activate"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    with SERVICES[request.param](tmp_path, ADAPTER, "--protocol=dap") as found:
        yield found
        until(lambda: not found.applications(), "no debugger and no program is left")


@contextmanager
def debugging(
    service: Service, program: str, line: int, *mode: str
) -> Iterator[subprocess.Popen[str]]:
    """Run the client of VS Code's tests, up to the end of its standard input."""
    home = service.log.parent
    (home / "program.py").write_text(program)
    words = [CONNECT, server_url(service), home / "program.py", line, *mode]
    argv = [str(word) for word in (NODE, with_packages(CLIENT, home), *words)]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True) as client:
        yield client


def steps(client: subprocess.Popen[str], last: str) -> dict[str, list[Any]]:
    """Read the steps of the client up to one. Returns the values of each."""
    assert client.stdout
    found: dict[str, list[Any]] = {}
    for line in client.stdout:
        name, *found[name] = json.loads(line)
        if name == last:
            return found
    raise AssertionError(found)


def test_a_program_to_its_end(service: Service) -> None:
    with debugging(service, PROGRAM, 3) as client:
        found = steps(client, "exited")
        assert client.wait(PATIENCE) == 0
    assert found["breakpoints"] == [[[3, True]]]
    assert found["stopped"] == ["breakpoint", 3]
    assert found["variables"][0]["total"] == "6"
    assert found["exited"] == [3, "Summe: é😀 6\n"]


def test_a_client_that_vanishes(service: Service) -> None:
    """The debugger starts its program in another process group, behind a launcher."""
    with debugging(service, STUBBORN, 7, "wait") as client:
        found = steps(client, "variables")
        (variables,) = found["variables"]
        started = {int(variables["pid"]), int(variables["child"])}
        assert started < set(service.applications())
        os.kill(found["adapter"][0], signal.SIGKILL)
        until(lambda: not service.applications(), "debugger and program are gone")


# One message, one JSON text


class Debugger:
    """A client of the Debug Adapter Protocol on a WebSocket."""

    def __init__(self, link: ClientConnection) -> None:
        self.link = link
        self.sent = 0

    def request(self, command: str, **arguments: Any) -> None:
        self.sent += 1
        message = {"seq": self.sent, "type": "request", "command": command}
        self.link.send(json.dumps({**message, "arguments": arguments}))

    def await_message(self, kind: str, name: str) -> dict[str, Any]:
        """Wait for an event, or for the response to a command."""
        while True:
            message = json.loads(self.link.recv(PATIENCE))
            if message["type"] == kind and name in message.values():
                assert message.get("success", True), message
                body: dict[str, Any] = message.get("body", {})
                return body


def test_messages_are_json_texts(service: Service, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    program = str(tmp_path / "program.py")
    lsp = Subprotocol("chimirror.lsp.v1")
    with connect(server_url(service), subprotocols=[lsp], proxy=None) as link:
        debugger = Debugger(link)
        debugger.request("initialize", adapterID="debugpy")
        able = debugger.await_message("response", "initialize")
        assert able["supportsConfigurationDoneRequest"]
        debugger.request("launch", program=program, console="internalConsole")
        debugger.await_message("event", "initialized")
        debugger.request("configurationDone")
        assert debugger.await_message("event", "exited") == {"exitCode": 3}
        debugger.request("disconnect")
        debugger.await_message("response", "disconnect")
