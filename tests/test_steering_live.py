"""Steering one session through another unit, under the sandbox and by other users.

Law: the shipped units, each session with a user of its own; the machine's other users
are tried, and an application that would like to steer its neighbour.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from machine import PORT, Machine
from peers import Closed, Peer, stdin
from sessions import SERVER_PORT, echo, gone, open_session, serve_many
from settling import until
from steering import Steerer, request, steer

pytestmark = pytest.mark.timeout(120)

PLACE = "/run/chimirror/sessions"
# Connects to a control socket, asks there without a secret, prints the answer.
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
    """A session, and its first message."""
    peer = stack.enter_context(Peer(machine.connect(port)))
    assert peer.open(framing="stdio").status == 101
    return peer, peer.message()


def flows(peer: Peer, steerer: Steerer) -> None:
    """What is paused waits, and what is resumed comes."""
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


def test_a_session_is_steered_through_another_unit(machine: Machine) -> None:
    machine.configure("/usr/bin/cat")
    with ExitStack() as stack:
        peer, hello = opened(machine, stack)
        (unit,) = machine.sessions()
        with steer(machine.connect, hello) as steerer:
            (other,) = set(machine.sessions()) - {unit}
            assert user(machine, unit) != user(machine, other)
            flows(peer, steerer)
            with Steerer(machine.connect()) as stranger:
                wrong = "0." + "0" * 32
                proof = {"session": hello["id"], "secret": wrong}
                assert stranger.ask("authorize", **proof) == -32001
                assert stranger.closed().code == 1008
            assert steerer.ask("close") == {}
            assert peer.story().closed == Closed(1000, "closed")
            assert steerer.closed() == Closed(1000, "control over")
    gone(machine)
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
        # Bridges may come there; who is none of them still needs the secret.
        as_bridge = ("setpriv", "--reuid=65534", "--regid=chimirror", "--clear-groups")
        answer = json.loads(machine.do(*as_bridge, "--", *argv))
        assert answer["error"]["code"] == -32001
        peer.send(stdin(b"x"))
        assert peer.output(1) == b"x"


def test_no_application_comes_near(machine: Machine) -> None:
    """Not to that of its neighbour, and not to its own."""
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
        assert peer.story().stdout == b"PermissionError\nPermissionError\n"


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


def test_what_a_killed_bridge_left_is_in_nobodys_way(machine: Machine) -> None:
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
        with Steerer(machine.connect()) as steerer:
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
            stack.enter_context(steer(lambda: machine.connect(SERVER_PORT), hello))
            for _ in range(4)
        ]
        for steerer in steerers:
            assert steerer.ask("status")["id"] == hello["id"]
        flows(peer, steerers[0])
        late = stack.enter_context(Steerer(machine.connect(SERVER_PORT)))
        proof = {"session": hello["id"], "secret": hello["secret"]}
        assert late.ask("authorize", **proof) == -32000
