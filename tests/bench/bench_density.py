"""How many live sessions one chimirror-server holds, and what they cost.

Law: the server runs with its defaults, told only how many sessions there may be; the
application (tiny.c) is as small as a process can be. Sessions come by the thousand;
after each thousand, rate and memory are noted. Then every single one echoes a line of
its own, all are left idle but for pings, some leave and others come, all say goodbye,
and nothing may be left: no process, no descriptor. The size is what the machine allows
(limits.py), which is raised for the run where we may, and restored.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic

sys.path += [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import contenders
import limits
from books import Server, resident
from crowds import Crowds, Failure
from figures import Bound, Figure
from harness import RESULTS, Bench, cpu_seconds, machine, pause

from settling import until

STEP = 1000  # sessions between two notes
DRAWN = (1000, 2000, 5000, 10_000, 20_000, 30_000, 50_000)  # and the last
FEW = 20  # sessions that are asked while all others are idle
CHURN = 500  # sessions that leave, and as many that come, with all others there
DEEP = 500  # sessions from which the figures are held to what is promised
SAID = 20  # lines of a log
PATIENCE = 60.0  # seconds for all processes to be gone
SETTLED = 0.5  # seconds: the last descriptors are closed at the end of a turn
WITHOUT_COMPILER = ["sh", "-c", "echo here; exec cat"]

BOUNDS = {
    "connections, last thousand": Bound(least=1000, against=""),
    "CPU while idle": Bound(most=10.0, against=""),
    "relay": Bound(most=2.0, against=""),
    "together": Bound(most=110.0, against=""),
}


class Density:
    """One run: its phases in order."""

    def __init__(self, bench: Bench, args: argparse.Namespace) -> None:
        self.bench = bench
        self.who = bench.contenders[0].name
        self.args = args
        self.growth: list[dict[str, float]] = []

    def run(self, crowds: Crowds, server: Server) -> None:
        """All phases; raises Failure where something must hold and does not."""
        self.crowds, self.server = crowds, server
        self.warm_up()
        sessions = self.grow()
        self.echo(sessions)
        self.idle(sessions)
        self.churn(sessions)
        self.part(sessions)

    def note(self, name: str, unit: str, value: float) -> None:
        """Enters one figure, and says at once what it is."""
        bound = (BOUNDS[name],) if name in BOUNDS and self.judged else ()
        figure = self.bench.figure(name, unit, bound)
        figure.add(self.who, value)
        self.missed |= not self.bench.kept(figure)
        words = [f"{v['word']}: {v['bound']}" for v in self.verdicts(figure)]
        print(f"  {name:40}{value:12,.4g} {unit}", *words, flush=True)

    def verdicts(self, figure: Figure) -> list[dict[str, str]]:
        return self.bench.verdicts(figure, self.who)

    missed = False

    @property
    def judged(self) -> bool:
        return bool(self.args.sessions >= DEEP)

    def warm_up(self) -> None:
        """Each worker has once had sessions, and what they make it load."""
        self.crowds.all("open", 50)
        self.crowds.all("echo")
        self.crowds.all("close")
        await_(lambda: not self.server.applications(), "no application to begin with")
        pause(SETTLED)
        self.server.settle()

    def grow(self) -> int:
        """Thousand by thousand, each by all clients together."""
        wanted, limit = self.args.sessions, monotonic() + self.args.growth
        sessions = 0
        print(
            "sessions   per second  CPU ms    relay  application  kernel"
            "  together (kB each)"
        )
        while sessions < wanted:
            if monotonic() > limit:
                print(f"MISSED: more than {sessions} within {self.args.growth:.0f} s")
                self.missed = True
                break
            count = min(STEP, wanted - sessions)
            before = cpu_seconds(self.server.own)
            took = self.crowds.open(count)
            sessions += count
            used = (cpu_seconds(self.server.own) - before) / count
            row = {"sessions": sessions, "rate": count / took, "cpu": used * 1000}
            self.row(sessions, row | self.server.books(sessions))
        return sessions

    def row(self, sessions: int, row: dict[str, float]) -> None:
        self.growth.append(row)
        if sessions in DRAWN or sessions == self.args.sessions:
            self.draw(sessions, row)
        if sessions % (STEP * self.args.every) and sessions != self.args.sessions:
            return
        inside = row["together"] - row["relay"] - row["application"]
        print(
            f"{sessions:8,}{row['rate']:12,.0f}{row['cpu']:8.2f}{row['relay']:9.2f}"
            f"{row['application']:13.1f}{inside:8.1f}{row['together']:5.0f}",
            flush=True,
        )

    def draw(self, sessions: int, row: dict[str, float]) -> None:
        """What report.py makes lines of, with those of bench_memory.py."""
        for name in ("together", "relay"):
            figure = self.bench.figure(f"{name}, {sessions} sessions", "kB each")
            figure.add(self.who, row[name])
        rate = self.bench.figure(f"coming, {sessions} sessions", "per s")
        rate.add(self.who, row["rate"])

    def echo(self, sessions: int) -> None:
        """Every session answers, with its own line."""
        last = self.growth[-1]
        self.note("sessions", "", sessions)
        rates = [row["rate"] for row in self.growth]
        self.note("connections, median", "per s", statistics.median(rates))
        self.note("connections, last thousand", "per s", rates[-1])
        self.note("CPU of the server, last thousand", "ms of each", last["cpu"])
        for name in ("relay", "application", *self.server.before, "together"):
            self.note(name, "kB of each session", last[name])
        answers = self.crowds.all("echo")
        right = sum(answer["right"] for answer in answers)
        if right != sessions:
            raise Failure(f"{right} of {sessions} sessions echoed")
        took = max(answer["seconds"] for answer in answers)
        self.note("echoes per second, one of every session", "per s", right / took)

    def idle(self, sessions: int) -> None:
        """Nothing is said but pings."""
        asked = self.crowds.pings()
        before, began = cpu_seconds(self.server.own), monotonic()
        pause(self.args.hold)
        used, took = cpu_seconds(self.server.own) - before, monotonic() - began
        self.note("CPU while idle", "% of a core", used / took * 100)
        self.note("pings per second", "per s", (self.crowds.pings() - asked) / took)
        found = self.crowds.ask("probe", [min(FEW, sessions // 2)])[0]
        self.note("echo p50, all others idle", "ms", found["p50"] * 1000)
        self.present(sessions)

    def churn(self, sessions: int) -> None:
        """Some leave, others come."""
        count = min(CHURN, sessions // 4)
        shares = self.crowds.share(count)
        self.goodbye(shares, "churn", count)
        rate = count / self.crowds.open(count)
        self.note("come while some just left", "per s", rate)
        self.present(sessions)

    def present(self, sessions: int) -> None:
        """None was dropped."""
        live = self.crowds.live()
        if live != sessions:
            raise Failure(f"{sessions - live} sessions were dropped")

    def part(self, sessions: int) -> None:
        """All leave, and nothing stays."""
        began = monotonic()
        everyone = [0] * len(self.crowds.processes)
        self.goodbye(everyone, "leave at last", sessions)
        self.settled()
        self.note("all gone after", "s", monotonic() - began)
        self.note("the server after it", "MB", resident(self.server.own) / 1e6)

    def goodbye(self, shares: list[int], name: str, count: int) -> None:
        answers = self.crowds.ask("close", shares)
        closed = sum(answer["closed"] for answer in answers)
        if closed != count:
            raise Failure(f"{closed} of {count} close frames were answered")
        took = max(answer["seconds"] for answer in answers)
        self.note(f"goodbyes per second, {name}", "per s", count / took)

    def settled(self) -> None:
        """No process and no descriptor of any session is left."""
        await_(lambda: not self.server.applications(), "no application left")
        held = self.server.held
        await_(lambda: self.server.census() == held, f"as many descriptors as {held}")


def await_(ask: Callable[[], object], what: str) -> None:
    try:
        until(ask, what, PATIENCE)
    except AssertionError as error:
        raise Failure(str(error)) from None


def complaints(log: Path) -> list[str]:
    """What a server has said that is not the beginning or the end of a session."""
    lines = log.read_text().splitlines()
    return [line for line in lines if '"CHIMIRROR_SESSION"' not in line][-SAID:]


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM ends us as Ctrl-C does: on the way out everything is restored."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def hold(bench: Bench, args: argparse.Namespace) -> int:
    """Starts server and clients, runs the phases, saves; the exit status."""
    own = (f"--max-sessions={args.sessions + STEP}", *args.own.split())
    one = contenders.ours(own)[0]
    bench.contenders = [one]
    density = Density(bench, args)
    with ExitStack() as stack:
        stack.enter_context(terminable())
        for line in stack.enter_context(limits.raised(args.sessions)):
            print(line)
        scratch = stack.enter_context(tempfile.TemporaryDirectory())
        os.chmod(scratch, 0o755)
        programs = contenders.compiled(Path(scratch))
        if not programs:
            print("without a C compiler the application is cat, which is larger")
        command = [programs.tiny] if programs else WITHOUT_COMPILER
        service = stack.enter_context(one.start(Path(scratch), command))
        try:
            run = Server(service)
            print(f"{len(run.own)} processes of the server", flush=True)
            density.run(Crowds(stack, one, service, args.sessions), run)
        except Failure as failure:
            print(f"FAILED: {failure}")
            print(*complaints(service.log), sep="\n")
            return 1
    bench.extra |= {"growth": density.growth, "sessions": args.sessions}
    bench.save(args)
    return int(density.missed)


def main() -> int:
    bench = Bench("density", __doc__ or "", rounds=1)
    proposed, bound = limits.size()
    parser = argparse.ArgumentParser(description=bench.about)
    add = parser.add_argument
    add("--sessions", type=int, default=proposed, help="%(default)s on this machine")
    add("--hold", type=float, default=60.0, help="seconds of idleness")
    add("--growth", type=float, default=180.0, help="seconds for all to come, at most")
    add("--every", type=int, default=5, metavar="N", help="show each Nth thousand")
    add("--own", default="", metavar="OPTIONS", help="for chimirror-server")
    add("--results", type=Path, default=RESULTS, metavar="DIRECTORY")
    parser.set_defaults(rounds=1)
    args = parser.parse_args()
    print(f"{bench.about}\n{machine()}, load {bench.load:.1f} before")
    print(f"{args.sessions:,} sessions; this machine: {proposed:,} ({bound})")
    return hold(bench, args)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
