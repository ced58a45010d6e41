"""Processor time of idle sessions that are only kept alive.

All servers hold the same number of sessions at the same time, with their defaults.
Only pings are exchanged. The processor time of each server is read before and after
whole ping intervals. The number of pings is recorded too: a server without pings uses
no time, and never notices a dead client.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]

from client_pool import ClientPool
from competitors import once_each
from harness import Bench, cpu_seconds, pause, rest
from memory import family

INTERVAL = 20.0  # seconds between two pings of chimirror and of websockets


def main() -> int:
    bench = Bench("idle_cpu", __doc__ or "", rounds=2)
    bench.parser.add_argument("--sessions", type=int, default=500)
    bench.parser.add_argument(
        "--seconds", type=float, default=INTERVAL, help="of each round"
    )
    args = bench.parser.parse_args()
    used = bench.figure(f"CPU of {args.sessions} idle sessions", "% of a core")
    pinged = bench.figure("pings to each session", "per minute")
    with bench.started(args, once_each, tiny=True) as services, ExitStack() as stack:
        running = []
        for competitor, service in services:
            pool = ClientPool(stack, competitor, service, args.sessions)
            pool.open(args.sessions)
            running.append((competitor, pool, family(service.process.pid)[0]))
        for _, service in services:
            rest(service)
        for _ in range(args.rounds):
            before = [(cpu_seconds(pids), pool.pings()) for _, pool, pids in running]
            pause(args.seconds)
            for (competitor, pool, pids), (seconds, pings) in zip(
                running, before, strict=True
            ):
                share = (cpu_seconds(pids) - seconds) / args.seconds
                used.add(competitor.name, share * 100)
                rate = (pool.pings() - pings) / args.sessions / args.seconds
                pinged.add(competitor.name, rate * 60)
        for _, pool, _ in running:
            assert pool.live() == args.sessions
            pool.all("drop")
    return bench.finish(args)


if __name__ == "__main__":
    sys.exit(main())
