"""Short sessions: sessions per second, and time to the first byte.

The application writes one word at once and waits for the end of its input. The client
opens a session, reads its first byte and closes it. The stated number of clients do
nothing else, each starting again at once. The same is measured with sessions that stay
open until there are as many as stated, and beside processes that only use processor
time. The system calls of a session are those of all processes, the application
included.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]

import system_calls
from competitors import CEILING, FALLBACK, OURS, once_each
from figures import REFERENCE, Bound
from harness import Bench, Turn, cpu_seconds, percentile, rest
from load_client import ShortSession, run_sessions
from websocket_peer import upgrade

SHORT = {1: Bound(least=1.2), 8: Bound(least=1.3), 32: Bound(least=1.3)}
FIRST = {1: Bound(most=0.8), 8: Bound(most=0.7), 32: Bound(most=0.7)}
KEPT = {1: Bound(least=2.0), 8: Bound(least=1.7), 32: Bound(least=2.0)}
KEPT_FIRST = {1: Bound(most=0.6)}
BUSY = dict.fromkeys((1, 8, 32), Bound(least=0.9))
BUSY_LOOP = ("sh", "-c", "while :; do :; done")
MAX_TRACED = 0.2  # seconds of sessions under strace(1)


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    loops = [subprocess.Popen(BUSY_LOOP) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def goals(bounds: dict[int, Bound], clients: int) -> tuple[Bound, ...]:
    return (bounds[clients],) if clients in bounds else ()


def opening(turn: Turn, request: bytes) -> Callable[[], ShortSession]:
    return partial(ShortSession, turn.service.address, request)


def main() -> int:
    bench = Bench("connect", __doc__ or "", rounds=9)
    bench.parser.add_argument("--clients", default="1,8,32")
    bench.parser.add_argument("--seconds", type=float, default=0.3, help="per turn")
    bench.parser.add_argument("--kept", type=int, default=2000, help="sessions to keep")
    bench.parser.add_argument("--loops", type=int, default=4, help="busy processes")
    args = bench.parser.parse_args()

    def short(turn: Turn, request: bytes, clients: int, many: str) -> None:
        before = cpu_seconds([os.getpid()])
        took, rate = run_sessions(opening(turn, request), clients, args.seconds)
        busy = (cpu_seconds([os.getpid()]) - before) / args.seconds
        first = f"first byte p50, {many}"
        turn.note(first, "ms", percentile(took, 0.5) * 1e3, *goals(FIRST, clients))
        turn.note(f"first byte p99, {many}", "ms", percentile(took, 0.99) * 1e3)
        turn.note(f"connections, {many}", "per s", rate, *goals(SHORT, clients))
        turn.note(f"load client's CPU, {many}", "cores", busy)

    def special(turn: Turn, request: bytes, clients: int, many: str) -> None:
        for keep, kind, rates, firsts in (
            (args.kept, "kept", KEPT, KEPT_FIRST),
            (0, "busy machine", BUSY, {}),
        ):
            with nullcontext() if keep else busy_loops(args.loops):
                took, rate = run_sessions(
                    opening(turn, request), clients, args.seconds, keep=keep
                )
            first, wait = f"{kind}: first byte p50, {many}", percentile(took, 0.5)
            turn.note(first, "ms", wait * 1e3, *goals(firsts, clients))
            rate_name = f"{kind}: connections, {many}"
            turn.note(rate_name, "per s", rate, *goals(rates, clients))
            rest(turn.service)

    def trace(turn: Turn, request: bytes) -> None:
        with system_calls.counted(turn.service) as counts:
            took, _ = run_sessions(opening(turn, request), 1, MAX_TRACED)
            rest(turn.service)
        # one more session was open at the end
        turn.note("system calls, session", "calls", counts[0] / (len(took) + 1))

    def measure(turn: Turn) -> None:
        name, request = turn.competitor.name, turn.competitor.codec.request
        if name == CEILING:
            request = upgrade("/print", "", ())
        is_compared = name.startswith(OURS) or name in (FALLBACK, REFERENCE)
        for clients in map(int, args.clients.split(",")):
            many = f"{clients} client" + "s" * (clients > 1)
            short(turn, request, clients, many)
            if is_compared:
                rest(turn.service)
                special(turn, request, clients, many)
        if is_compared and system_calls.is_possible():
            trace(turn, request)

    return bench.run(args, measure, once_each, tiny=True)


if __name__ == "__main__":
    sys.exit(main())
