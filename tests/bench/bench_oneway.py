"""One direction at a time: lines in, lines out, from 64 bytes to a megabyte.

In: the application reads, and writes one word after the last line. Out: it writes the
lines and ends. The clock stops when all bytes have arrived, and only the application's
bytes count. `websocketd --binary` sends data as it reads it, like the json framing.
With text, websocketd and `lines` send line by line.
"""

from __future__ import annotations

import sys
from itertools import chain
from pathlib import Path

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]

from figures import REFERENCE, Bound
from harness import Bench, Turn
from load_client import Codec, enter, exchange, message, repeated

SIZES = {64: "64 B", 4096: "4 KiB", 1 << 16: "64 KiB", 1_000_000: "1 MB"}
END = b'"!"'
LEAST, MOST = 1 << 20, 1 << 30  # bytes per turn
IN = {64: (Bound(least=2.5),), 1_000_000: (Bound(least=1.2),)}
OUT = {
    4096: (
        Bound(least=5.0, framing="json"),
        Bound(least=1.2, framing="json", against=f"{REFERENCE} --binary"),
    )
}


def main() -> int:
    bench = Bench("oneway", __doc__ or "", rounds=5)
    bench.parser.add_argument("--seconds", type=float, default=0.2, help="per turn")
    args = bench.parser.parse_args()
    amounts: dict[tuple[str, int, str], float] = {}

    def inwards(turn: Turn, codec: Codec, size: int, count: int) -> tuple[int, float]:
        with enter(turn.service.address, codec, b'"sink"') as connection:
            pieces = repeated(codec.wrap(message(size - 1)), count)
            every = chain(pieces, [codec.wrap(END)])
            _, took = exchange(connection, every, 1)
        return count * size, took

    def outwards(turn: Turn, codec: Codec, size: int, count: int) -> tuple[int, float]:
        line = b'"source %d %d"' % (size, count)
        with enter(turn.service.address, codec, line) as connection:
            came, took = exchange(connection, iter(()), codec.replies(size - 1, count))
        if came < count * (size - 1):
            print(f"{turn.competitor.name}: {came} of {count * size} bytes came out")
        return count * size, took

    def measure(turn: Turn) -> None:
        codec, competitor = turn.competitor.codec, turn.competitor.name
        for way, transfer in (("in", inwards), ("out", outwards)):
            for size, name in SIZES.items():
                key = (way, size, competitor)
                count = int(amounts.setdefault(key, LEAST) // size) + 1
                amount, took = transfer(turn, codec, size, count)
                amounts[key] = max(LEAST, min(MOST, amount / took * args.seconds))
                bounds = (IN if way == "in" else OUT).get(size, ())
                turn.note(f"{way}, {name}", "MB/s", amount / took / 1e6, *bounds)

    return bench.run(args, measure)


if __name__ == "__main__":
    sys.exit(main())
