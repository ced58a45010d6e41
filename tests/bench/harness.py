"""The common part of all benchmarks: options, interleaved rounds, table and file.

In each round every competitor is measured once, in turn, so that a busy machine slows
all of them alike. The result is the ratio to the reference in the same round. Shown
are its median, least and greatest value. Rows are also written as JSON, for report.py
and for comparisons of machines. Knows nothing of the measurements.
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

import competitors
from competitors import Competitor
from figures import NOT_REACHED, REACHED, REFERENCE, Bound, Figure
from processes import descendants, read
from serve import Service

HERE = Path(__file__).parent
RESULTS = HERE.parent.parent / "build" / "bench"
THREADS = "/proc/{}/task/*/schedstat"
QUIET = 0.03  # seconds without activity of a competitor
SPENT = 0.001  # seconds of processor time that count as none
MAX_REST = 5.0  # seconds that a competitor may need to end its sessions

Measure = Callable[["Turn"], None]


class Turn(NamedTuple):
    """One competitor's turn in one round."""

    competitor: Competitor
    service: Service
    round: int
    figure: Callable[..., Figure]

    def note(self, name: str, unit: str, value: float, *bounds: Bound) -> None:
        """Record a value. Round 0 only warms up."""
        if self.round:
            self.figure(name, unit, bounds).add(self.competitor.name, value)


class Bench:
    """One benchmark from its command line to its exit status."""

    def __init__(self, name: str, about: str, rounds: int) -> None:
        self.name = name
        self.about = about.partition("\n")[0].rstrip(".")
        self.parser = argparse.ArgumentParser(description=self.about)
        add = self.parser.add_argument
        add("--rounds", type=int, default=rounds)
        add("--websocketd", action="append", metavar="PATH", help="one more binary")
        add("--tree", action="append", metavar="DIRECTORY", help="of another version")
        add(
            "--only", metavar="WORD,…", help="competitors with one of these in the name"
        )
        add("--own", default="", metavar="OPTIONS", help="for chimirror-server")
        add("--results", type=Path, default=RESULTS, metavar="DIRECTORY")
        self.figures: dict[str, Figure] = {}
        self.competitors: list[Competitor] = []
        self.extra: dict[str, Any] = {}
        self.options: tuple[str, ...] = ()  # fixed options of chimirror-server
        self.reference = REFERENCE
        self.offered = competitors.all_competitors
        self.load = os.getloadavg()[0]

    def figure(self, name: str, unit: str, bounds: tuple[Bound, ...] = ()) -> Figure:
        if name not in self.figures:
            self.figures[name] = Figure(name, unit, bounds)
        return self.figures[name]

    def choose(
        self, args: argparse.Namespace, wanted: Callable[[Competitor], bool]
    ) -> None:
        """Choose the competitors that the benchmark can use and the user asks for."""
        paths = [REFERENCE, *(args.websocketd or ())]
        words = args.only.split(",") if args.only else [""]
        self.competitors = [
            competitor
            for competitor in self.offered(
                paths, (*args.own.split(), *self.options), args.tree or []
            )
            if wanted(competitor)
            and self.name in (competitor.benches or (self.name,))
            and any(word in competitor.name for word in words)
        ]

    @contextmanager
    def started(
        self,
        args: argparse.Namespace,
        wanted: Callable[[Competitor], bool],
        *,
        tiny: bool,
    ) -> Iterator[list[tuple[Competitor, Service]]]:
        """Compile the applications and run all competitors."""
        raise_limits()
        self.choose(args, wanted)
        with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
            os.chmod(scratch, 0o755)
            programs = competitors.compiled(Path(scratch))
            if programs is None:
                print(f"{self.name}: needs a C compiler (cc)", file=sys.stderr)
                sys.exit(os.EX_UNAVAILABLE)
            command = [programs.tiny if tiny else programs.all]
            yield self.enter(stack, Path(scratch), command)

    def enter(
        self, stack: ExitStack, scratch: Path, command: list[str]
    ) -> list[tuple[Competitor, Service]]:
        """Start all competitors, each with a directory of its own."""
        services = []
        for number, competitor in enumerate(self.competitors):
            directory = scratch / str(number)
            directory.mkdir()
            services.append(
                (competitor, stack.enter_context(competitor.start(directory, command)))
            )
        return services

    def run(
        self,
        args: argparse.Namespace,
        measure: Measure,
        wanted: Callable[[Competitor], bool] = lambda competitor: True,
        *,
        tiny: bool = False,
    ) -> int:
        """Start all competitors, measure in rounds, show and save.

        Args:
            args: The parsed command line.
            measure: Called for every competitor in every round.
            wanted: Returns whether a competitor can take part.
            tiny: Whether the application is tiny.c instead of programs.c.

        Returns:
            The exit status.
        """
        with self.started(args, wanted, tiny=tiny) as services:
            self.rounds(args, measure, services)
        return self.finish(args)

    def rounds(
        self,
        args: argparse.Namespace,
        measure: Measure,
        services: list[tuple[Competitor, Service]],
    ) -> None:
        """Give each competitor a turn in each round, after one round to warm up."""
        for turn in range(args.rounds + 1):
            for competitor, service in services:
                try:
                    measure(Turn(competitor, service, turn, self.figure))
                except OSError as error:
                    error.add_note(f"in the turn of {competitor.name}")
                    raise
                rest(service)

    def finish(self, args: argparse.Namespace) -> int:
        """Show and save. Returns 1 if a goal is not reached."""
        print(f"{self.about}\n{machine()}, load {self.load:.1f} before")
        print(
            f"{args.rounds} rounds; ratio: to {self.reference}, median"
            " (least to greatest)"
        )
        shown = [self.show(figure) for figure in self.figures.values()]
        self.save(args)
        return 0 if all(shown) else 1

    def show(self, figure: Figure) -> bool:
        """Print one figure. Returns whether its goals are reached."""
        print(f"\n{figure.name} ({figure.unit})")
        for name, values in figure.values.items():
            line = f"  {name:28}{statistics.median(values):12,.4g}"
            if ratios := figure.ratios(name, self.reference):
                low, high = ratios[0], ratios[-1]
                line += f"{statistics.median(ratios):9.2f}x  ({low:.2f} to {high:.2f})"
            for verdict in self.verdicts(figure, name):
                line += f"  {verdict['word']}: {verdict['bound']}"
                if verdict["against"] not in ("", self.reference):
                    line += f" of {verdict['against']}, is {verdict['value']}"
            print(line)
        return self.kept(figure)

    def framing(self, name: str) -> str:
        found = [
            competitor.codec.framing
            for competitor in self.competitors
            if competitor.name == name
        ]
        return found[0] if found else ""

    def verdicts(self, figure: Figure, name: str) -> list[dict[str, str]]:
        """Return the goals of a competitor, each with its verdict."""
        return [
            {
                "word": REACHED if bound.holds(value) else NOT_REACHED,
                "bound": f"{bound}{'x' * bool(bound.against)}",
                "value": f"{value:,.3g}",
                "against": bound.against,
            }
            for bound, value in figure.goals(name, self.framing(name))
        ]

    def kept(self, figure: Figure) -> bool:
        words = [
            v["word"] for name in figure.values for v in self.verdicts(figure, name)
        ]
        return NOT_REACHED not in words

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
                {"name": competitor.name, "version": competitor.version}
                for competitor in self.competitors
            ],
            "figures": [
                {
                    "name": figure.name,
                    "unit": figure.unit,
                    "values": figure.values,
                    "verdicts": {
                        name: verdicts
                        for name in figure.values
                        if (verdicts := self.verdicts(figure, name))
                    },
                }
                for figure in self.figures.values()
            ],
            **self.extra,
        }
        text = json.dumps(record, indent=1)
        (args.results / f"{self.name}.json").write_text(text + "\n")


