"""A Python application with heavy imports: warm copies, and exec of the same.

The application (heavy_imports.py) is served in four ways at the same time. One is
chimirror-server with --preload. Two execute it: chimirror-server and websocketd. The
last is chimirror-zygote, with a local client that uses its pipes directly.

Each is measured once in each round: the time to the first byte, then the private memory
of its process (proc(5), smaps_rollup: Private_Clean and Private_Dirty). Only root can
read that of copies.
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

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]

import competitors
from competitors import OURS, Competitor
from figures import REFERENCE, Bound
from harness import Bench, Turn
from load_client import RAW, TEXTS, TIMEOUT, Address, Codec, connect
from processes import field
from serve import Service, preloading, zygote

HERE = Path(__file__).parent
SPEC = "heavy_imports:main"
EXEC = f"exec by {OURS}"
WARM = Bound(most=0.2, against=EXEC)
SMALL = Bound(most=2.0, against="")  # MB
FIRST_LINE = re.compile(rb"here (\d+) ([\d.]+)\n?")
START = b'{"start":1,"stderr":false}'  # chimirror-protocol(7)


class FirstLine(NamedTuple):
    """The first line of an application, and its time."""

    seconds: float
    pid: int
    imports: float  # seconds


@contextmanager
def open_session(codec: Codec, address: Address) -> Iterator[FirstLine]:
    """Open a session over a WebSocket."""
    began = perf_counter()
    with connect(address) as connection:
        connection.sendall(codec.request)
        yield read_first_line(partial(connection.recv, 4096), began)


@contextmanager
def open_direct(address: Address) -> Iterator[FirstLine]:
    """Start a process by chimirror-zygote and use its pipes directly."""
    began = perf_counter()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
        link.settimeout(TIMEOUT)
        link.connect(address)
        link.send(START)
        pipes = socket.recv_fds(link, 65536, 2)[1]
        try:
            yield read_first_line(partial(read, pipes[1]), began)
        finally:
            for pipe in pipes:
                os.close(pipe)


def read(pipe: int) -> bytes:
    select.select([pipe], [], [], TIMEOUT)
    return os.read(pipe, 4096)


def read_first_line(receive: Callable[[], bytes], began: float) -> FirstLine:
    """Read to the end of the first line."""
    data = b""
    while not (found := FIRST_LINE.search(data)):
        more = receive()
        if not more:
            raise ConnectionError(data)
        data += more
    return FirstLine(perf_counter() - began, int(found[1]), float(found[2]))


def private(pid: int) -> float:
    """Return the private memory of a process in MB."""
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


def variants() -> list[Competitor]:
    cold = competitors.ours(())[0]
    found = [
        cold._replace(name=f"{OURS} --preload", start=preload),
        cold._replace(name="chimirror-zygote, its client", codec=RAW, start=alone),
        cold._replace(name=EXEC),
    ]
    if shutil.which(REFERENCE):
        version = competitors.package_version(REFERENCE)
        start = competitors.websocketd(REFERENCE)
        found.append(Competitor(f"exec by {REFERENCE}", TEXTS, start, version))
    return found


def measure(turn: Turn) -> None:
    """Measure one session and the memory of its process."""
    codec, address = turn.competitor.codec, turn.service.address
    with (
        open_session(codec, address)
        if codec.request
        else open_direct(address) as request
    ):
        turn.note("first byte", "ms", request.seconds * 1e3, WARM)
        turn.note("imports, by the application's clock", "ms", request.imports * 1e3)
        try:
            turn.note(
                "private memory of its process", "MB", private(request.pid), SMALL
            )
        except LookupError:
            print("only root can look at the memory of a copy", file=sys.stderr)


def main() -> int:
    bench = Bench("warm", __doc__ or "", rounds=30)
    bench.reference = EXEC
    args = bench.parser.parse_args()
    bench.competitors = variants()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        os.chmod(scratch, 0o755)
        heavy = shutil.copy(HERE / "heavy_imports.py", scratch)
        command = [sys.executable, heavy]
        services = bench.enter(stack, Path(scratch), command)
        bench.rounds(args, measure, services)
    return bench.finish(args)


if __name__ == "__main__":
    sys.exit(main())
