"""20,000 clients on three hosts, one of which dies: all come back to the two others.

The network of the dying host is cut first, so that no connection is closed. Most
clients see the end after 16 s of silence. Where data was under way, HAProxy gives up
after 75 s (timeout tunnel). Three balancers share the clients, because each process has
a limit of descriptors. Clients have no TLS here: their programs would take more of the
processors than the fleet.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fleet_balancer import HOSTS, PLAIN_PORT, Balancer, balancer
from fleet_client import LOST, Settings
from fleet_hosts import Fleet, Host, fleet, kill
from fleet_load import Load, load
from fleet_network import BALANCER, network
from systemd_machine import missing

pytestmark = pytest.mark.timeout(2400)

CLIENTS = 20000
NUMBERS = (2, 3, 4)  # of the balancers
ROOM = 500  # sessions of each host beyond a half of all
RATE = 100  # new sessions of each host in a second
LIMIT = 1000000
EXIT = "1000 exit 0"


@pytest.fixture
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    if lacking := missing():
        pytest.skip(lacking)
    with (
        network() as made,
        fleet(made, tmp_path_factory.mktemp("wheels")) as found,
    ):
        for host in found.hosts.values():
            capacity = CLIENTS // 2 + ROOM
            host.configure(sessions=capacity, options=f"--max-rate {RATE}/s")
        yield found


def used(host: Host) -> tuple[int, int]:
    """Return the sessions of a host and the most that it admits."""
    rows: list[dict[str, Any]] = json.loads(
        host.machine.do("chimirror-ctl", "limits", "--json")
    )
    (row,) = (one for one in rows if one["limit"] == "server-sessions")
    return int(row["used"]), int(row["value"])


def test_reconnect_storm(hosts: Fleet, tmp_path: Path) -> None:
    with ExitStack() as stack:
        fronts, loads = [], []
        for number in NUMBERS:
            place = tmp_path / str(number)
            place.mkdir()
            made = balancer(hosts.network, place, limit=LIMIT, number=number)
            fronts.append(stack.enter_context(made))
        for front in fronts:
            front.await_agents(*HOSTS)
        for number in NUMBERS:
            count = (CLIENTS + number - 2) // len(NUMBERS)
            settings = Settings(BALANCER, PLAIN_PORT + number, "", count, burst=30)
            loads.append(stack.enter_context(load(hosts.network, settings)))
        began = time.monotonic()
        for each in loads:
            each.read("all")
        print(f"\n{CLIENTS} sessions after {time.monotonic() - began:.0f} s")
        die(hosts, fronts, loads)


def die(hosts: Fleet, fronts: list[Balancer], loads: list[Load]) -> None:
    """Kill a host, wait until all clients are back, and check the result."""
    dying = hosts.hosts["three"]
    living = [host for host in hosts.hosts.values() if host is not dying]
    there = used(dying)[0]
    print("sessions before:", {host.name: used(host) for host in hosts.hosts.values()})
    began = time.monotonic()
    hosts.network.pull(dying.number)
    kill(dying)
    for front in fronts:
        front.await_state("DOWN", dying.name)
    print(f"marked down after {time.monotonic() - began:.1f} s", flush=True)
    most = dict.fromkeys((host.name for host in living), 0)
    back = 0
    while back < there:
        back = sum(state["back"] for state in (each.state() for each in loads))
        for host in living:
            sessions, capacity = used(host)
            assert sessions <= capacity
            most[host.name] = max(most[host.name], sessions)
    seconds = time.monotonic() - began
    handshakes, ends, returns = totals([each.stop() for each in loads])
    print(f"all {there} back after {seconds:.1f} s; sessions at most: {most}")
    print(f"handshakes {dict(handshakes)}, ends {dict(ends)}")
    middle, late = returns[len(returns) // 2], returns[-len(returns) // 100]
    print("from the end that a client sees to its next session:")
    print(f"median {middle} s, 99 % {late} s, longest {returns[-1]} s")
    assert ends == {LOST: there, EXIT: CLIENTS}
    assert len(returns) == there
    assert handshakes["101"] == CLIENTS + there


def totals(
    states: list[dict[str, Any]],
) -> tuple[Counter[str], Counter[str], list[float]]:
    """Return handshakes by result, ends by reason, and the sorted times to return."""
    handshakes: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    returns: list[float] = []
    for state in states:
        handshakes.update(state["handshakes"])
        ends.update(state["ends"])
        returns += state["returns"]
    return handshakes, ends, sorted(returns)
