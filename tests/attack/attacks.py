"""The attacks: each one row with its clients, its application and its bytes.

Most attacks are a `Behaviour` that all clients share. The others are a function. Knows
nothing of the measurements.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from types import MappingProxyType
from typing import Any, NamedTuple

from flood_client import ATTACKER, Address, Behaviour, Flood, blocks
from websocket_peer import (
    CONTINUATION,
    PING,
    TEXT,
    Closed,
    FrameViolation,
    Peer,
    frame,
    stdin,
    text,
    upgrade,
)

SINK = 'command = ["sh", "-c", "exec cat >/dev/null"]\nframing = "json,stdio,lines"\n'
FRAGMENTS = 10_000  # of one byte, per message
LARGE = 1 << 20  # bytes of the unauthorized message
REPLY = 5.0  # seconds for the answer to a control request


class Scene(NamedTuple):
    """What an attack gets: the server, its processes and the size of the attack."""

    address: Address
    clients: int
    stop: int
    deadline: float
    worker: int
    runtime: Path


class Attack(NamedTuple):
    """One attack.

    Attributes:
        about: for the list of attacks.
        clients: their default number.
        behaviour: of each client.
        run: instead of a behaviour.
        app: the application file of /target.
        files: further application files by name.
        fifos: FIFOs to make in the directory of the application files.
        options: of the server.
        reads_log: whether the log of the server is read.
        again: seconds from SIGTERM to a second one, at the end.
    """

    about: str
    clients: int
    behaviour: Behaviour = Behaviour()
    run: Callable[[Scene], dict[str, Any]] | None = None
    app: str = SINK
    files: Mapping[str, str] = MappingProxyType({})
    fifos: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    reads_log: bool = True
    again: float | None = None

    def start(self, scene: Scene) -> dict[str, Any]:
        """Attack until the scene ends. Returns what was counted."""
        if self.run is not None:
            return self.run(scene)
        flood = Flood(scene.address, self.behaviour, scene.clients)
        return flood.run(scene.stop, scene.deadline)


def session(framing: str, block: bytes, **others: Any) -> Behaviour:
    """Describe a client of /target that sends a block without pause."""
    return Behaviour(upgrade("/target", framing, ()), block=block, **others)


def one_byte_fragments() -> bytes:
    inner = frame(CONTINUATION, b"1", fin=False) * (FRAGMENTS - 2)
    return frame(TEXT, b"1", fin=False) + inner + frame(CONTINUATION, b"1")


def two_fragments() -> bytes:
    return blocks(frame(TEXT, b"1", fin=False) + frame(CONTINUATION, b"1"))


def signals() -> bytes:
    return blocks(text({"type": "signal", "name": "CONT"}))


def resizes() -> bytes:
    small = {"type": "resize", "columns": 80, "rows": 24}
    return blocks(text(small) + text(small | {"columns": 132}))


def large_json() -> bytes:
    return frame(TEXT, b"[%b1]" % (b"[]," * 349_000))


def plain_get(target: str) -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % target.encode()


def slow_head() -> bytes:
    """Return a request head that is as long as it may be and never ends."""
    fields = b"".join(b"X-%02d: %s\r\n" % (n, b"a" * 150) for n in range(95))
    return b"GET /target HTTP/1.1\r\nHost: localhost\r\n" + fields


def unfinished_control_message() -> bytes:
    """Return a large message before any authorization, without its last byte."""
    params = "[" + "1," * (LARGE // 2 - 50) + "1]"
    message = f'{{"jsonrpc":"2.0","id":1,"method":"authorize","params":{params}}}'
    return frame(TEXT, message.encode())[:-1]


def refused_head() -> bytes:
    return upgrade("/target", "json", ("Host: evil.example",))


# Application files


def large_command() -> str:
    return f"command = {json.dumps(['true', *['x' * 100] * 7000])}\n"


def error_behind_list() -> str:
    lines = "".join(f'    "word {number}",\n' for number in range(800))
    return f'command = ["true"]\narguments = [\n{lines}]\nstop-grace = "never"\n'


def long_dotted_key() -> str:
    key = ".".join(["a"] * 20_000)
    return f'command = ["true"]\n{key} = 1\n'


QUOTES = 'NAME="' + "a\\$" * (1 << 18) + '"\n'  # the content of an env-file


def requests_for(name: str) -> Behaviour:
    """Describe a client that requests an application again and again."""
    return Behaviour(upgrade(f"/{name}", "json", ()))


# Control connections

CONTROL_APP = """\
import json, os, socket
control = socket.socket(fileno=int(os.environ["CHIMIRROR_CONTROL_FD"]))
out = control.makefile("w")
for line in control.makefile():
    request = json.loads(line)
    deep = "[" * 600 + "]" * 600
    out.write('{"jsonrpc":"2.0","id":%s,"result":%s}\\n'
              % (json.dumps(request.get("id")), deep))
    out.flush()