def rest(service: Service) -> None:
    """Wait until a service is idle: it still ends the measured sessions."""
    limit, before = monotonic() + MAX_REST, (-1, 0.0)
    while monotonic() < limit:
        root = service.process.pid
        family = [root, *(child.pid for child in descendants(root))]
        now = (len(family), cpu_seconds(family))
        if now[0] == before[0] and abs(now[1] - before[1]) < SPENT:
            break
        before = now
        pause(QUIET)


def pause(seconds: float) -> None:
    """Sleep without a busy loop."""
    select.select([], [], [], seconds)


def percentile(values: list[float], which: float) -> float:
    """Return the value below which this part of the values lies."""
    return sorted(values)[min(len(values) - 1, int(len(values) * which))]


def machine() -> str:
    """Describe the machine of a figure."""
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    kernel, python = platform.release(), platform.python_version()
    return f"{cores} cores, {memory:.0f} GiB, Linux {kernel}, Python {python}"


def raise_limits() -> None:
    """Raise the limit of descriptors as far as this user may."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def cpu_seconds(pids: list[int]) -> float:
    """Return processor time of processes so far, in seconds (sched-stats)."""
    files = [file for pid in pids for file in glob(THREADS.format(pid))]
    words = [read(file).split() for file in files]
    return sum(int(found[0]) for found in words if found) / 1e9
