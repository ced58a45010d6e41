"""Who is measured: chimirror-server, and what else a user would pick.

Law: each is started as its own documentation says, with its defaults: what it logs of
every session it logs here too. All run side by side through a whole benchmark and
cost nothing while it is not their turn. One that is not installed is left out.
Ignorance: what is measured.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from load import BARE, BINARIES, JSON, LINES, RAW, TEXTS, Codec

from launch import Service, await_port, reserved, running, server
from settling import MARK

HERE = Path(__file__).parent
REFERENCE = "websocketd"
OURS = "chimirror-server"
CEILING = "(bare C server)"

Start = Callable[[Path, list[str]], AbstractContextManager[Service]]


class Contender(NamedTuple):
    """One way to serve an application."""

    name: str
    codec: Codec
    start: Start
    version: str

    @property
    def ours(self) -> bool:
        return self.name.startswith(OURS)


def said(*argv: str) -> str:
    """The first line that a program says."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).partition("\n")[0].strip()


def packaged(name: str) -> str:
    """The version of a Debian package; empty for what is none."""
    if not shutil.which("dpkg-query"):
        return ""
    return said("dpkg-query", "--show", "--showformat=${Version}", name)


@contextmanager
def on_port(
    make: Callable[[int, list[str]], list[str]], directory: Path, command: list[str]
) -> Iterator[Service]:
    """Any program that is told its port."""
    with reserved() as port:
        mark = uuid.uuid4().hex
        with running(directory, make(port, command), mark) as service:
            await_port(service, port)
            yield service


def websocketd(program: str, *options: str) -> Start:
    def argv(port: int, command: list[str]) -> list[str]:
        own = ["--address=127.0.0.1", f"--port={port}"]
        return [program, *own, f"--passenv=PATH,{MARK}", *options, *command]

    return partial(on_port, argv)


def asyncio_bridge(port: int, command: list[str]) -> list[str]:
    return [sys.executable, "-P", str(HERE / "asyncio_bridge.py"), str(port), *command]


def socat(port: int, command: list[str]) -> list[str]:
    listen = f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,nodelay,backlog=4096"
    return ["socat", listen, f"EXEC:{' '.join(command)}"]


def websocat(port: int, command: list[str]) -> list[str]:
    own = ["websocat", "--text", f"ws-l:127.0.0.1:{port}", f"exec:{command[0]}"]
    return [*own, "--exec-args", *command[1:]]


def bare(port: int, command: list[str]) -> list[str]:
    return [str(Path(command[0]).with_name("programs")), "serve", str(port)]


def chimirror(
    own: tuple[str, ...], directory: Path, command: list[str]
) -> Iterator[Service]:
    with server(directory, command, "--framing=json,lines", *own) as service:
        yield service


def every(paths: list[str], own: tuple[str, ...]) -> list[Contender]:
    """All that this machine has.

    Args:
        paths: websocketd, and more binaries of it.
        own: options of chimirror-server.
    """
    start = partial(contextmanager(chimirror), own)
    version = importlib.metadata.version("chimirror")
    found = [
        Contender(f"{OURS}, {codec.framing}", codec, start, version)
        for codec in (LINES, JSON)
    ]
    for path in paths:
        name, version = Path(path).name, packaged(path) or said(path, "--version")
        if shutil.which(path):
            name = REFERENCE if path == REFERENCE else path
            found += [
                Contender(name, TEXTS, websocketd(path), version),
                Contender(
                    f"{name} --binary", BINARIES, websocketd(path, "--binary"), version
                ),
            ]
    version = importlib.metadata.version("websockets")
    found.append(
        Contender(
            "asyncio+websockets", TEXTS, partial(on_port, asyncio_bridge), version
        )
    )
    if shutil.which("websocat"):
        version = said("websocat", "--version")
        found.append(Contender("websocat", TEXTS, partial(on_port, websocat), version))
    if shutil.which("socat"):
        version = packaged("socat") or said("socat", "-V")
        found.append(
            Contender("socat, no WebSocket", RAW, partial(on_port, socat), version)
        )
    found.append(Contender(CEILING, BARE, partial(on_port, bare), ""))
    return found


def compiled(directory: Path) -> tuple[str, str] | None:
    """The programs of programs.c and tiny.c; None where there is no compiler."""
    cc = shutil.which("cc")
    if not cc:
        return None
    program, tiny = str(directory / "programs"), str(directory / "tiny")
    flags = ["-O2", "-Wall", "-static", "-o"]
    subprocess.run([cc, *flags, program, str(HERE / "programs.c")], check=True)
    without = [cc, "-nostdlib", *flags, tiny, str(HERE / "tiny.c")]
    if subprocess.run(without, check=False).returncode:
        return program, program  # it does the same, and starts more slowly
    return program, tiny
