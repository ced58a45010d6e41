"""Who is measured: chimirror-server, and what else a user would pick.

Law: each is started as its own documentation says, with its defaults: what it logs of
every session it logs here too, all into files. All run side by side through a whole
benchmark and cost nothing while it is not their turn. One that is not installed is
left out.
Ignorance: what is measured.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from figures import REFERENCE
from load import BARE, BINARIES, JSON, LINES, RAW, TEXTS, TTY, Codec

from launch import Service, await_port, reserved, running, server
from settling import MARK

HERE = Path(__file__).parent
OURS = "chimirror-server"
CEILING = "(bare C server)"
FLOOR = "(bare C server, spawning)"
STARTING = ("connect",)  # the benchmarks of one whose sessions differ otherwise
HOLDING = ("connect", "memory", "idle_cpu")
MOVING = ("connect", "echo", "beside_bulk", "oneway")
WITH_SYSTEMD = HERE.parent / "with-systemd"

Start = Callable[[Path, list[str]], AbstractContextManager[Service]]


class Contender(NamedTuple):
    """One way to serve an application."""

    name: str
    codec: Codec
    start: Start
    version: str
    benches: tuple[str, ...] = ()  # empty: it takes part in all


def plain(one: Contender) -> bool:
    """Where framings do not matter, each server takes part once."""
    return "json" not in one.name and "--binary" not in one.name


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


@contextmanager
def websockify(directory: Path, command: list[str]) -> Iterator[Service]:
    """It passes connections on, here to socat."""

    def argv(port: int, _: list[str]) -> list[str]:
        return ["websockify", f"127.0.0.1:{port}", f"127.0.0.1:{behind.port}"]

    with (
        on_port(socat, directory, command) as behind,
        on_port(argv, directory, command) as service,
    ):
        yield service


def ttyd(port: int, command: list[str]) -> list[str]:
    return ["ttyd", "--interface=lo", f"--port={port}", "--writable", *command]


def systemd(port: int, command: list[str]) -> list[str]:
    """A throw-away machine on this one's network, with Accept=yes and no bounds."""
    place = str(Path(command[0]).parent)
    inside = [str(HERE / "accepting.sh"), str(port), " ".join(command)]
    binds = ["--bind-ro", place, "--bind-ro", str(HERE)]
    return [str(WITH_SYSTEMD), "--share-net", *binds, "--", *inside]


def bare(port: int, command: list[str]) -> list[str]:
    return [str(Path(command[0]).with_name("programs")), "serve", str(port)]


def floor(port: int, command: list[str]) -> list[str]:
    return [str(Path(command[0]).with_name("floor")), str(port), *command]


def chimirror(
    own: tuple[str, ...], directory: Path, command: list[str]
) -> Iterator[Service]:
    with server(directory, command, "--framing=json,lines", *own) as service:
        yield service


def ours(own: tuple[str, ...]) -> list[Contender]:
    """Each framing of chimirror-server, with these options."""
    start = partial(contextmanager(chimirror), own)
    version = importlib.metadata.version("chimirror")
    return [
        Contender(f"{OURS}, {codec.framing}", codec, start, version)
        for codec in (LINES, JSON)
    ]


def other(
    name: str,
    codec: Codec,
    make: Callable[[int, list[str]], list[str]],
    version: str,
    benches: tuple[str, ...] = (),
) -> Contender:
    return Contender(name, codec, partial(on_port, make), version, benches)


def installed() -> Iterator[Contender]:
    """The other peers that this machine has."""
    version = importlib.metadata.version("websockets")
    yield other("asyncio+websockets", TEXTS, asyncio_bridge, version)
    if shutil.which("websocat"):
        yield other("websocat", TEXTS, websocat, said("websocat", "--version"))
    if shutil.which("ttyd"):
        yield other("ttyd", TTY, ttyd, said("ttyd", "--version"), STARTING)
    if shutil.which("socat"):
        version = packaged("socat") or said("socat", "-V")
        yield other("socat, no WebSocket", RAW, socat, version)
        if shutil.which("websockify"):
            version = f"{packaged('websockify')}, socat {version}"
            name = "websockify+socat"
            yield Contender(name, BINARIES, websockify, version, MOVING)
    if os.getuid() == 0 and shutil.which("systemd-run") and WITH_SYSTEMD.exists():
        version = said("systemctl", "--version")
        yield other("systemd Accept, no WebSocket", RAW, systemd, version, HOLDING)
    yield other(CEILING, BARE, bare, "", ("connect", "echo", "oneway"))
    yield other(FLOOR, BARE, floor, "", STARTING)


def every(paths: list[str], own: tuple[str, ...]) -> list[Contender]:
    """All that this machine has.

    Args:
        paths: websocketd, and more binaries of it.
        own: options of chimirror-server.
    """
    found = ours(own)
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
    return [*found, *installed()]


class Programs(NamedTuple):
    """What has been compiled, for which benchmark's application."""

    all: str  # programs.c: does what it is told
    tiny: str


def compiled(directory: Path) -> Programs | None:
    """The programs in C; None where they cannot be compiled."""
    cc = shutil.which("cc")
    if not cc:
        return None
    for name, options in (("programs", ()), ("floor", ()), ("tiny", ("-nostdlib",))):
        argv = [cc, "-O2", "-Wall", "-static", *options, str(HERE / f"{name}.c")]
        if subprocess.run([*argv, "-o", str(directory / name)]).returncode:
            return None
    return Programs(str(directory / "programs"), str(directory / "tiny"))
