"""A Python application with heavy imports: warm copies of it, and exec of the same.

Law: the application (heavy.py) is served at the same time by chimirror-server with
--preload, by chimirror-server and websocketd that execute it, and handed out by
chimirror-zygote to a local client that talks to its pipes itself. In each round each
is visited once: first byte, and then the memory that its process has for itself alone
(proc(5), smaps_rollup: Private_Clean and Private_Dirty); copies let only root look.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

sys.path += [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import contenders
from contenders import OURS, Contender
from figures import REFERENCE, Bound
from harness import Bench, Turn
from load import PATIENCE, RAW, TEXTS, Address, Codec, connect

from launch import Service, preloading, zygote
from settling import field

HERE = Path(__file__).parent
SPEC = "heavy:main"
EXEC = f"exec by {OURS}"
WARM = Bound(most=0.2, against=EXEC)
SMALL = Bound(most=2.0, against="")  # MB
SAID = re.compile(rb"here (\d+) ([\d.]+)\n?")
START = b'{"start":1,"stderr":false}'  # chimirror-protocol(7)


class Visit(NamedTuple):
    """What an application has said at once, and when."""

    seconds: float
    pid: int
    imports: float  # seconds


@contextmanager
def session(codec: Codec, address: Address) -> Iterator[Visit]:
    """Over a WebSocket."""
    began = perf_counter()
    with connect(address) as connection:
        connection.sendall(codec.request)
        yield heard(partial(connection.recv, 4096), began)


@contextmanager
def direct(address: Address) -> Iterator[Visit]:
    """From chimirror-zygote itself: the pipes of a process of our own."""
    began = perf_counter()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
        link.settimeout(PATIENCE)
        link.connect(address)
        link.send(START)
        pipes = socket.recv_fds(link, 65536, 2)[1]
        try:
            yield heard(partial(read, pipes[1]), began)
        finally:
            for pipe in pipes:
                os.close(pipe)


def read(pipe: int) -> bytes:
    select.select([pipe], [], [], PATIENCE)
    return os.read(pipe, 4096)


def heard(receive: Callable[[], bytes], began: float) -> Visit:
    """Reads up to the end of the first line."""
    data = b""
    while not (found := SAID.search(data)):
        more = receive()
        if not more:
            raise ConnectionError(data)
        data += more
    return Visit(perf_counter() - began, int(found[1]), float(found[2]))


def private(pid: int) -> float:
    """MB that this process shares with no other."""
    names = ("Private_Clean", "Private_Dirty")
    return sum(field(pid, name, "smaps_rollup") for name in names) / 1e6


@contextmanager
def preload(directory: Path, command: list[str]) -> Iterator[Service]:
    shutil.copy(command[-1], directory)
    with preloading(directory, SPEC, "--framing=lines") as service:
        yield service


@contextmanager
def alone(directory: Path, command: list[str]) -> Iterator[Service]:
    shutil.copy(command[-1], directory)
    with zygote(directory, SPEC) as service:
        yield service


def every() -> list[Contender]:
    (cold, _) = contenders.ours(())
    found = [
        cold._replace(name=f"{OURS} --preload", start=preload),
        cold._replace(name="chimirror-zygote, its client", codec=RAW, start=alone),
        cold._replace(name=EXEC),
    ]
    if shutil.which(REFERENCE):
        version = contenders.packaged(REFERENCE)
        way = contenders.websocketd(REFERENCE)
        found.append(Contender(f"exec by {REFERENCE}", TEXTS, way, version))
    return found


def measure(turn: Turn) -> None:
    """One visit, and a look at the process meanwhile."""
    codec, address = turn.contender.codec, turn.service.address
    with session(codec, address) if codec.request else direct(address) as visit:
        turn.note("first byte", "ms", visit.seconds * 1e3, WARM)
        turn.note("imports, by the application's clock", "ms", visit.imports * 1e3)
        try:
            turn.note("private memory of its process", "MB", private(visit.pid), SMALL)
        except LookupError:
            print("only root can look at the memory of a copy", file=sys.stderr)


def main() -> int:
    bench = Bench("warm", __doc__ or "", rounds=30)
    bench.reference = EXEC
    args = bench.parser.parse_args()
    bench.contenders = every()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        os.chmod(scratch, 0o755)
        heavy = shutil.copy(HERE / "heavy.py", scratch)
        command = [sys.executable, heavy]
        services = bench.enter(stack, Path(scratch), command)
        bench.rounds(args, measure, services)
    return bench.finish(args)


if __name__ == "__main__":
    sys.exit(main())
