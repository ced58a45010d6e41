"""What idle sessions cost: processor time while they are only kept alive.

Law: everybody holds as many sessions at the same time, with its defaults, and nothing
is said but pings, which the clients answer; what each one's processes have used is
read before and after whole intervals of pings. How many there were is told too: who
does not ping uses no time, and never notices that a client has died.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

sys.path += [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from books import family
from contenders import plain
from crowds import Crowds
from harness import Bench, cpu_seconds, pause, rest

INTERVAL = 20.0  # seconds between two pings, ours and those of websockets


def main() -> int:
    bench = Bench("idle_cpu", __doc__ or "", rounds=2)
    bench.parser.add_argument("--sessions", type=int, default=500)
    bench.parser.add_argument(
        "--seconds", type=float, default=INTERVAL, help="of each round"
    )
    args = bench.parser.parse_args()
    used = bench.figure(f"CPU of {args.sessions} idle sessions", "% of a core")
    asked = bench.figure("pings to each session", "per minute")
    with bench.started(args, plain, tiny=True) as services, ExitStack() as stack:
        held = []
        for one, service in services:
            crowds = Crowds(stack, one, service, args.sessions)
            crowds.open(args.sessions)
            held.append((one, crowds, family(service.pid)[0]))
        for _, service in services:
            rest(service)
        for _ in range(args.rounds):
            before = [(cpu_seconds(own), crowds.pings()) for _, crowds, own in held]
            pause(args.seconds)
            for (one, crowds, own), (seconds, pings) in zip(held, before, strict=True):
                share = (cpu_seconds(own) - seconds) / args.seconds
                used.add(one.name, share * 100)
                rate = (crowds.pings() - pings) / args.sessions / args.seconds
                asked.add(one.name, rate * 60)
        for _, crowds, _ in held:
            assert crowds.live() == args.sessions
            crowds.all("drop")
    return bench.finish(args)


if __name__ == "__main__":
    sys.exit(main())
