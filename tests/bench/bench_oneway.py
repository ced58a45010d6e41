"""One direction at a time: lines in, lines out, from 64 bytes to a megabyte.

In: the application reads, and writes one word after the last line. Out: it writes the
lines and ends. The clock stops when all bytes have arrived, and only the application's
bytes count. `websocketd --binary` sends data as it reads it, like the json framing.
With text, websocketd and `lines` send line by line.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]

from figures import REFERENCE, Bound
from harness import Bench, Turn
from transfers import LEAST, MOST, inwards, outwards

SIZES = {64: "64 B", 4096: "4 KiB", 1 << 16: "64 KiB", 1_000_000: "1 MB"}
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

    def measure(turn: Turn) -> None:
        codec, competitor = turn.competitor.codec, turn.competitor.name
        for way, transfer in (("in", inwards), ("out", outwards)):
            for size, name in SIZES.items():
                key = (way, size, competitor)
                count = int(amounts.setdefault(key, LEAST) // size) + 1
                amount, took = transfer(turn.service.address, codec, size, count)
                amounts[key] = max(LEAST, min(MOST, amount / took * args.seconds))
                bounds = (IN if way == "in" else OUT).get(size, ())
                turn.note(f"{way}, {name}", "MB/s", amount / took / 1e6, *bounds)

    return bench.run(args, measure)


if __name__ == "__main__":
    sys.exit(main())
