"""Tests control of a session through another unit, in sandboxes and by other users.

Uses the shipped units, in which each session has its own user. Other users of the
machine try to get control, and so does an application of another session.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from control_clients import ControlWebSocket, authorized, request
from machine_sessions import (
    SERVER_PORT,
    echo,
    open_session,
    serve_many,
    wait_until_idle,
)
from processes import until
from systemd_machine import PORT, Machine
from websocket_peer import Closed, Peer, stdin

pytestmark = pytest.mark.timeout(300)

PLACE = "/run/chimirror/sessions"
# Connects to a control socket, sends a request without a secret, prints the response.
TRY = """
import socket, sys
with socket.socket(socket.AF_UNIX) as one:
    try:
        one.connect(sys.argv[1])
        one.sendall(sys.argv[2].encode() + b"\\n")
        print(one.makefile().readline())
    except OSError as error:
        print(type(error).__name__)
"""


def opened(
    machine: Machine, stack: ExitStack, port: int = PORT
) -> tuple[Peer, dict[str, Any]]:
    """Open a session. Returns the client and the first message."""
    peer = stack.enter_context(Peer(machine.connect(port)))
    assert peer.open(framing="stdio").status == 101
    return peer, peer.message()


def flows(peer: Peer, steerer: ControlWebSocket) -> None:
    """Paused output waits, and arrives after the resume."""
    assert steerer.ask("pause", streams=["stdout"]) == {"paused": ["stdout"]}
    peer.send(stdin(b"later"))
    status = steerer.ask("status")
    while not status["messages_in"]:
        status = steerer.ask("status")
    assert (status["messages_out"], status["paused"]) == (1, ["stdout"])
    assert steerer.ask("resume") == {"paused": []}
    assert peer.output(5) == b"later"


def user(machine: Machine, unit: str) -> int:
    return Path(f"/proc/{machine.processes(unit)[0]}").stat().st_uid


def test_session_is_controlled_through_another_unit(machine: Machine) -> None:
    machine.configure("/usr/bin/cat")
    with ExitStack() as stack:
        peer, hello = opened(machine, stack)
        (unit,) = machine.sessions()
        with authorized(machine.connect, hello) as steerer:
            (other,) = set(machine.sessions()) - {unit}
            assert user(machine, unit) != user(machine, other)
            flows(peer, steerer)
            with ControlWebSocket(machine.connect()) as other_client:
                wrong = "0." + "0" * 32
                proof = {"session": hello["id"], "secret": wrong}
                assert other_client.ask("authorize", **proof) == -32001
                assert other_client.closed().code == 1008
            assert steerer.ask("close") == {}
            assert peer.transcript().closed == Closed(1000, "closed")
            assert steerer.closed() == Closed(1000, "control over")
    wait_until_idle(machine)
    assert not list(machine.path(PLACE).iterdir())


def test_only_root_needs_no_secret(machine: Machine) -> None:
    machine.configure("/usr/bin/cat")
    machine.write("/usr/local/lib/try.py", TRY)
    with ExitStack() as stack:
        peer, hello = opened(machine, stack)
        path = f"{PLACE}/{hello['id']}.control"
        until(machine.path(path).exists, "its control socket")
        ask = json.dumps(request("authorize", session=hello["id"]))
        argv = ("/usr/bin/python3", "/usr/local/lib/try.py", path, ask)
        assert json.loads(machine.do(*argv))["result"] == {}
        for name in ("nobody", "chimirror-server"):
            said = machine.do("runuser", "-u", name, "--", *argv)
            assert said.strip() == "PermissionError"
        # Bridges may connect there. Any other process still needs the secret.
        as_bridge = ("setpriv", "--reuid=65534", "--regid=chimirror", "--clear-groups")
        answer = json.loads(machine.do(*as_bridge, "--", *argv))
        assert answer["error"]["code"] == -32001
        peer.send(stdin(b"x"))
        assert peer.output(1) == b"x"


def test_no_application_comes_near(machine: Machine) -> None:
    """An application reaches neither another session's control socket nor its own."""
    machine.configure("/usr/bin/cat")
    with ExitStack() as stack:
        _, hello = opened(machine, stack)
        machine.write("/usr/local/lib/try.py", TRY)
        path = f"{PLACE}/{hello['id']}.control"
        until(machine.path(path).exists, "its control socket")
        ask = json.dumps(request("authorize", session=hello["id"]))
        machine.write("/usr/local/lib/ask", ask)
        script = f"""
import os, subprocess, sys
own = "{PLACE}/" + os.environ["CHIMIRROR_SESSION"] + ".control"
for path in (own, "{path}"):
    ask = open("/usr/local/lib/ask").read()
    argv = [sys.executable, "/usr/local/lib/try.py", path, ask]
    subprocess.run(argv)
"""
        machine.write("/usr/local/lib/trial.py", script)
        machine.configure("/usr/bin/python3", "/usr/local/lib/trial.py")
        peer, _ = opened(machine, stack)
        assert peer.transcript().stdout == b"PermissionError\nPermissionError\n"


def test_chimirror_ctl(machine: Machine) -> None:
    machine.configure("/usr/bin/cat")
    with ExitStack() as stack:
        peer, hello = opened(machine, stack)
        ask = ("/usr/local/bin/chimirror-ctl", "call", hello["id"][:12], "status")
        path = machine.path(f"{PLACE}/{hello['id']}.control")
        until(path.exists, "its control socket")
        assert json.loads(machine.do(*ask))["id"] == hello["id"]
        said = machine.do("/usr/local/bin/chimirror-ctl", "pause", hello["id"])
        assert said == "paused: stdin, stdout, stderr\n"
        assert json.loads(machine.do(*ask))["paused"] == ["stdin", "stdout", "stderr"]
        peer.send(stdin(b"x"))
        said = machine.do("/usr/local/bin/chimirror-ctl", "resume", hello["id"])
        assert said == "paused: nothing\n"
        assert peer.output(1) == b"x"


def test_leftovers_of_a_killed_bridge_do_no_harm(machine: Machine) -> None:
    machine.configure("/usr/bin/cat")
    with ExitStack() as stack:
        _, hello = opened(machine, stack)
        path = machine.path(f"{PLACE}/{hello['id']}.control")
        until(path.exists, "its control socket")
        until(path.with_suffix("").read_text, "its status")
        (unit,) = machine.sessions()
        machine.do("systemctl", "kill", "--signal=KILL", unit)
        until(lambda: not machine.sessions(), "its end")
        assert path.exists()
        with ControlWebSocket(machine.connect()) as steerer:
            proof = {"session": hello["id"], "secret": hello["secret"]}
            assert steerer.ask("authorize", **proof) == -32001
        machine.do("/usr/local/bin/chimirror-ctl", "sessions")
        assert not path.exists()
        echo(open_session(machine, stack))


def test_a_server(machine: Machine) -> None:
    serve_many(machine)
    with ExitStack() as stack:
        peer, hello = opened(machine, stack, SERVER_PORT)
        steerers = [
            stack.enter_context(authorized(lambda: machine.connect(SERVER_PORT), hello))
            for _ in range(4)
        ]
        for steerer in steerers:
            assert steerer.ask("status")["id"] == hello["id"]
        flows(peer, steerers[0])
        late = stack.enter_context(ControlWebSocket(machine.connect(SERVER_PORT)))
        proof = {"session": hello["id"], "secret": hello["secret"]}
        assert late.ask("authorize", **proof) == -32000
