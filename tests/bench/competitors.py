"""The measured programs: chimirror-server and its competitors.

Each is started as its own documentation says, with its defaults. Its default log of
each session is written here too, into files. All run side by side through a whole
benchmark, and use no time outside of their turns. A program that is not installed is
left out. Knows nothing of the measurements.
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
from load_client import BARE, BINARIES, JSON, LINES, RAW, TEXTS, TTY, Codec
from processes import MARK
from serve import Service, await_port, pure_server, reserved, running, server

HERE = Path(__file__).parent
OURS = "chimirror-server"
FALLBACK = "(chimirror-server, zygote)"  # without the extension that starts programs
CEILING = "(bare C server)"
BASELINE = "(bare C server, spawning)"
STARTING = ("connect",)  # the benchmarks of programs with sessions of another kind
HOLDING = ("connect", "memory", "idle_cpu")
MOVING = ("connect", "echo", "beside_bulk", "oneway")
WITH_SYSTEMD = HERE.parent / "support" / "with-systemd"

Start = Callable[[Path, list[str]], AbstractContextManager[Service]]


class Competitor(NamedTuple):
    """One way to serve an application."""

    name: str
    codec: Codec
    start: Start
    version: str
    benches: tuple[str, ...] = ()  # empty: all benchmarks


def once_each(competitor: Competitor) -> bool:
    """Select each server once, for benchmarks in which framings do not matter."""
    return "json" not in competitor.name and "--binary" not in competitor.name


def first_line(*argv: str) -> str:
    """Return the first line that a program prints."""
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    return (result.stdout + result.stderr).partition("\n")[0].strip()


def package_version(name: str) -> str:
    """Return the version of a Debian package, empty if it is not installed."""
    if not shutil.which("dpkg-query"):
        return ""
    return first_line("dpkg-query", "--show", "--showformat=${Version}", name)


@contextmanager
def on_port(
    make: Callable[[int, list[str]], list[str]], directory: Path, command: list[str]
) -> Iterator[Service]:
    """Run a program that takes its port as an argument."""
    with reserved() as port:
        mark = uuid.uuid4().hex
        with running(directory, make(port, command), mark) as service:
            await_port(service, port)
            yield service


def websocketd(program: str, *options: str) -> Start:
    def argv(port: int, command: list[str]) -> list[str]:
        listen = ["--address=127.0.0.1", f"--port={port}"]
        return [program, *listen, f"--passenv=PATH,{MARK}", *options, *command]

    return partial(on_port, argv)


def asyncio_bridge(port: int, command: list[str]) -> list[str]:
    return [sys.executable, "-P", str(HERE / "asyncio_bridge.py"), str(port), *command]


def socat(port: int, command: list[str]) -> list[str]:
    listen = f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,nodelay,backlog=4096"
    return ["socat", listen, f"EXEC:{' '.join(command)}"]


def websocat(port: int, command: list[str]) -> list[str]:
    options = ["websocat", "--text", f"ws-l:127.0.0.1:{port}", f"exec:{command[0]}"]
    return [*options, "--exec-args", *command[1:]]


@contextmanager
def websockify(directory: Path, command: list[str]) -> Iterator[Service]:
    """Run websockify, which forwards connections to socat here."""

    def argv(port: int, _: list[str]) -> list[str]:
        return ["websockify", f"127.0.0.1:{port}", f"127.0.0.1:{backend.port}"]

    with (
        on_port(socat, directory, command) as backend,
        on_port(argv, directory, command) as service,
    ):
        yield service


def ttyd(port: int, command: list[str]) -> list[str]:
    return ["ttyd", "--interface=lo", f"--port={port}", "--writable", *command]


def systemd(port: int, command: list[str]) -> list[str]:
    """Return a throw-away machine on this network, with Accept=yes and no limits."""
    directory = str(Path(command[0]).parent)
    inside = [str(HERE / "accepting.sh"), str(port), " ".join(command)]
    binds = ["--bind-ro", directory, "--bind-ro", str(HERE)]
    return [str(WITH_SYSTEMD), "--share-net", *binds, "--", *inside]


def bare(port: int, command: list[str]) -> list[str]:
    return [str(Path(command[0]).with_name("programs")), "serve", str(port)]


def baseline(port: int, command: list[str]) -> list[str]:
    return [str(Path(command[0]).with_name("baseline")), str(port), *command]


def chimirror(
    options: tuple[str, ...], directory: Path, command: list[str]
) -> Iterator[Service]:
    with server(directory, command, "--framing=json,lines", *options) as service:
        yield service


def fallback(
    options: tuple[str, ...], directory: Path, command: list[str]
) -> Iterator[Service]:
    options = ("--framing=json,lines", *options)
    with pure_server(directory, command, *options) as service:
        yield service


def other_tree(
    tree: str, options: tuple[str, ...], directory: Path, command: list[str]
) -> Iterator[Service]:
    options = ("--framing=json,lines", *options)
    with server(directory, command, *options, root=tree) as service:
        yield service


def of_tree(tree: str, options: tuple[str, ...]) -> list[Competitor]:
    """Return each framing of chimirror-server from another directory."""
    start = partial(contextmanager(other_tree), tree, options)
    version = first_line("git", "-C", tree, "describe", "--always", "--dirty")
    return [
        Competitor(
            f"{OURS} ({Path(tree).name}), {codec.framing}", codec, start, version
        )
        for codec in (LINES, JSON)
    ]


def ours(options: tuple[str, ...]) -> list[Competitor]:
    """Return each framing of chimirror-server, with these options, and the fallback."""
    start = partial(contextmanager(chimirror), options)
    version = importlib.metadata.version("chimirror")
    pure = partial(contextmanager(fallback), options)
    return [
        *(
            Competitor(f"{OURS}, {codec.framing}", codec, start, version)
            for codec in (LINES, JSON)
        ),
        Competitor(FALLBACK, LINES, pure, version, STARTING),
    ]


def other(
    name: str,
    codec: Codec,
    make: Callable[[int, list[str]], list[str]],
    version: str,
    benches: tuple[str, ...] = (),
) -> Competitor:
    return Competitor(name, codec, partial(on_port, make), version, benches)


def installed() -> Iterator[Competitor]:
    """Iterate over the other competitors that are installed here."""
    version = importlib.metadata.version("websockets")
    yield other("asyncio+websockets", TEXTS, asyncio_bridge, version)
    if shutil.which("websocat"):
        yield other("websocat", TEXTS, websocat, first_line("websocat", "--version"))
    if shutil.which("ttyd"):
        yield other("ttyd", TTY, ttyd, first_line("ttyd", "--version"), STARTING)
    if shutil.which("socat"):
        version = package_version("socat") or first_line("socat", "-V")
        yield other("socat, no WebSocket", RAW, socat, version)
        if shutil.which("websockify"):
            version = f"{package_version('websockify')}, socat {version}"
            name = "websockify+socat"
            yield Competitor(name, BINARIES, websockify, version, MOVING)
    if os.getuid() == 0 and shutil.which("systemd-run") and WITH_SYSTEMD.exists():
        version = first_line("systemctl", "--version")
        yield other("systemd Accept, no WebSocket", RAW, systemd, version, HOLDING)
    yield other(CEILING, BARE, bare, "", ("connect", "echo", "oneway"))
    yield other(BASELINE, BARE, baseline, "", STARTING)


def all_competitors(
    paths: list[str], options: tuple[str, ...], trees: list[str]
) -> list[Competitor]:
    """Return all competitors on this machine.

    Args:
        paths: websocketd, and more binaries of it.
        options: Options of chimirror-server.
        trees: directories with the package of another version.
    """
    found = ours(options)
    for tree in trees:
        found += of_tree(tree, options)
    for path in paths:
        name, version = (
            Path(path).name,
            package_version(path) or first_line(path, "--version"),
        )
        if shutil.which(path):
            name = REFERENCE if path == REFERENCE else path
            found += [
                Competitor(name, TEXTS, websocketd(path), version),
                Competitor(
                    f"{name} --binary", BINARIES, websocketd(path, "--binary"), version
                ),
            ]
    return [*found, *installed()]


class Programs(NamedTuple):
    """The compiled applications."""

    all: str  # programs.c: takes its task on stdin
    tiny: str


def compiled(directory: Path) -> Programs | None:
    """Compile the programs in C. Returns None if there is no compiler."""
    cc = shutil.which("cc")
    if not cc:
        return None
    for name, options in (("programs", ()), ("baseline", ()), ("tiny", ("-nostdlib",))):
        argv = [cc, "-O2", "-Wall", "-static", *options, str(HERE / f"{name}.c")]
        if subprocess.run([*argv, "-o", str(directory / name)]).returncode:
            return None
    return Programs(str(directory / "programs"), str(directory / "tiny"))
