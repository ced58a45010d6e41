"""Live sessions of one chimirror-server: their number and their cost.

The server runs with its defaults, except for the limit of sessions. The application
(tiny.c) is as small as a process can be. Sessions are opened by the thousand, and rate
and memory are recorded after each thousand.

Then every session echoes a line of its own, and all are idle except for pings. Some are
closed and others opened, and finally all are closed. No process and no descriptor may
be left. The size is the most that the machine allows (limits.py). Limits are raised for
the run where this user may, and restored.
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

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]

import competitors
import limits
from client_pool import ClientPool, Failure
from figures import NOT_REACHED, Bound, Figure
from harness import RESULTS, Bench, cpu_seconds, machine, pause
from memory import Server, resident
from processes import until

STEP = 1000  # sessions between two records
DRAWN = (1000, 2000, 5000, 10_000, 20_000, 30_000, 50_000)  # and the last
FEW = 20  # sessions that echo while all others are idle
CHURN = 500  # sessions that are closed, and as many opened, beside all others
MIN_JUDGED = 500  # sessions from which the goals apply
LOG_LINES = 20  # lines of a log
TIMEOUT = 60.0  # seconds until all processes must have ended
LOOP_TURN = 0.5  # seconds: the last descriptors are closed at the end of a loop turn
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
        self.name = bench.competitors[0].name
        self.args = args
        self.growth: list[dict[str, float]] = []

    def run(self, pool: ClientPool, server: Server) -> None:
        """Run all phases.

        Raises:
            Failure: A condition does not hold.
        """
        self.pool, self.server = pool, server
        self.warm_up()
        sessions = self.grow()
        self.echo(sessions)
        self.idle(sessions)
        self.churn(sessions)
        self.close_all(sessions)

    def note(self, name: str, unit: str, value: float) -> None:
        """Record one figure and print it."""
        bound = (BOUNDS[name],) if name in BOUNDS and self.judged else ()
        figure = self.bench.figure(name, unit, bound)
        figure.add(self.name, value)
        self.missed |= not self.bench.kept(figure)
        words = [f"{v['word']}: {v['bound']}" for v in self.verdicts(figure)]
        print(f"  {name:40}{value:12,.4g} {unit}", *words, flush=True)

    def verdicts(self, figure: Figure) -> list[dict[str, str]]:
        return self.bench.verdicts(figure, self.name)

    missed = False

    @property
    def judged(self) -> bool:
        return bool(self.args.sessions >= MIN_JUDGED)

    def warm_up(self) -> None:
        """Serve sessions once in each worker, so that it has loaded its modules."""
        self.pool.all("open", 50)
        self.pool.all("echo")
        self.pool.all("close")
        await_(lambda: not self.server.applications(), "no application to begin with")
        pause(LOOP_TURN)
        self.server.settle()

    def grow(self) -> int:
        """Open sessions by the thousand, with all client processes together."""
        wanted, limit = self.args.sessions, monotonic() + self.args.growth
        sessions = 0
        print(
            "sessions   per second  CPU ms    relay  application  kernel"
            "  together (kB each)"
        )
        while sessions < wanted:
            if monotonic() > limit:
                print(f"{NOT_REACHED}: over {sessions} in {self.args.growth:.0f} s")
                self.missed = True
                break
            count = min(STEP, wanted - sessions)
            before = cpu_seconds(self.server.own)
            took = self.pool.open(count)
            sessions += count
            used = (cpu_seconds(self.server.own) - before) / count
            row = {"sessions": sessions, "rate": count / took, "cpu": used * 1000}
            self.row(sessions, row | self.server.memory_by_part(sessions))
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
        """Record points that report.py draws, with those of bench_memory.py."""
        for name in ("together", "relay"):
            figure = self.bench.figure(f"{name}, {sessions} sessions", "kB each")
            figure.add(self.name, row[name])
        rate = self.bench.figure(f"coming, {sessions} sessions", "per s")
        rate.add(self.name, row["rate"])

    def echo(self, sessions: int) -> None:
        """Check that every session echoes its own line."""
        last = self.growth[-1]
        self.note("sessions", "", sessions)
        rates = [row["rate"] for row in self.growth]
        self.note("connections, median", "per s", statistics.median(rates))
        self.note("connections, last thousand", "per s", rates[-1])
        self.note("CPU of the server, last thousand", "ms of each", last["cpu"])
        for name in ("relay", "application", *self.server.before, "together"):
            self.note(name, "kB of each session", last[name])
        answers = self.pool.all("echo")
        right = sum(answer["right"] for answer in answers)
        if right != sessions:
            raise Failure(f"{right} of {sessions} sessions echoed")
        took = max(answer["seconds"] for answer in answers)
        self.note("echoes per second, one of every session", "per s", right / took)

    def idle(self, sessions: int) -> None:
        """Measure idle sessions, on which only pings are exchanged."""
        asked = self.pool.pings()
        before, began = cpu_seconds(self.server.own), monotonic()
        pause(self.args.hold)
        used, took = cpu_seconds(self.server.own) - before, monotonic() - began
        self.note("CPU while idle", "% of a core", used / took * 100)
        self.note("pings per second", "per s", (self.pool.pings() - asked) / took)
        found = self.pool.order("probe", [min(FEW, sessions // 2)])[0]
        self.note("echo p50, all others idle", "ms", found["p50"] * 1000)
        self.check_live(sessions)

    def churn(self, sessions: int) -> None:
        """Close some sessions and open as many."""
        count = min(CHURN, sessions // 4)
        shares = self.pool.share(count)
        self.close_sessions(shares, "churn", count)
        rate = count / self.pool.open(count)
        self.note("come while some just left", "per s", rate)
        self.check_live(sessions)

    def check_live(self, sessions: int) -> None:
        """Check that no session was dropped."""
        live = self.pool.live()
        if live != sessions:
            raise Failure(f"{sessions - live} sessions were dropped")

    def close_all(self, sessions: int) -> None:
        """Close all sessions and check that nothing is left."""
        began = monotonic()
        counts = [0] * len(self.pool.processes)
        self.close_sessions(counts, "leave at last", sessions)
        self.wait_until_released()
        self.note("all gone after", "s", monotonic() - began)
        self.note("the server after it", "MB", resident(self.server.own) / 1e6)

    def close_sessions(self, shares: list[int], name: str, count: int) -> None:
        answers = self.pool.order("close", shares)
        closed = sum(answer["closed"] for answer in answers)
        if closed != count:
            raise Failure(f"{closed} of {count} close frames were answered")
        took = max(answer["seconds"] for answer in answers)
        self.note(f"goodbyes per second, {name}", "per s", count / took)

    def wait_until_released(self) -> None:
        """Wait until no process and no descriptor of any session is left."""
        await_(lambda: not self.server.applications(), "no application left")
        held = self.server.held
        await_(
            lambda: self.server.descriptor_counts() == held,
            f"as many descriptors as {held}",
        )


def await_(order: Callable[[], object], what: str) -> None:
    try:
        until(order, what, TIMEOUT)
    except AssertionError as error:
        raise Failure(str(error)) from None


def other_records(log: Path) -> list[str]:
    """Return the last records of a server that are not about a session."""
    lines = log.read_text().splitlines()
    return [line for line in lines if '"CHIMIRROR_SESSION"' not in line][-LOG_LINES:]


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end this process as Ctrl-C does, so that limits are restored."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def hold(bench: Bench, args: argparse.Namespace) -> int:
    """Start server and clients, run the phases, save. Returns the exit status."""
    own = (f"--max-sessions={args.sessions + STEP}", *args.own.split())
    of_tree, tree = competitors.of_tree, args.tree
    competitor = (of_tree(tree, own) if tree else competitors.ours(own))[0]
    bench.competitors = [competitor]
    density = Density(bench, args)
    with ExitStack() as stack:
        stack.enter_context(terminable())
        for line in stack.enter_context(limits.raised(args.sessions)):
            print(line)
        scratch = stack.enter_context(tempfile.TemporaryDirectory())
        os.chmod(scratch, 0o755)
        programs = competitors.compiled(Path(scratch))
        if not programs:
            print("without a C compiler the application is cat, which is larger")
        command = [programs.tiny] if programs else WITHOUT_COMPILER
        service = stack.enter_context(competitor.start(Path(scratch), command))
        try:
            run = Server(service)
            print(f"{len(run.own)} processes of the server", flush=True)
            density.run(ClientPool(stack, competitor, service, args.sessions), run)
        except Failure as failure:
            print(f"FAILED: {failure}")
            print(*other_records(service.log), sep="\n")
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
    add("--tree", metavar="DIRECTORY", help="measure another version")
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
