"""Checks of sessions that an engine runs: the same for each engine of the examples.

The program at the far side is a shell that executes the first line of its input. Knows
no engine: a test brings a server of its application file, and a list of what it runs.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from example_apps import EXAMPLES
from processes import marked, name_of, until
from serve import server
from websocket_peer import Closed, Peer, Sender, stdin, text

MANY = 100
TRANSFER = 10_000_000
MOMENTS = 30
STARTS = 20
GAME = '#!/bin/sh\necho up\nread -r line\neval "$line"\n'
STUBBORN = "trap '' TERM HUP INT; echo stubborn; while :; do sleep 1000; done"


class Serving(NamedTuple):
    """A server of the application file of an engine.

    Attributes:
        connect: opens a connection.
        mark: of the environment of the wrappers (`marked`).
    """

    connect: Callable[[], socket.socket]
    mark: str


class Engine(Protocol):
    """The engine of a test, by the name of its application file."""

    name: str

    def serve(self, *options: str) -> AbstractContextManager[Serving]:
        """Run a server with these options."""

    def remaining(self) -> list[str]:
        """Return what the engine still runs, without what the engine itself is."""


def application_file(
    directory: Path, engine: str, words: dict[str, str] | None = None
) -> Path:
    """Copy the examples of engines, and change one for a test.

    Args:
        directory: of the copy.
        engine: the name of the file.
        words: words of its command, and their replacements in TOML.
    """
    if not directory.exists():
        shutil.copytree(EXAMPLES / "engines", directory)
    file = directory / f"{engine}.toml"
    changed = file.read_text()
    for word, instead in (words or {}).items():
        assert f'"{word}"' in changed
        changed = changed.replace(f'"{word}"', instead)
    file.write_text(changed)
    return directory


@contextmanager
def serve_here(directory: Path, apps: Path, *options: str) -> Iterator[Serving]:
    """Serve application files by a server on this host, to clients without pongs."""
    fixed = ("--apps", str(apps), "--ping-interval", "off")
    with server(directory, [], *fixed, *options) as service:
        yield Serving(service.connect, service.mark)


def join(serving: Serving, engine: str, line: str) -> Peer:
    """Open a session, and let its program execute the line."""
    return execute(enter(serving, engine), line)


def enter(serving: Serving, engine: str) -> Peer:
    """Open a session. Its program may start later."""
    peer = Peer(serving.connect())
    assert peer.open(f"/{engine}", framing="stdio").status == 101
    peer.message()  # the id of the session
    return peer


def execute(peer: Peer, line: str) -> Peer:
    """Wait for the program, and let it execute the line."""
    assert peer.output(3) == b"up\n"
    peer.send(stdin(f"{line}\n".encode()))
    return peer


def join_many(
    stack: ExitStack, serving: Serving, engine: str, line: str, count: int
) -> list[Peer]:
    """Open many sessions at once, which execute the line."""
    peers = [stack.enter_context(enter(serving, engine)) for _ in range(count)]
    return [execute(peer, line) for peer in peers]


def wrappers(serving: Serving) -> list[int]:
    """Return the processes of the wrapper, without the clients of the engine."""
    return [pid for pid in marked(serving.mark) if " attach " in name_of(pid)]


def await_nothing(engine: Engine, serving: Serving) -> None:
    until(lambda: not wrappers(serving), "no wrapper is left")
    until(lambda: not engine.remaining(), "the engine runs nothing")


def check_echo(engine: Engine) -> None:
    """Output arrives at once, also the part of a line, and the end of input too."""
    with engine.serve() as serving, join(serving, engine.name, "exec cat") as peer:
        for said in (b"line\n", b"part of a line"):
            peer.send(stdin(said))
            assert peer.output(len(said)) == said
        peer.send({"type": "eof"})
        story = peer.transcript()
        assert (story.stdout, story.closed) == (b"", Closed(1000, "exit 0"))
        await_nothing(engine, serving)


def check_exit_and_stderr(engine: Engine) -> None:
    line = "echo trouble >&2; printf last; exit 3"
    with engine.serve() as serving, join(serving, engine.name, line) as peer:
        story = peer.transcript()
        assert story.stdout == b"last"
        assert b"trouble\n" in story.stderr  # srun adds a line
        assert story.closed == Closed(1011, "exit 3")
        await_nothing(engine, serving)


def check_transfer(engine: Engine) -> None:
    """Every byte value passes, both ways, and nothing is lost."""
    data = random.Random(20).randbytes(TRANSFER)
    parts = [data[at : at + 30_000] for at in range(0, len(data), 30_000)]
    frames = [text(stdin(part)) for part in parts]
    with engine.serve() as serving, join(serving, engine.name, "exec cat") as peer:
        with Sender(peer, frames):
            received = peer.output(TRANSFER)
        assert received == data


def check_limit(engine: Engine) -> None:
    """A session counts until its far side has ended."""
    with engine.serve("--max-sessions", "2") as serving, ExitStack() as stack:
        first, _ = [
            stack.enter_context(join(serving, engine.name, STUBBORN)) for _ in range(2)
        ]
        with Peer(serving.connect()) as third:
            assert third.open(f"/{engine.name}", framing="stdio").status == 503
        assert len(engine.remaining()) == 2
        first.reset()
        until(lambda: len(engine.remaining()) == 1, "one session is left")
        until(lambda: admitted(serving, engine), "there is room for another")
        stack.close()
        await_nothing(engine, serving)


def admitted(serving: Serving, engine: Engine) -> bool:
    with Peer(serving.connect()) as peer:
        status = peer.open(f"/{engine.name}", framing="stdio").status
    return status == 101


def check_vanished_clients(engine: Engine) -> None:
    """Of 100 clients that vanish, no process of the stubborn program is left."""
    with engine.serve() as serving, ExitStack() as stack:
        peers = join_many(stack, serving, engine.name, STUBBORN, MANY)
        for peer in peers:
            assert peer.output(9) == b"stubborn\n"
        remaining = engine.remaining()
        assert len(remaining) == MANY
        for place, peer in enumerate(peers):
            if place % 2:
                peer.half_close()
            else:
                peer.reset()
        await_nothing(engine, serving)


def check_clients_of_a_moment(engine: Engine) -> None:
    """Clients vanish while the engine is starting their programs."""
    with engine.serve() as serving:
        for place in range(MOMENTS):
            peer = Peer(serving.connect())
            assert peer.open(f"/{engine.name}", framing="stdio").status == 101
            if place % 2:
                peer.close()
            else:
                peer.reset()
        await_nothing(engine, serving)


def check_stopped_server(engine: Engine) -> None:
    """The server ends while the engine is starting some programs and runs others."""
    with ExitStack() as stack, engine.serve("--drain-timeout", "0") as serving:
        peer = stack.enter_context(join(serving, engine.name, STUBBORN))
        assert peer.output(9) == b"stubborn\n"
        for _ in range(4):
            peer = stack.enter_context(Peer(serving.connect()))
            assert peer.open(f"/{engine.name}", framing="stdio").status == 101
    until(lambda: not engine.remaining(), "the engine runs nothing")


def check_killed_wrappers(engine: Engine) -> None:
    """SIGKILL of all but the guard ends the far side."""
    with engine.serve() as serving, ExitStack() as stack:
        peers = [
            stack.enter_context(join(serving, engine.name, STUBBORN)) for _ in range(4)
        ]
        for peer in peers:
            assert peer.output(9) == b"stubborn\n"
        for pid in wrappers(serving):
            if "--guard" not in name_of(pid):
                os.kill(pid, signal.SIGKILL)
        for peer in peers:
            assert peer.transcript().closed == Closed(1011, "signal KILL")
        await_nothing(engine, serving)


def check_start_time(engine: Engine) -> None:
    """Print the time from the request to the first byte of the program."""
    times = []
    with engine.serve() as serving:
        for _ in range(STARTS):
            began = time.perf_counter()
            with join(serving, engine.name, "exit 0") as peer:
                times.append(time.perf_counter() - began)
                assert peer.transcript().closed == Closed(1000, "exit 0")
    middle, worst = statistics.median(times) * 1000, max(times) * 1000
    print(f"start with {engine.name}: median {middle:.0f} ms, worst {worst:.0f} ms")


CHECKS = [
    check_echo,
    check_exit_and_stderr,
    check_transfer,
    check_limit,
    check_vanished_clients,
    check_clients_of_a_moment,
    check_stopped_server,
    check_killed_wrappers,
    check_start_time,
]
