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
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import contenders
from contenders import REFERENCE, Contender

from launch import Service

HERE = Path(__file__).parent
RESULTS = HERE.parent.parent / "build" / "bench"
THREADS = "task/*/schedstat"
QUIET = 0.03  # seconds between two measurements: the one before goes on ending

Measure = Callable[["Turn"], None]


class Bound(NamedTuple):
    """What our ratio has to be, or our value where it is `against` nobody."""

    least: float = 0.0
    most: float = float("inf")
    framing: str = ""  # of ours, that is held to it; empty: each
    against: str = REFERENCE

    def __str__(self) -> str:
        return f"at least {self.least}" if self.least else f"at most {self.most}"

    def holds(self, ratio: float) -> bool:
        return self.least <= ratio <= self.most


class Figure:
    """One measured quantity: who had which values, round by round."""

    def __init__(self, name: str, unit: str, bounds: tuple[Bound, ...]) -> None:
        self.name = name
        self.unit = unit
        self.bounds = bounds
        self.values: dict[str, list[float]] = {}

    def add(self, who: str, value: float) -> None:
        self.values.setdefault(who, []).append(value)

    def ratios(self, who: str, against: str = REFERENCE) -> list[float]:
        """Of each round in which both have a value, in order of size."""
        if not against:
            return sorted(self.values[who])
        pairs = zip(self.values[who], self.values.get(against, ()), strict=False)
        return sorted(mine / its for mine, its in pairs if its)

    def judged(self, who: Contender) -> list[tuple[Bound, float]]:
        """The bounds that this contender is held to, and its ratios."""
        held = [bound for bound in self.bounds if who.ours]
        return [
            (bound, statistics.median(self.ratios(who.name, bound.against)))
            for bound in held
            if bound.framing in ("", who.codec.framing)
            and self.ratios(who.name, bound.against)
        ]


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
            if wanted(one) and any(word in one.name for word in words)
        ]

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
        raise_limits()
        self.choose(args, wanted)
        with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
            os.chmod(scratch, 0o755)
            programs = contenders.compiled(Path(scratch))
            if programs is None:
                print(f"{self.name}: needs a C compiler (cc)", file=sys.stderr)
                return os.EX_UNAVAILABLE
            services = []
            for number, one in enumerate(self.contenders):
                place = Path(scratch) / str(number)
                place.mkdir()
                way = one.start(place, [programs[tiny]])
                services.append((one, stack.enter_context(way)))
            for turn in range(args.rounds + 1):
                for one, service in services:
                    try:
                        measure(Turn(one, service, turn, self.figure))
                    except OSError as error:
                        error.add_note(f"in the turn of {one.name}")
                        raise
                    pause(QUIET)
        return self.finish(args)

    def finish(self, args: argparse.Namespace) -> int:
        """Shows and saves; 1 if a bound does not hold."""
        print(f"{self.about}\n{machine()}, load {self.load:.1f} before")
        print(
            f"{args.rounds} rounds; ratio: to {REFERENCE}, median (least to greatest)"
        )
        shown = [self.show(figure) for figure in self.figures.values()]
        self.save(args)
        return 0 if all(shown) else 1

    def show(self, figure: Figure) -> bool:
        """Prints one figure; whether its bounds hold."""
        print(f"\n{figure.name} ({figure.unit})")
        kept = True
        for one in self.contenders:
            if one.name not in figure.values:
                continue
            middle = statistics.median(figure.values[one.name])
            line = f"  {one.name:26}{middle:12,.4g}"
            if ratios := figure.ratios(one.name):
                low, high = ratios[0], ratios[-1]
                line += f"{statistics.median(ratios):9.2f}x  ({low:.2f} to {high:.2f})"
            for bound, ratio in figure.judged(one):
                word = "within" if bound.holds(ratio) else "MISSED"
                kept = kept and bound.holds(ratio)
                if bound.against not in ("", REFERENCE):
                    word += f", {ratio:.2f}x {bound.against}"
                line += f"  {word}: {bound}"
            print(line)
        return kept

    def save(self, args: argparse.Namespace) -> None:
        args.results.mkdir(parents=True, exist_ok=True)
        record = {
            "bench": self.name,
            "about": self.about,
            "machine": machine(),
            "load": self.load,
            "rounds": args.rounds,
            "own": args.own,
            "contenders": [
                {"name": one.name, "framing": one.codec.framing, "version": one.version}
                for one in self.contenders
            ],
            "figures": [
                {
                    "name": figure.name,
                    "unit": figure.unit,
                    "values": figure.values,
                    "bounds": [bound._asdict() for bound in figure.bounds],
                }
                for figure in self.figures.values()
            ],
            **self.extra,
        }
        text = json.dumps(record, indent=1).replace("Infinity", "null")
        (args.results / f"{self.name}.json").write_text(text + "\n")


def pause(seconds: float) -> None:
    """Lets what has been measured end."""
    import select

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
    files = [file for pid in pids for file in Path(f"/proc/{pid}").glob(THREADS)]
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9
