"""TLS: sessions per second, memory of idle sessions, and rate of much data.

Each server is started for its turn in each round. A session begins with a whole
handshake (TLS 1.3, P-256), without a ticket of an earlier one, and ends after its first
byte. The memory is that of all serving processes, the proxy included, and not that of
the applications. It is counted once more after each session has echoed a long line. The
processor time is that of the same processes.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]

import competitors
import tls_competitors
from competitors import once_each
from figures import Bound
from harness import Bench, Turn, cpu_seconds, raise_limits, rest
from load_client import ShortSession, message, run_sessions
from memory import resident
from tls_client import SecureSession, client_context, echo, held
from tls_competitors import CLEAR, serving_processes
from transfers import LEAST, MOST, inwards, outwards

REFERENCE = "websocketd --ssl"
IDLE, AFTER = "idle session", "idle after a long line"
# kB each, of all serving processes
BOUNDS = {IDLE: Bound(most=20.0, against=""), AFTER: Bound(most=35.0, against="")}
FIRST = 50  # sessions before the memory is counted
LONG = 30_000  # bytes of a line
SIZES = {4096: "4 KiB", 1 << 16: "64 KiB"}


class Measurement:
    """The measurements of one turn after the other.

    Args:
        clients: number of sessions that wait for their first byte at a time.
        seconds: of each rate.
        count: of idle sessions.
    """

    def __init__(self, clients: int, seconds: float, count: int) -> None:
        self.clients = clients
        self.seconds = seconds
        self.count = count
        self.context = client_context()
        self.amounts: dict[tuple[str, int, str], float] = {}

    def sessions(self, turn: Turn) -> None:
        """Measure short sessions, then idle ones."""
        request = turn.competitor.codec.request
        address, context = turn.service.address, self.context
        begin: Callable[[], ShortSession] = partial(
            SecureSession, address, request, context
        )
        if turn.competitor.name == CLEAR:
            begin = partial(ShortSession, address, request)
        with held(begin, FIRST):
            pass
        pids = serving_processes(turn.service)
        before = cpu_seconds([os.getpid()]), cpu_seconds(pids)
        took, rate = run_sessions(begin, self.clients, self.seconds)
        busy = (cpu_seconds([os.getpid()]) - before[0]) / self.seconds
        rest(turn.service)
        each = (cpu_seconds(pids) - before[1]) / (len(took) + self.clients)
        turn.note(f"sessions, {self.clients} clients", "per s", rate)
        turn.note("load client's CPU", "cores", busy)
        turn.note("CPU of a session", "ms", each * 1e3)
        empty = resident(pids)
        with held(begin, self.count) as sessions:
            self.note_memory(turn, IDLE, pids, empty)
            for session in sessions:
                echo(session, turn.competitor.codec, message(LONG))
            self.note_memory(turn, AFTER, pids, empty)

    def note_memory(self, turn: Turn, name: str, pids: list[int], empty: int) -> None:
        rest(turn.service)
        each = (resident(pids) - empty) / self.count / 1e3
        turn.note(name, "kB each", each, BOUNDS[name])

    def bulk(self, turn: Turn) -> None:
        """Measure much data in one direction at a time."""
        codec, name = turn.competitor.codec, turn.competitor.name
        context = None if name == CLEAR else self.context
        pids = serving_processes(turn.service)
        for way, transfer in (("in", inwards), ("out", outwards)):
            for size, text in SIZES.items():
                key = (way, size, name)
                lines = int(self.amounts.setdefault(key, LEAST) // size) + 1
                before = cpu_seconds(pids)
                amount, took = transfer(
                    turn.service.address, codec, size, lines, context
                )
                self.amounts[key] = max(LEAST, min(MOST, amount / took * self.seconds))
                spent = (cpu_seconds(pids) - before) / amount * 1e9
                turn.note(f"{way}, {text}", "MB/s", amount / took / 1e6)
                turn.note(f"CPU, {way}, {text}", "s per GB", spent)


def main() -> int:
    bench = Bench("tls", __doc__ or "", rounds=5)
    add = bench.parser.add_argument
    add("--clients", type=int, default=8)
    add("--seconds", type=float, default=0.5, help="for each rate")
    add("--sessions", type=int, default=500, help="that are idle")
    args = bench.parser.parse_args()
    bench.reference = REFERENCE
    raise_limits()
    measurement = Measurement(args.clients, args.seconds, args.sessions)
    with tempfile.TemporaryDirectory() as scratch:
        os.chmod(scratch, 0o755)
        programs = competitors.compiled(Path(scratch))
        if programs is None:
            print("tls: needs a C compiler (cc)", file=sys.stderr)
            return os.EX_UNAVAILABLE
        certificate = tls_competitors.write_certificate(Path(scratch))
        bench.offered = partial(tls_competitors.with_tls, certificate)
        bench.choose(args, lambda competitor: True)
        for number in range(args.rounds + 1):
            for competitor in bench.competitors:
                for program, measure in (
                    (programs.tiny, measurement.sessions),
                    (programs.all, measurement.bulk),
                ):
                    if program == programs.tiny and not once_each(competitor):
                        continue
                    with competitor.start(Path(scratch), [program]) as service:
                        measure(Turn(competitor, service, number, bench.figure))
    return bench.finish(args)


if __name__ == "__main__":
    sys.exit(main())
