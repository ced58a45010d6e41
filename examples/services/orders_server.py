"""Prices, stock and a journal, as services for the one application that it starts.

    orders_server.py TARGET [ARGUMENT…]

The target takes orders: orders.c or orders.py. Its standard input and output are those
of this server, and its exit status is that of this server. The target never reads the
source of this file: chimirror-services(3).
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass

import msgspec

from chimirror.services import Server

PRICES = {"apple": 35, "lemon": 60, "melon": 280}  # cents
STOCK = {"apple": 100, "lemon": 20, "melon": 2}


class Reservation(msgspec.Struct):
    """A request for a number of one item."""

    item: str
    count: int


@dataclass
class Entry:
    """A completed order."""

    item: str
    count: int
    cents: int


def main() -> int:
    if len(sys.argv) < 2:
        print("usage: orders_server.py TARGET [ARGUMENT…]", file=sys.stderr)
        return os.EX_USAGE
    server = Server(sys.argv[1:])
    prices = server.pipe("prices", receive=str, send=int)
    stock = server.pipe("stock", receive=Reservation, send=int)
    journal = server.pipe("journal", receive=Entry)
    left = dict(STOCK)

    @prices.handler
    def price(item: str) -> int:
        """Return the price of one item, 0 if it is not sold."""
        return PRICES.get(item, 0)

    @stock.handler
    def reserve(wanted: Reservation) -> int:
        """Return the number left. Below 0, nothing has been taken."""
        remaining = left.get(wanted.item, 0) - wanted.count
        if remaining >= 0:
            left[wanted.item] = remaining
        return remaining

    @journal.handler
    def record(entry: Entry) -> None:
        print(f"{entry.count} {entry.item}: {entry.cents}", file=sys.stderr)

    try:
        result = server.run()
    except OSError as error:
        print("orders_server:", error, file=sys.stderr)
        return os.EX_UNAVAILABLE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    if result.signal:
        return 128 + signal.Signals[f"SIG{result.signal}"]
    return result.code or 0


if __name__ == "__main__":
    sys.exit(main())
