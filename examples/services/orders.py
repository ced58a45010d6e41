"""Takes orders, one per line, with the services of orders_server.py.

    orders_server.py python3 orders.py

Does the same as orders.c. It knows neither prices nor stock, and asks for them:
chimirror-services(3).
"""

from __future__ import annotations

import re
import sys
from typing import TypedDict

from chimirror.services import connect

ORDER = re.compile(r"\s*([1-9][0-9]{0,2}|1000)\s+([a-z]{1,31})\s*")
USAGE = "write a number from 1 to 1000 and an item, or total"


class Reservation(TypedDict):
    """A request to the service stock."""

    item: str
    count: int


class Entry(TypedDict):
    """A message to the service journal."""

    item: str
    count: int
    cents: int


def money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02}"


def main() -> None:
    total = 0
    with (
        connect("prices", send=str, receive=int) as prices,
        connect("stock", send=Reservation, receive=int) as stock,
        connect("journal", send=Entry) as journal,
    ):
        for line in sys.stdin:
            if line == "total\n":
                print("total", money(total))
                continue
            if not (order := ORDER.fullmatch(line)):
                print(USAGE)
                continue
            count, item = int(order[1]), order[2]
            prices.send(item)
            if not (price := prices.receive()):
                print(f"refused: no {item} here")
                continue
            stock.send({"item": item, "count": count})
            if (left := stock.receive()) < 0:
                print(f"refused: only {left + count} {item} left")
                continue
            total += price * count
            journal.send({"item": item, "count": count, "cents": price * count})
            print(count, item, money(price * count))


if __name__ == "__main__":
    main()
