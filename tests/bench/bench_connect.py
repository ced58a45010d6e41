"""Short sessions: sessions per second, and time to the first byte.

The application writes one word at once and waits for the end of its input. The client
opens a session, reads its first byte and closes it. The stated number of clients do
nothing else, each starting again at once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]

from competitors import CEILING, once_each
from figures import Bound
from harness import Bench, Turn, cpu_seconds, percentile
from load_client import run_sessions
from websocket_peer import upgrade

FASTER = Bound(most=0.6)
MORE = {1: Bound(least=1.5), 8: Bound(least=1.8), 32: Bound(least=2.0)}


def main() -> int:
    bench = Bench("connect", __doc__ or "", rounds=9)
    bench.parser.add_argument("--clients", default="1,8,32")
    bench.parser.add_argument("--seconds", type=float, default=0.3, help="per turn")
    args = bench.parser.parse_args()

    def measure(turn: Turn) -> None:
        request = turn.competitor.codec.request
        if turn.competitor.name == CEILING:
            request = upgrade("/print", "", ())
        for clients in map(int, args.clients.split(",")):
            before = cpu_seconds([os.getpid()])
            took, rate = run_sessions(
                turn.service.address, request, clients, args.seconds
            )
            busy = (cpu_seconds([os.getpid()]) - before) / args.seconds
            many = f"{clients} client" + "s" * (clients > 1)
            first = f"first byte p50, {many}"
            turn.note(first, "ms", percentile(took, 0.5) * 1e3, FASTER)
            turn.note(f"first byte p99, {many}", "ms", percentile(took, 0.99) * 1e3)
            bound = (MORE[clients],) if clients in MORE else ()
            turn.note(f"connections, {many}", "per s", rate, *bound)
            turn.note(f"load client's CPU, {many}", "cores", busy)

    return bench.run(args, measure, once_each, tiny=True)


if __name__ == "__main__":
    sys.exit(main())
