"""How many live sessions one chimirror-server holds, and what they cost.

Law: the server runs with its defaults, told only how many sessions there may be; the
application (echo.c) is as small as a process can be. Sessions come by the thousand;
after each thousand, rate and memory are noted. Then every single one echoes a line of
its own, all are left idle but for pings, some leave and others come, all say goodbye,
and nothing may be left: no process, no descriptor. The size is what the machine allows
(limits.py), which is raised for the run where we may, and restored.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

sys.path += [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import limits
from harness import RESULTS, Bench, cpu_seconds, machine, pause, raise_limits

from launch import Service, server
from settling import descendants, descriptors, field, read, until

HERE = Path(__file__).parent
WHO = "chimirror-server"
STEP = 1000  # sessions between two notes
DRAWN = (1000, 2000, 5000, 10_000, 20_000, 30_000)  # and the last
SPARE = 100  # descriptors of a process of clients, beside the sessions
MANY = 20_000  # sessions of one process of clients
SAMPLE = 50  # applications whose memory is looked at
FEW = 20  # sessions that are asked while all others are idle
CHURN = 500  # sessions that leave, and as many that come, with all others there
DEEP = 500  # sessions from which the figures are held to what is promised
SAID = 20  # lines of a log
PATIENCE = 60.0  # seconds for all processes to be gone


class Failure(Exception):
    """Something that must hold does not."""


class Bound(NamedTuple):
    """What a figure has to be."""

    least: float = 0.0
    most: float = float("inf")

    def __str__(self) -> str:
        return f"at least {self.least:,}" if self.least else f"at most {self.most:,}"


BOUNDS = {
    "sessions per second, last thousand": Bound(least=1000),
    "CPU while idle": Bound(most=10.0),
    "relay": Bound(most=2.0),
    "all": Bound(most=110.0),
}


class Crowds:
    """The clients: a few processes, each with source addresses of its own."""

    def __init__(self, stack: ExitStack, service: Service, sessions: int) -> None:
        most = min(MANY, raise_limits_and_say() - SPARE)
        self.processes = []
        for number in range(max(2, -(-sessions // most))):
            argv = [sys.executable, "-P", str(HERE / "crowd.py")]
            argv += ["127.0.0.1", str(service.port), f"127.0.{1 + number}"]
            pipe = subprocess.PIPE
            process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True)
            stack.callback(leave, process)
            self.processes.append(process)

    def ask(self, what: str, counts: list[int]) -> list[dict[str, Any]]:
        """Gives orders to the first so many; all of them work at the same time."""
        asked = self.processes[: len(counts)]
        for process, count in zip(asked, counts, strict=True):
            assert process.stdin
            process.stdin.write(json.dumps({"do": what, "count": count}) + "\n")
            process.stdin.flush()
        return [self.answer(process) for process in asked]

    def answer(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        assert process.stdout
        line = process.stdout.readline()
        if not line:
            raise Failure("a process of clients has ended")
        found: dict[str, Any] = json.loads(line)
        if found["wrong"]:
            raise Failure(f"clients were told: {found['wrong']}")
        return found

    def all(self, what: str, count: int = 0) -> list[dict[str, Any]]:
        return self.ask(what, [count] * len(self.processes))

    def share(self, count: int) -> list[int]:
        """`count` in as many parts."""
        each, more = divmod(count, len(self.processes))
        return [each + (number < more) for number in range(len(self.processes))]


def raise_limits_and_say() -> int:
    """As many descriptors as we may have; how many."""
    import resource

    raise_limits()
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def leave(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    assert process.stdout
    process.stdin.close()
    process.stdout.close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Server:
    """The processes of a server, and what they hold."""

    def __init__(self, service: Service) -> None:
        self.pid = service.pid
        born = [child.pid for child in descendants(service.pid)]
        self.own = [service.pid, *born]
        self.held: dict[int, int] = {}
        self.empty = 0
        self.before = kernel()

    def census(self) -> dict[int, int]:
        """Its own processes and their descriptors."""
        return {pid: descriptors(pid) for pid in self.own if alive(pid)}

    def applications(self) -> list[int]:
        """What these have as children and did not have at the start."""
        found = []
        for pid in self.own:
            found += read(f"/proc/{pid}/task/{pid}/children").split()
        return [pid for word in found if (pid := int(word)) not in self.own]

    def books(self, sessions: int) -> dict[str, float]:
        """Memory by parts in kB of each session; the kernel's is of all clients too."""
        pids = self.applications()
        sample = pids[:: max(1, len(pids) // SAMPLE)][:SAMPLE]
        each = [field(pid, "Pss", "smaps_rollup") for pid in sample] or [0]
        relay = sum(field(pid, "Pss", "smaps_rollup") for pid in self.own)
        parts = {"relay": (relay - self.empty) / sessions}
        parts["application"] = statistics.mean(each)
        now = kernel()
        for name, before in self.before.items():
            parts[name] = (now[name] - before) / sessions
        parts["all"] = sum(parts.values())
        return {name: size / 1000 for name, size in parts.items()}

    def settle(self) -> None:
        """Some sessions have been here: what is held now is the server's own."""
        self.held = self.census()
        self.empty = sum(field(pid, "Pss", "smaps_rollup") for pid in self.own)
        self.before = kernel()


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/fd").exists()


def kernel() -> dict[str, int]:
    """The memory of the kernel that a process or a socket can be the reason of."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    return {
        "slabs": sizes["Slab"],
        "stacks": sizes["KernelStack"],
        "page tables": sizes["PageTables"],
    }


class Density:
    """One run: its phases in order."""

    def __init__(self, bench: Bench, args: argparse.Namespace) -> None:
        self.bench = bench
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
        self.bench.figure(name, unit).add(WHO, value)
        bound = BOUNDS.get(name)
        verdict = ""
        if bound and self.judged:
            kept = bound.least <= value <= bound.most
            verdict = f"   {'within' if kept else 'MISSED'}: {bound}"
            self.missed |= not kept
        print(f"  {name:40}{value:12,.4g} {unit}{verdict}", flush=True)

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
        pause(0.5)  # the last descriptors are closed at the end of a turn
        self.server.settle()

    def grow(self) -> int:
        """Thousand by thousand, each by all clients together."""
        wanted, limit = self.args.sessions, monotonic() + self.args.growth
        sessions = 0
        print(
            "sessions  per second  CPU ms    relay  application  kernel   all (kB each)"
        )
        while sessions < wanted:
            if monotonic() > limit:
                print(f"MISSED: more than {sessions} within {self.args.growth:.0f} s")
                self.missed = True
                break
            count = min(STEP, wanted - sessions)
            before = cpu_seconds(self.server.own)
            answers = self.crowds.ask("open", self.crowds.share(count))
            sessions += count
            took = max(answer["seconds"] for answer in answers)
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
        inside = row["all"] - row["relay"] - row["application"]
        print(
            f"{sessions:8,}{row['rate']:12,.0f}{row['cpu']:8.2f}{row['relay']:9.2f}"
            f"{row['application']:13.1f}{inside:8.1f}{row['all']:6.0f}",
            flush=True,
        )

    def draw(self, sessions: int, row: dict[str, float]) -> None:
        """What report.py makes lines of."""
        memory = self.bench.figure(f"Memory of each, {sessions} sessions", "kB")
        for name in ("all", "slabs", "page tables", "stacks", "application", "relay"):
            memory.add(name, row[name])
        coming = self.bench.figure(f"Coming, {sessions} sessions", "/s")
        coming.add("the last thousand", row["rate"])
        rates = [row["rate"] for row in self.growth]
        coming.add("median so far", statistics.median(rates))

    def echo(self, sessions: int) -> None:
        """Every session answers, with its own line."""
        last = self.growth[-1]
        self.note("sessions", "", sessions)
        rates = [row["rate"] for row in self.growth]
        self.note("sessions per second, median", "/s", statistics.median(rates))
        self.note("sessions per second, last thousand", "/s", rates[-1])
        self.note("CPU of the server, last thousand", "ms of each", last["cpu"])
        for name in ("relay", "application", "slabs", "stacks", "page tables", "all"):
            self.note(name, "kB of each session", last[name])
        answers = self.crowds.all("echo")
        right = sum(answer["right"] for answer in answers)
        if right != sessions:
            raise Failure(f"{right} of {sessions} sessions echoed")
        took = max(answer["seconds"] for answer in answers)
        self.note("echoes per second, one of every session", "/s", right / took)

    def idle(self, sessions: int) -> None:
        """Nothing is said but pings."""
        asked = self.pings()
        before, began = cpu_seconds(self.server.own), monotonic()
        pause(self.args.hold)
        used, took = cpu_seconds(self.server.own) - before, monotonic() - began
        self.note("CPU while idle", "% of a core", used / took * 100)
        self.note("pings per second", "/s", (self.pings() - asked) / took)
        found = self.crowds.ask("probe", [min(FEW, sessions // 2)])[0]
        self.note("echo p50, all others idle", "ms", found["p50"] * 1000)
        self.present(sessions)

    def pings(self) -> int:
        return sum(int(answer["pings"]) for answer in self.crowds.all("report"))

    def churn(self, sessions: int) -> None:
        """Some leave, others come."""
        count = min(CHURN, sessions // 4)
        shares = self.crowds.share(count)
        self.goodbye(shares, "churn", count)
        answers = self.crowds.ask("open", shares)
        took = max(answer["seconds"] for answer in answers)
        self.note("come while some just left", "/s", count / took)
        self.present(sessions)

    def present(self, sessions: int) -> None:
        """None was dropped."""
        live = sum(answer["live"] for answer in self.crowds.all("report"))
        if live != sessions:
            raise Failure(f"{sessions - live} sessions were dropped")

    def part(self, sessions: int) -> None:
        """All leave, and nothing stays."""
        began = monotonic()
        everyone = [0] * len(self.crowds.processes)
        self.goodbye(everyone, "leave at last", sessions)
        self.settled()
        self.note("all gone after", "s", monotonic() - began)
        relay = sum(field(pid, "Pss", "smaps_rollup") for pid in self.server.own)
        self.note("the server after it", "MB", relay / 1e6)

    def goodbye(self, shares: list[int], name: str, count: int) -> None:
        answers = self.crowds.ask("close", shares)
        closed = sum(answer["closed"] for answer in answers)
        if closed != count:
            raise Failure(f"{closed} of {count} close frames were answered")
        took = max(answer["seconds"] for answer in answers)
        self.note(f"goodbyes per second, {name}", "/s", count / took)

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


def application(directory: Path) -> list[str]:
    """echo.c where it can be compiled, else cat."""
    program, cc = str(directory / "echo"), shutil.which("cc")
    argv = [cc or "cc", "-O2", "-static", "-nostdlib", "-o", program]
    if cc and not subprocess.run([*argv, str(HERE / "echo.c")]).returncode:
        return [program]
    print("without a C compiler the application is cat, which is larger")
    return ["cat"]


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
    density = Density(bench, args)
    with ExitStack() as stack:
        stack.enter_context(terminable())
        for line in stack.enter_context(limits.raised(args.sessions)):
            print(line)
        scratch = stack.enter_context(tempfile.TemporaryDirectory())
        os.chmod(scratch, 0o755)
        options = [f"--max-sessions={args.sessions + STEP}", "--framing=lines"]
        options += args.own.split()
        way = server(Path(scratch), application(Path(scratch)), *options)
        service = stack.enter_context(way)
        try:
            run = Server(service)
            print(f"{len(run.own)} processes of the server", flush=True)
            density.run(Crowds(stack, service, args.sessions), run)
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
