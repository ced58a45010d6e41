"""What every benchmark shares: options, interleaved rounds, the table, the file.

Law: in each round every contender is measured once, in turn, so that a busy machine
slows all of them alike. What counts is the ratio to the reference in the same round;
shown are its median, and its least and greatest. Rows are also written as JSON, for
report.py and for whoever wants to compare two machines.
Ignorance: what is measured, and how.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import select
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from glob import glob
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import contenders
from contenders import Contender
from figures import REFERENCE, Bound, Figure

from launch import Service
from settling import descendants, read

HERE = Path(__file__).parent
RESULTS = HERE.parent.parent / "build" / "bench"
THREADS = "/proc/{}/task/*/schedstat"
QUIET = 0.03  # seconds in which a contender does nothing more
SPENT = 0.001  # seconds of processor time that are nothing
LONG = 5.0  # seconds that it may need to end what was measured

Measure = Callable[["Turn"], None]


class Turn(NamedTuple):
    """One contender's turn in one round."""

    contender: Contender
    service: Service
    round: int
    figure: Callable[..., Figure]

    def note(self, name: str, unit: str, value: float, *bounds: Bound) -> None:
        """Enters a value; the round before the first only warms up."""
        if self.round:
            self.figure(name, unit, bounds).add(self.contender.name, value)


