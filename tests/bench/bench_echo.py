"""Echoed lines: one in flight, and pipelined.

The application echoes. With one in flight, the next line is sent once the previous one
is back. Pipelined, lines are sent as long as at most a window of bytes is not back.
The window is smaller than a pipe, because websocketd stops for ever when both pipes are
full.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]

from figures import Bound
from harness import Bench, Turn, percentile
from load_client import enter, message, ping_pong, stream

SIZES = {64: "64 B", 1024: "1 KiB"}
LEAST, MOST = 2000, 1_000_000  # lines per pipelined turn
PROMPT = Bound(most=0.9)
MANY = Bound(least=5.0)


def main() -> int:
    bench = Bench("echo", __doc__ or "", rounds=5)
    bench.parser.add_argument("--count", type=int, default=1000, help="one by one")
    bench.parser.add_argument("--seconds", type=float, default=0.3, help="pipelined")
    bench.parser.add_argument("--window", type=int, default=32768, help="bytes")
    args = bench.parser.parse_args()
    counts: dict[tuple[str, int], int] = {}

    def one_in_flight(turn: Turn, size: int) -> None:
        codec = turn.competitor.codec
        data, reply = codec.wrap(message(size)), codec.reply(size)
        with enter(turn.service.address, codec, b'"echo"') as connection:
            times = [ping_pong(connection, data, reply) for _ in range(args.count)]
        name = f"echo {SIZES[size]}"
        turn.note(f"{name} p50", "µs", percentile(times, 0.5) * 1e6, PROMPT)
        turn.note(f"{name} p99", "µs", percentile(times, 0.99) * 1e6)

    def pipelined(turn: Turn, size: int) -> None:
        codec, key = turn.competitor.codec, (turn.competitor.name, size)
        count = counts.setdefault(key, LEAST)
        with enter(turn.service.address, codec, b'"echo"') as connection:
            took = stream(connection, codec, size + 1, count, args.window // size)
        counts[key] = max(LEAST, min(MOST, int(count / took * args.seconds)))
        bounds = (MANY,) if size == 64 else ()
        turn.note(f"echo {SIZES[size]}, pipelined", "per s", count / took, *bounds)

    def measure(turn: Turn) -> None:
        for size in SIZES:
            one_in_flight(turn, size)
            pipelined(turn, size)

    return bench.run(args, measure)


if __name__ == "__main__":
    sys.exit(main())
