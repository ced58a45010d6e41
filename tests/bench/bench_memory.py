"""Memory of idle sessions, and rate of new ones, over their number.

Each competitor alone holds sessions of the smallest application (tiny.c), as many as
it can up to each requested number. Some sessions are opened and closed before, and the
memory after that is counted as the server's own.

The rate is that of the last few hundred sessions before each number. They are opened a
few at a time (client_process.py), each until its application has written.
"""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]

import competitors
import limits
from client_pool import ClientPool, Failure
from competitors import Competitor, once_each
from figures import Bound
from harness import Bench, pause
from memory import available, family, kernel, resident
from processes import until
from serve import Service

BOUNDS = {"relay": 2.0, "together": 110.0}  # kB each
STEP = 500  # sessions, of which the last are timed
FIRST = 50  # sessions of each client process that are opened and closed before
TIMEOUT = 200.0  # seconds: systemd needs many for a few thousand units
MIN_AVAILABLE = 0.2  # of the machine's memory must stay available


class Growth:
    """The growth of one competitor to the largest number of sessions."""

    def __init__(self, bench: Bench, competitor: Competitor, service: Service) -> None:
        self.bench = bench
        self.competitor = competitor
        self.service = service

    def run(self, sizes: list[int], seconds: float) -> None:
        """Grow as far as possible, and record each number."""
        live = 0
        with ExitStack() as stack:
            pool = ClientPool(stack, self.competitor, self.service, sizes[-1])
            try:
                pool.all("open", FIRST)
                self.close_all(pool)
                self.empty, self.before = self.relay(), kernel()
                limit = monotonic() + seconds
                while live < sizes[-1]:
                    step = min([STEP, *(s - live for s in sizes if s > live)])
                    took = pool.open(step)
                    live += step
                    if live in sizes:
                        self.count(live, step / took)
                    elif monotonic() > limit:
                        raise Failure(f"it took more than {seconds:.0f} s")
                    elif available() < MIN_AVAILABLE:
                        raise Failure("there is no more memory")
            except Failure as failure:
                print(f"{self.competitor.name} stops after {live} sessions: {failure}")
                self.bench.extra["stopped"][self.competitor.name] = [live, str(failure)]
            self.close_all(pool)

    def close_all(self, pool: ClientPool) -> None:
        pool.all("drop")
        ended = lambda: not family(self.service.process.pid)[1]  # noqa: E731
        until(ended, "no application is left", TIMEOUT)

    def relay(self) -> int:
        return resident(family(self.service.process.pid)[0])

    def count(self, live: int, rate: float) -> None:
        now = kernel()
        serving, applications = family(self.service.process.pid)
        parts = {
            "relay": resident(serving) - self.empty,
            "applications": resident(applications),
            "kernel": sum(now.values()) - sum(self.before.values()),
        }
        parts["together"] = sum(parts.values())
        for part, total in parts.items():
            bound = (Bound(most=BOUNDS[part], against=""),) if part in BOUNDS else ()
            self.note(f"{part}, {live} sessions", "kB each", total / live / 1e3, *bound)
        self.note(f"coming, {live} sessions", "per s", rate)

    def note(self, name: str, unit: str, value: float, *bounds: Bound) -> None:
        self.bench.figure(name, unit, bounds).add(self.competitor.name, value)


def main() -> int:
    bench = Bench("memory", __doc__ or "", rounds=1)
    add = bench.parser.add_argument
    add("--sessions", default="500,2000,4000,10000", metavar="N,…")
    add("--seconds", type=float, default=40.0, help="for each to come so far, at most")
    args = bench.parser.parse_args()
    sizes = sorted(map(int, args.sessions.split(",")))
    bench.options = (f"--max-sessions={sizes[-1] + STEP}",)
    bench.extra["stopped"] = {}
    bench.choose(args, once_each)
    with tempfile.TemporaryDirectory() as scratch, limits.raised(sizes[-1]) as messages:
        print(*messages, sep="\n")
        os.chmod(scratch, 0o755)
        programs = competitors.compiled(Path(scratch))
        if programs is None:
            print("memory: needs a C compiler (cc)", file=sys.stderr)
            return os.EX_UNAVAILABLE
        for competitor in bench.competitors:
            with competitor.start(Path(scratch), [programs.tiny]) as service:
                Growth(bench, competitor, service).run(sizes, args.seconds)
            pause(1.0)
    return bench.finish(args)


if __name__ == "__main__":
    sys.exit(main())