class Bench:
    """One benchmark from its command line to its exit status."""

    def __init__(self, name: str, about: str, rounds: int) -> None:
        self.name = name
        self.about = about.partition("\n")[0].rstrip(".")
        self.parser = argparse.ArgumentParser(description=self.about)
        add = self.parser.add_argument
        add("--rounds", type=int, default=rounds)
        add("--websocketd", action="append", metavar="PATH", help="one more binary")
        add("--only", metavar="WORD,…", help="contenders with one of these in the name")
        add("--own", default="", metavar="OPTIONS", help="for chimirror-server")
        add("--results", type=Path, default=RESULTS, metavar="DIRECTORY")
        self.figures: dict[str, Figure] = {}
        self.contenders: list[Contender] = []
        self.extra: dict[str, Any] = {}
        self.own: tuple[str, ...] = ()  # options of chimirror-server, always
        self.reference = REFERENCE
        self.load = os.getloadavg()[0]

    def figure(self, name: str, unit: str, bounds: tuple[Bound, ...] = ()) -> Figure:
        if name not in self.figures:
            self.figures[name] = Figure(name, unit, bounds)
        return self.figures[name]

    def choose(
        self, args: argparse.Namespace, wanted: Callable[[Contender], bool]
    ) -> None:
        """Who takes part: what the benchmark can use and the user asks for."""
        paths = [REFERENCE, *(args.websocketd or ())]
        words = args.only.split(",") if args.only else [""]
        self.contenders = [
            one
            for one in contenders.every(paths, (*args.own.split(), *self.own))
            if wanted(one)
            and self.name in (one.benches or (self.name,))
            and any(word in one.name for word in words)
        ]

    @contextmanager
    def started(
        self,
        args: argparse.Namespace,
        wanted: Callable[[Contender], bool],
        *,
        tiny: bool,
    ) -> Iterator[list[tuple[Contender, Service]]]:
        """Everybody runs, each with a directory of its own."""
        raise_limits()
        self.choose(args, wanted)
        with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
            os.chmod(scratch, 0o755)
            programs = contenders.compiled(Path(scratch))
            if programs is None:
                print(f"{self.name}: needs a C compiler (cc)", file=sys.stderr)
                sys.exit(os.EX_UNAVAILABLE)
            command = [programs.tiny if tiny else programs.all]
            yield self.enter(stack, Path(scratch), command)

    def enter(
        self, stack: ExitStack, scratch: Path, command: list[str]
    ) -> list[tuple[Contender, Service]]:
        """Starts all contenders, each with a directory of its own."""
        services = []
        for number, one in enumerate(self.contenders):
            place = scratch / str(number)
            place.mkdir()
            services.append((one, stack.enter_context(one.start(place, command))))
        return services

    def run(
        self,
        args: argparse.Namespace,
        measure: Measure,
        wanted: Callable[[Contender], bool] = lambda one: True,
        *,
        tiny: bool = False,
    ) -> int:
        """Starts everybody, measures in rounds, shows, saves; the exit status.

        Args:
            args: as parsed; see `parser`.
            measure: called for every contender in every round.
            wanted: whether a contender can take part.
            tiny: the application is tiny.c's program, not programs.c's.
        """
        with self.started(args, wanted, tiny=tiny) as services:
            self.rounds(args, measure, services)
        return self.finish(args)

    def rounds(
        self,
        args: argparse.Namespace,
        measure: Measure,
        services: list[tuple[Contender, Service]],
    ) -> None:
        """Everybody has a turn in each, and another one before them."""
        for turn in range(args.rounds + 1):
            for one, service in services:
                try:
                    measure(Turn(one, service, turn, self.figure))
                except OSError as error:
                    error.add_note(f"in the turn of {one.name}")
                    raise
                rest(service)

    def finish(self, args: argparse.Namespace) -> int:
        """Shows and saves; 1 if a bound does not hold."""
        print(f"{self.about}\n{machine()}, load {self.load:.1f} before")
        print(
            f"{args.rounds} rounds; ratio: to {self.reference}, median"
            " (least to greatest)"
        )
        shown = [self.show(figure) for figure in self.figures.values()]
        self.save(args)
        return 0 if all(shown) else 1

    def show(self, figure: Figure) -> bool:
        """Prints one figure; whether its bounds hold."""
        print(f"\n{figure.name} ({figure.unit})")
        for who, values in figure.values.items():
            line = f"  {who:28}{statistics.median(values):12,.4g}"
            if ratios := figure.ratios(who, self.reference):
                low, high = ratios[0], ratios[-1]
                line += f"{statistics.median(ratios):9.2f}x  ({low:.2f} to {high:.2f})"
            for verdict in self.verdicts(figure, who):
                line += f"  {verdict['word']}: {verdict['bound']}"
                if verdict["against"] not in ("", self.reference):
                    line += f" of {verdict['against']}, is {verdict['value']}"
            print(line)
        return self.kept(figure)

    def framing(self, who: str) -> str:
        found = [one.codec.framing for one in self.contenders if one.name == who]
        return found[0] if found else ""

    def verdicts(self, figure: Figure, who: str) -> list[dict[str, str]]:
        """What a contender was promised to be, and whether it is."""
        return [
            {
                "word": "met" if bound.holds(value) else "MISSED",
                "bound": f"{bound}{'x' * bool(bound.against)}",
                "value": f"{value:,.3g}",
                "against": bound.against,
            }
            for bound, value in figure.judged(who, self.framing(who))
        ]

    def kept(self, figure: Figure) -> bool:
        words = [v["word"] for who in figure.values for v in self.verdicts(figure, who)]
        return "MISSED" not in words

    def save(self, args: argparse.Namespace) -> None:
        args.results.mkdir(parents=True, exist_ok=True)
        record = {
            "bench": self.name,
            "about": self.about,
            "machine": machine(),
            "load": self.load,
            "rounds": args.rounds,
            "reference": self.reference,
            "own": args.own,
            "contenders": [
                {"name": one.name, "version": one.version} for one in self.contenders
            ],
            "figures": [
                {
                    "name": figure.name,
                    "unit": figure.unit,
                    "values": figure.values,
                    "verdicts": {
                        who: verdicts
                        for who in figure.values
                        if (verdicts := self.verdicts(figure, who))
                    },
                }
                for figure in self.figures.values()
            ],
            **self.extra,
        }
        text = json.dumps(record, indent=1)
        (args.results / f"{self.name}.json").write_text(text + "\n")


def rest(service: Service) -> None:
    """Waits until it does nothing more: it goes on ending what was measured."""
    limit, before = monotonic() + LONG, (-1, 0.0)
    while monotonic() < limit:
        family = [service.pid, *(child.pid for child in descendants(service.pid))]
        now = (len(family), cpu_seconds(family))
        if now[0] == before[0] and abs(now[1] - before[1]) < SPENT:
            break
        before = now
        pause(QUIET)


def pause(seconds: float) -> None:
    """Lets time pass."""
    select.select([], [], [], seconds)


def percentile(values: list[float], which: float) -> float:
    """The value below which that part of them lies."""
    return sorted(values)[min(len(values) - 1, int(len(values) * which))]


def machine() -> str:
    """What a figure was measured on."""
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    kernel, python = platform.release(), platform.python_version()
    return f"{cores} cores, {memory:.0f} GiB, Linux {kernel}, Python {python}"


def raise_limits() -> None:
    """As many descriptors as we may have."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def cpu_seconds(pids: list[int]) -> float:
    """Processor time of processes so far, to the nanosecond (sched-stats)."""
    files = [file for pid in pids for file in glob(THREADS.format(pid))]
    words = [read(file).split() for file in files]
    return sum(int(found[0]) for found in words if found) / 1e9
