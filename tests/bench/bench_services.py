"""One value from process to process: pipe, socket, shared memory, chimirror.services.

A queue between two threads is measured beside them, because a library inside the
application would need no more. The receiver reads each value to its last byte.

- round trip: the median time until the same value has come back
- one way: the rate of values until the last one is acknowledged
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]

from chimirror.services import Server
from harness import Bench
from transports import (
    ANSWER,
    ECHO,
    LAST,
    PART,
    STOP,
    TRANSPORTS,
    Endpoint,
    LibraryEndpoint,
    Opened,
    V,
    read,
    value_of,
)

OURS, LINES = "chimirror.services", "chimirror.services, lines"
PEER = str(Path(__file__).with_name("services_peer.py"))
ROUNDS = 5
SECONDS = 0.05
SIZES = (64, 4 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20)
BATCH = 16 << 20  # bytes that are sent one way before an answer
MAX_VALUES = 2000  # in a batch
WARM_UP = 3


def named(size: int) -> str:
    """Return a size with its unit."""
    for unit, one in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= one and size % one == 0:
            return f"{size // one} {unit}"
    return f"{size} B"


def repeated(seconds: float, measure: Callable[[], float]) -> float:
    """Return the median of measurements that take this time, three at least."""
    found: list[float] = []
    for _ in range(WARM_UP):
        measure()
    until = perf_counter() + seconds
    while len(found) < 3 or perf_counter() < until:
        found.append(measure())
    return median(found)


def round_trip(link: Endpoint[V], value: V, size: int, seconds: float) -> float:
    """Return the seconds until a value has come back."""

    def measure() -> float:
        began = perf_counter()
        link.send(value)
        read(link.receive(size))
        return perf_counter() - began

    return repeated(seconds, measure)


def one_way(link: Endpoint[V], part: V, last: V, size: int, seconds: float) -> float:
    """Return the seconds for each value of a batch."""
    count = max(2, min(MAX_VALUES, BATCH // size))

    def measure() -> float:
        began = perf_counter()
        for _ in range(count - 1):
            link.send(part)
        link.send(last)
        link.receive(len(ANSWER))
        return (perf_counter() - began) / count

    return repeated(seconds, measure)


@contextmanager
def library(kind: str, size: int, *, memory: bool) -> Iterator[Endpoint[Any]]:
    """Serve a target by chimirror.services: bytes or text."""
    server = Server([sys.executable, "-P", PEER, kind, str(size)], memory=memory)
    of = str if kind == "text" else memoryview
    pipe = server.pipe(kind, receive=of, send=of)
    with server:
        server.start()
        yield LibraryEndpoint(pipe)
        pipe.send(spelt(kind, STOP, size))
        server.wait().check()


def spelt(kind: str, first: int, size: int) -> Any:
    """Return a value as bytes or as text."""
    value = value_of(first, size)
    return value.decode() if kind == "text" else value


def measured(bench: Bench, size: int, seconds: float, turn: int) -> None:
    """Measure all transports with one size. Turn 0 only warms up."""
    ways: dict[str, Opened] = {
        **TRANSPORTS,
        OURS: partial(library, "bytes", memory=True),
        LINES: partial(library, "bytes", memory=False),
    }
    texts: dict[str, Opened] = {
        OURS: partial(library, "text", memory=True),
        LINES: partial(library, "text", memory=False),
    }
    for kind, names in (("bytes", ways), ("text", texts)):
        for name, opened in names.items():
            part, last = spelt(kind, PART, size), spelt(kind, LAST, size)
            with opened(size) as link:
                trip = round_trip(link, spelt(kind, ECHO, size), size, seconds)
                each = one_way(link, part, last, size, seconds)
            if turn:
                text = f"{named(size)}" if kind == "bytes" else f"{named(size)} of text"
                bench.figure(f"round trip, {text}", "µs").add(name, trip * 1e6)
                bench.figure(f"one way, {text}", "MB/s").add(name, size / each / 1e6)


def main() -> int:
    bench = Bench("services", __doc__ or "", ROUNDS)
    add = bench.parser.add_argument
    add("--sizes", default=",".join(map(str, SIZES)), help="in bytes")
    add("--seconds", type=float, default=SECONDS, help="for each figure")
    args = bench.parser.parse_args()
    bench.reference = "pipe"
    for turn in range(args.rounds + 1):
        for size in map(int, args.sizes.split(",")):
            measured(bench, size, args.seconds, turn)
    return bench.finish(args)


if __name__ == "__main__":
    sys.exit(main())
