"""What idle sessions cost in memory, by parts: relay, applications, kernel.

Law: each contender in turn holds the same number of sessions of the smallest
application, for each number that is asked for, as far as it goes. Serving processes
are counted by their proportional set size (proc(5), smaps_rollup) above what they had
after their first session, applications likewise; the kernel by its slabs, stacks and
page tables, which are the machine's and so only as quiet as the machine is, and hold
both ends of each connection.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from pathlib import Path
from time import perf_counter

sys.path += [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import contenders
from contenders import CEILING, Contender
from harness import Bench, Bound, Turn, pause, raise_limits
from load import enter

from launch import Service
from settling import descendants, field, read, until

BOUNDS = {"relay": 2.0, "together": 110.0}  # kB each
BATCH = 100  # sessions whose opening is timed, at each number
APPLICATION = b"tiny\n"


class Books:
    """Bytes at one moment."""

    def __init__(self, service: Service) -> None:
        family = [service.pid, *[child.pid for child in descendants(service.pid)]]
        theirs = [pid for pid in family if read(f"/proc/{pid}/comm") == APPLICATION]
        self.sessions = len(theirs)
        self.relay = sum(map(resident, set(family) - set(theirs)))
        self.applications = sum(map(resident, theirs))
        self.kernel = kernel()


def resident(pid: int) -> int:
    try:
        return field(pid, "Pss", "smaps_rollup")
    except LookupError:  # it is ending
        return 0


def kernel() -> int:
    """Unreclaimable slabs, stacks and page tables of the machine, in bytes."""
    text = Path("/proc/meminfo").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in text}
    return sizes["SUnreclaim"] + sizes["PageTables"] + sizes["KernelStack"]


def running(service: Service) -> int:
    """How many applications run."""
    pids = [child.pid for child in descendants(service.pid)]
    return sum(read(f"/proc/{pid}/comm") == APPLICATION for pid in pids)


class Climb:
    """One contender's way up to the most sessions."""

    def __init__(self, bench: Bench, one: Contender, service: Service) -> None:
        self.bench = bench
        self.one = one
        self.service = service
        self.sessions: list[socket.socket] = []

    def note(self, name: str, unit: str, value: float, *bounds: Bound) -> None:
        Turn(self.one, self.service, 1, self.bench.figure).note(
            name, unit, value, *bounds
        )

    def grow(self, count: int) -> float:
        """Opens sessions until there are so many; seconds for the last batch."""
        began = perf_counter()
        while len(self.sessions) < count:
            if count - len(self.sessions) == BATCH:
                began = perf_counter()
            self.sessions.append(enter(self.service.address, self.one.codec))
        return perf_counter() - began

    def run(self, sizes: list[int]) -> None:
        """Climbs as far as it goes; each number becomes a row."""
        try:
            with enter(self.service.address, self.one.codec):
                until(lambda: running(self.service) == 1, "the first application")
            until(lambda: running(self.service) == 0, "its end")
            empty = Books(self.service)
            for size in sizes:
                took = self.grow(size)
                until(lambda: running(self.service) == size, "all applications")  # noqa: B023
                self.count(empty, size, min(BATCH, size) / took)
        except (OSError, AssertionError) as error:
            stopped = len(self.sessions)
            print(f"{self.one.name} stops at {stopped} sessions: {error}")
            self.bench.extra.setdefault("stopped", {})[self.one.name] = stopped
        for session in self.sessions:
            session.close()

    def count(self, empty: Books, size: int, rate: float) -> None:
        now = Books(self.service)
        parts = {
            "relay": now.relay - empty.relay,
            "applications": now.applications,
            "kernel": now.kernel - empty.kernel,
        }
        parts["together"] = sum(parts.values())
        for part, total in parts.items():
            bound = (Bound(most=BOUNDS[part], against=""),) if part in BOUNDS else ()
            each = total / size / 1e3
            self.note(f"{part}, {size} sessions", "kB each", each, *bound)
        self.note(f"opening the last of {size} sessions", "per s", rate)


def main() -> int:
    bench = Bench("memory", __doc__ or "", rounds=1)
    bench.parser.add_argument("--sessions", default="500,2000", metavar="N,…")
    args = bench.parser.parse_args()
    raise_limits()
    bench.choose(args, wanted)
    with tempfile.TemporaryDirectory() as scratch:
        os.chmod(scratch, 0o755)
        programs = contenders.compiled(Path(scratch))
        if programs is None:
            print("memory: needs a C compiler (cc)", file=sys.stderr)
            return os.EX_UNAVAILABLE
        for one in bench.contenders:
            with one.start(Path(scratch), [programs[1]]) as service:
                sizes = sorted(map(int, args.sessions.split(",")))
                Climb(bench, one, service).run(sizes)
            pause(1.0)
    return bench.finish(args)


def wanted(one: Contender) -> bool:
    return one.name != CEILING and one.codec.framing in ("lines", "text", "none")


if __name__ == "__main__":
    sys.exit(main())
