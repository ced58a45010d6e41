"""What idle sessions cost, and how fast one more comes, over the number of them.

Law: each contender alone holds so many sessions of the smallest application (tiny.c),
for each number that is asked for, as far as it goes; before them some sessions have
come and gone, and what is held then is its own. Coming: the last few hundred before
each number, some of them at a time (crowd.py), each until its application has spoken.
"""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

sys.path += [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import contenders
import limits
from books import available, family, kernel, resident
from contenders import Contender, plain
from crowds import Crowds, Failure
from figures import Bound
from harness import Bench, pause

from launch import Service
from settling import until

BOUNDS = {"relay": 2.0, "together": 110.0}  # kB each
STEP = 500  # sessions; the last of them are timed
FIRST = 50  # sessions of each process of clients, that come and go before
ENDING = 200.0  # seconds: systemd needs many for some thousand
LEFT = 0.2  # of the machine's memory: no further


class Climb:
    """One contender's way up to the most sessions."""

    def __init__(self, bench: Bench, one: Contender, service: Service) -> None:
        self.bench = bench
        self.one = one
        self.service = service

    def run(self, sizes: list[int], seconds: float) -> None:
        """Climbs as far as it goes; each number becomes rows."""
        live = 0
        with ExitStack() as stack:
            crowds = Crowds(stack, self.one, self.service, sizes[-1])
            try:
                crowds.all("open", FIRST)
                self.vacate(crowds)
                self.empty, self.before = self.relay(), kernel()
                limit = monotonic() + seconds
                while live < sizes[-1]:
                    step = min([STEP, *(s - live for s in sizes if s > live)])
                    took = crowds.open(step)
                    live += step
                    if live in sizes:
                        self.count(live, step / took)
                    elif monotonic() > limit:
                        raise Failure(f"it took more than {seconds:.0f} s")
                    elif available() < LEFT:
                        raise Failure("there is no more memory")
            except Failure as failure:
                print(f"{self.one.name} stops after {live} sessions: {failure}")
                self.bench.extra["stopped"][self.one.name] = [live, str(failure)]
            self.vacate(crowds)

    def vacate(self, crowds: Crowds) -> None:
        crowds.all("drop")
        ended = lambda: not family(self.service.pid)[1]  # noqa: E731
        until(ended, "no application is left", ENDING)

    def relay(self) -> int:
        return resident(family(self.service.pid)[0])

    def count(self, live: int, rate: float) -> None:
        now = kernel()
        serving, applications = family(self.service.pid)
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
        self.bench.figure(name, unit, bounds).add(self.one.name, value)


def main() -> int:
    bench = Bench("memory", __doc__ or "", rounds=1)
    add = bench.parser.add_argument
    add("--sessions", default="500,2000,4000,10000", metavar="N,…")
    add("--seconds", type=float, default=40.0, help="for each to come so far, at most")
    args = bench.parser.parse_args()
    sizes = sorted(map(int, args.sessions.split(",")))
    bench.own = (f"--max-sessions={sizes[-1] + STEP}",)
    bench.extra["stopped"] = {}
    bench.choose(args, plain)
    with tempfile.TemporaryDirectory() as scratch, limits.raised(sizes[-1]) as said:
        print(*said, sep="\n")
        os.chmod(scratch, 0o755)
        programs = contenders.compiled(Path(scratch))
        if programs is None:
            print("memory: needs a C compiler (cc)", file=sys.stderr)
            return os.EX_UNAVAILABLE
        for one in bench.contenders:
            with one.start(Path(scratch), [programs.tiny]) as service:
                Climb(bench, one, service).run(sizes, args.seconds)
            pause(1.0)
    return bench.finish(args)


if __name__ == "__main__":
    sys.exit(main())