"""


def control_app() -> str:
    command = json.dumps([sys.executable, "-c", CONTROL_APP])
    return f'command = {command}\nframing = "stdio"\ncontrol = true\n'


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


PARAMS = (
    *(f'{{"deep":{nested(depth)}}}' for depth in (200, 254, 300, 1000, 1100, 100_000)),
    *(f'{{"large":{10**digits}}}' for digits in (18, 19, 20, 40, 4000)),
    '{"large":1e999}',
    '{"interval":1' + "0" * 30 + "}",
)
METHODS = ("status", "subscribe", "pause", "of the application")


def connect(address: Address) -> socket.socket:
    return socket.create_connection(address, REPLY, source_address=(ATTACKER, 0))


class ControlClient:
    """A session of /target with a control connection to it."""

    def __init__(self, address: Address) -> None:
        self.owner = Peer(connect(address))
        self.peer = Peer(connect(address))
        self.owner.open("/target", framing="stdio")
        hello = self.owner.message()
        self.peer.open("/target", framing="control")
        proof = {"session": hello["id"], "secret": hello["secret"]}
        assert self.ask("authorize", json.dumps(proof)) == "answers"
        self.peer.socket.settimeout(REPLY)

    def ask(self, method: str, params: str) -> str:
        """Send a request. Returns the outcome."""
        call = f'"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}'
        try:
            self.peer.send(f"{{{call}}}".encode())
            while not isinstance(reply := self.peer.receive(), Closed):
                if not reply.startswith(b'{"jsonrpc":"2.0","method"'):
                    return "answers"
            return "closed"
        except (OSError, FrameViolation):
            return "unanswered"

    def close(self) -> None:
        self.owner.close()
        self.peer.close()


def control_json(scene: Scene) -> dict[str, Any]:
    """Send JSON that is hard to write again. Counts answers and their absence."""
    counts = dict.fromkeys(("requests", "answers", "closed", "unanswered"), 0)
    client = ControlClient(scene.address)
    for params, method in itertools.cycle(itertools.product(PARAMS, METHODS)):
        if monotonic() >= scene.deadline or select.select([scene.stop], [], [], 0)[0]:
            break
        outcome = client.ask(method, params)
        counts["requests"] += 1
        counts[outcome] += 1
        if outcome != "answers":
            client.close()
            client = ControlClient(scene.address)
    client.close()
    return counts


def control_batches(scene: Scene) -> dict[str, Any]:
    """Send batches of requests on authorized control connections, without pause."""
    request = {"jsonrpc": "2.0", "id": 1, "method": "manifest"}
    block = blocks(text([request] * 100))
    clients = [ControlClient(scene.address) for _ in range(scene.clients)]
    flood = Flood(scene.address, Behaviour(block=block), 0)
    for client in clients:
        flood.adopt(client.peer.socket.dup())
    counts = flood.run(scene.stop, scene.deadline)
    for client in clients:
        client.close()
    return counts


# The way down, and the runtime directory


def wait(scene: Scene) -> dict[str, Any]:
    """Wait for the end of the attack."""
    select.select([scene.stop], [], [], max(0.0, scene.deadline - monotonic()))
    return {"attackers": scene.clients}


def vanished_runtime(scene: Scene) -> dict[str, Any]:
    """Remove the runtime directory and kill the worker."""
    shutil.rmtree(scene.runtime, ignore_errors=True)
    os.kill(scene.worker, signal.SIGKILL)
    return wait(scene)


def stopped_worker(scene: Scene) -> dict[str, Any]:
    """Stop the worker. The end of the server follows with two SIGTERMs."""
    os.kill(scene.worker, signal.SIGSTOP)
    return wait(scene)


SHORT_DRAIN = ("--drain-timeout", "1", "--kill-grace", "1")
EMPTY_INPUT = blocks(text(stdin(b"")))
END_OF_INPUT = blocks(text({"type": "eof"}))
PTY = 'command = ["cat"]\nframing = "stdio"\npty = true\n'
NOISY = 'command = ["sh", "-c", "exec yes x >&2"]\nstderr = "log"\n'
ENDLESS = 'command = ["yes"]\nframing = "json,lines"\n'

ATTACKS: dict[str, Attack] = {
    "none": Attack("no attack, for comparison", 0, run=wait),
    "signals": Attack(
        "signal CONT without pause",
        4,
        session("stdio", signals()),
        app='command = ["cat"]\nframing = "stdio"\n',
    ),
    "fragments-60": Attack(
        "fragments of one byte", 60, session("json", one_byte_fragments())
    ),
    "fragments-300": Attack(
        "fragments of one byte", 300, session("json", one_byte_fragments())
    ),
    "two-fragments": Attack(
        "messages of two fragments", 60, session("json", two_fragments())
    ),
    "two-fragments-300": Attack(
        "messages of two fragments", 300, session("json", two_fragments())
    ),
    "empty-texts": Attack(
        "empty text messages", 60, session("lines", blocks(frame(TEXT, b"")))
    ),
    "pings": Attack("empty pings", 60, session("json", blocks(frame(PING, b"")))),
    "refused": Attack(
        "messages that are no JSON", 60, session("json", blocks(frame(TEXT, b"x")))
    ),
    "refused-unread": Attack(
        "messages that are no JSON, replies not read",
        60,
        session("json", blocks(frame(TEXT, b"x")), reads=False),
    ),
    "stdin-empty": Attack(
        "stdin messages without bytes", 60, session("stdio", EMPTY_INPUT)
    ),
    "eof": Attack("eof messages", 60, session("stdio", END_OF_INPUT)),
    "resizes": Attack("resize of a terminal", 60, session("stdio", resizes()), app=PTY),
    "stderr-log": Attack(
        "stderr of short lines to the log", 4, session("json", b""), app=NOISY
    ),
    "stderr-log-unread": Attack(
        "the same, and the log is not read",
        4,
        session("json", b""),
        app=NOISY,
        reads_log=False,
    ),
    "output-unread": Attack(
        "endless output that is not read",
        60,
        session("json", b"", reads=False),
        app=ENDLESS,
    ),
    "large-json": Attack(
        "messages of 1 MB with 300,000 values", 60, session("json", large_json())
    ),
    "output-read": Attack(
        "endless output that is read", 4, session("json", b""), app=ENDLESS
    ),
    "churn": Attack(
        "sessions that end at once",
        20,
        Behaviour(upgrade("/target", "json", ())),
        app='command = ["true"]\n',
    ),
    "manifests": Attack(
        "requests for a manifest", 20, Behaviour(plain_get("/target/asyncapi.json"))
    ),
    "lists": Attack(
        "requests for the list of 200 applications",
        20,
        Behaviour(plain_get("/.well-known/chimirror")),
        files={f"x{number}.toml": SINK for number in range(200)},
    ),
    "silent": Attack("connections without a request", 5000),
    "refusals": Attack(
        "refused clients that do not close", 1000, Behaviour(refused_head(), linger=4.0)
    ),
    "slow-heads": Attack(
        "request heads byte by byte", 200, Behaviour(slow_head(), piece=1)
    ),
    "unauthorized": Attack(
        "control connections with a large first message",
        400,
        Behaviour(
            upgrade("/target", "control", ()), first=unfinished_control_message()
        ),
    ),
    "app-command": Attack(
        "application file with a command of 700 kB",
        2,
        requests_for("bad"),
        files={"bad.toml": large_command()},
    ),
    "app-fifo": Attack(
        "application file with a FIFO as env-file",
        2,
        requests_for("bad"),
        files={"bad.toml": 'command = ["true"]\nenv-file = "DIRECTORY/fifo"\n'},
        fifos=("fifo",),
    ),
    "app-syntax": Attack(
        "application file with an error behind a list of 800 lines",
        2,
        requests_for("bad"),
        files={"bad.toml": error_behind_list()},
    ),
    "app-dotted": Attack(
        "application file with a dotted key of 20,000 parts",
        2,
        requests_for("bad"),
        files={"bad.toml": long_dotted_key()},
    ),
    "app-quotes": Attack(
        "env-file with 1 MB in double quotes",
        2,
        requests_for("bad"),
        files={
            "bad.toml": 'command = ["true"]\nenv-file = "DIRECTORY/quotes"\n',
            "quotes": QUOTES,
        },
    ),
    "control-json": Attack(
        "deep JSON and large integers in control requests",
        1,
        run=control_json,
        app=control_app(),
    ),
    "control-batches": Attack(
        "batches of requests on control connections",
        20,
        run=control_batches,
        app='command = ["cat"]\nframing = "stdio"\n',
    ),
    "runtime-gone": Attack(
        "runtime directory removed, worker killed", 1, run=vanished_runtime
    ),
    "worker-stopped": Attack(
        "worker stopped, then two SIGTERMs",
        1,
        run=stopped_worker,
        options=SHORT_DRAIN,
        again=1.0,
    ),
}
