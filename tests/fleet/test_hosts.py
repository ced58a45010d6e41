"""Three hosts behind HAProxy, with the files of examples/fleet.

Each host is a booted systemd with chimirror-server.service. Records of all hosts go to
the journal host.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet_balancer import HOSTS, SECOND, Balancer, balancer
from fleet_client import LOST
from fleet_control import WAYS, control, end
from fleet_counters import await_scraped, recorded, written
from fleet_drain import CLIENT, EXIT, drain_and_undrain, restart, settings
from fleet_hosts import Fleet, bridges, fleet, kill
from fleet_load import load, say
from fleet_network import network
from fleet_prometheus import prometheus
from processes import until
from systemd_machine import missing

pytestmark = pytest.mark.timeout(900)

DRAIN = "1001 drain"
LIMIT = 100000  # of one client: all load comes from one address


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    if lacking := missing():
        pytest.skip(lacking)
    with (
        network(f"{CLIENT}/24") as made,
        fleet(made, tmp_path_factory.mktemp("wheels")) as found,
    ):
        yield found


@pytest.fixture
def front(hosts: Fleet, tmp_path: Path) -> Iterator[Balancer]:
    with balancer(hosts.network, tmp_path, limit=LIMIT) as found:
        found.await_agents(*HOSTS)
        yield found


def test_control_connections_find_their_sessions(
    hosts: Fleet, front: Balancer, tmp_path: Path
) -> None:
    """Also after a reload: the new process asks the second balancer."""
    served: dict[str, int] = {}

    def between() -> None:
        served.update({name: int(row["scur"]) for name, row in front.hosts().items()})
        front.reload()

    directory = tmp_path / "second"
    directory.mkdir()
    with balancer(hosts.network, directory, number=SECOND) as second:
        second.await_agents(*HOSTS)
        for before in (lambda: None, between):
            found = control(hosts.network, 100, front.ca, before)
            assert found == {"signal TERM": 100}
    say("sessions with control connections", **served)
    assert sum(served.values()) == 100
    assert all(number >= 20 for number in served.values())


def test_control_connections_find_sessions_of_a_draining_host(
    hosts: Fleet, front: Balancer
) -> None:
    host = hosts.hosts["one"]

    def drain() -> None:
        assert len(host.sessions()) >= 5
        host.machine.do("chimirror-ctl", "drain")
        front.await_drained("one")

    assert control(hosts.network, 30, front.ca, drain) == {"signal TERM": 30}
    host.machine.do("chimirror-ctl", "undrain")
    front.await_agents("one")


def test_hosts_know_the_addresses_of_clients(hosts: Fleet, front: Balancer) -> None:
    asked = settings(front, 30)._replace(sources=(CLIENT,))
    with load(hosts.network, asked) as clients:
        clients.read("all")
        for host in hosts.hosts.values():
            peers = {one["peer"].rpartition(":")[0] for one in host.sessions()}
            assert peers == {CLIENT}
        clients.stop()


def test_one_address_has_a_limited_number_of_connections(
    hosts: Fleet, tmp_path: Path
) -> None:
    with balancer(hosts.network, tmp_path, limit=20) as front:
        front.await_agents(*HOSTS)
        with load(hosts.network, settings(front, 30)) as clients:
            until(lambda: clients.state()["handshakes"].get("429", 0) >= 10, "429")
            counts = clients.stop()
    assert counts["handshakes"].keys() == {"101", "429"}
    assert counts["handshakes"]["101"] <= 20


def test_only_the_balancer_reaches_a_host(hosts: Fleet) -> None:
    """A peer of the listener could name any client. A filter drops its packets."""
    connect = "import socket; socket.create_connection(('10.0.0.11', {}), {})"
    machine = hosts.hosts["two"].machine
    for port in (30747, 30758):
        done = machine.run("/usr/bin/python3", "-c", connect.format(port, 0.5))
        assert "TimeoutError" in done.stdout
    done = machine.run("/usr/bin/python3", "-c", connect.format(22, 200))
    assert "ConnectionRefusedError" in done.stdout


def test_prometheus_counts_the_sessions_of_all_hosts(
    hosts: Fleet, front: Balancer, tmp_path: Path
) -> None:
    directory = tmp_path / "prometheus"
    directory.mkdir()
    with (
        prometheus(hosts.network, directory) as asked,
        load(hosts.network, settings(front, 90)) as clients,
    ):
        clients.read("all")
        total = 'sum(chimirror_sessions{state="open"})'
        until(lambda: asked.query(total) == {"": 90.0}, "all sessions")
        found = asked.query('sum by (instance) (chimirror_sessions{state="open"})')
        listed = {
            f"10.0.0.{host.number}:30757": float(len(host.sessions()))
            for host in hosts.hosts.values()
        }
        assert found == listed
        clients.stop()
        until(lambda: asked.query(total) == {"": 0.0}, "no session")
    say("sessions that Prometheus found", **found)


def test_counters_equal_the_records(
    hosts: Fleet, front: Balancer, tmp_path: Path
) -> None:
    """Of each host, also of one that loses a worker."""
    for host in hosts.hosts.values():
        host.restart()
    began = time.time_ns() // 1000
    front.await_agents(*HOSTS)
    victim = hosts.hosts["two"]
    lost: list[dict[str, Any]] = []
    reasons: set[str] = set()

    def lose() -> None:
        rows = victim.sessions()
        worker = rows[0]["pid"]
        lost.extend(row for row in rows if row["pid"] == worker)
        victim.machine.do("kill", "-KILL", str(worker))

    directory = tmp_path / "prometheus"
    directory.mkdir()
    with prometheus(hosts.network, directory) as asked:
        end(hosts.network, 120, front.ca, lose)
        total = "sum(chimirror_sessions_ended_total)"
        until(lambda: asked.query(total) == {"": 120.0}, "all ends")
        for host in hosts.hosts.values():
            sums = recorded(host, began, lost if host is victim else ())
            say(f"records of {host.name}", **sums._asdict())
            reasons |= sums.ends.keys()
            await_scraped(asked, host, sums)
        restarts = 'chimirror_restarts_total{process="worker"} == 1'
        assert asked.query(restarts) == {f"10.0.0.{victim.number}:30757": 1.0}
    assert lost
    assert len(reasons) > WAYS


def test_a_host_of_bridges(hosts: Fleet, front: Balancer) -> None:
    """Sessions, control connections and a drain are as on a host with a server."""
    host = hosts.hosts["two"]
    began = time.time_ns() // 1000
    served: dict[str, list[Any]] = {}

    def look() -> None:
        served.update({each.name: each.sessions() for each in hosts.hosts.values()})

    with bridges(host):
        front.await_agents(*HOSTS)
        assert control(hosts.network, 100, front.ca, look) == {"signal TERM": 100}
        say("sessions", **{name: len(rows) for name, rows in served.items()})
        assert all(len(rows) >= 20 for rows in served.values())
        assert all(row["unit"].startswith("chimirror@") for row in served["two"])
        end(hosts.network, 50, front.ca, lambda: None)
        for name in ("two", "three"):
            drain_and_undrain(hosts, front, name)
        sums = recorded(host, began)
        say("records of the bridges", **sums._asdict())
        assert written(host) == sums


def test_a_full_host_gets_no_session(hosts: Fleet, front: Balancer) -> None:
    """Clients see no 503. The host gets sessions again when it has room."""
    host = hosts.hosts["one"]
    host.configure(sessions=5)
    host.restart()
    front.await_agents("one")
    with load(hosts.network, settings(front, 60, 20)) as clients:
        clients.read("all")
        front.await_weight("0", "one")
        assert len(host.sessions()) <= 5
        counts = clients.stop()
    ids = counts.pop("ids")
    say("one host full", **counts)
    assert counts["handshakes"] == {"101": len(ids)}
    assert counts["ends"] == {EXIT: len(ids)}
    front.await_weight("100", "one")
    host.configure()
    host.restart()


def test_rolling_restart(hosts: Fleet, front: Balancer) -> None:
    """Every session ends by itself or with 1001, and no handshake fails."""
    for host in hosts.hosts.values():
        host.configure(drain="3s")
        host.restart()
    front.await_agents(*HOSTS)
    with load(hosts.network, settings(front, 500, 50)) as clients:
        clients.read("all")
        new = [restart(host, front) for host in hosts.hosts.values()]
        counts = clients.stop()
    ids = counts.pop("ids")
    say("rolling restart", **counts)
    assert counts["handshakes"] == {"101": len(ids)}
    assert counts["ends"].keys() == {EXIT, DRAIN}
    assert counts["ends"][DRAIN] >= 500 * 2 / 3
    assert set().union(*new) <= set(ids)
    hosts.journal.await_ends(set(ids))
    hosts.journal.await_starts(set(ids))
    ended = hosts.journal.ended()
    assert {f"1000 {ended[one]}" for one in ids if ids[one] == EXIT} == {EXIT}
    assert {f"1001 {ended[one]}" for one in ids if ids[one] == DRAIN} == {DRAIN}


def test_a_dead_host(hosts: Fleet, front: Balancer) -> None:
    """Its sessions are lost, and all are told. New ones go elsewhere at once.

    The last test: the host stays dead.
    """
    dying = hosts.hosts["three"]
    with load(hosts.network, settings(front, 300, 50)) as clients:
        clients.read("all")
        there = {one["id"] for one in dying.sessions()}
        hosts.journal.await_starts(there)
        kill(dying)
        front.await_state("DOWN", "three")
        clients.read("all")
        counts = clients.stop()
    ids = counts.pop("ids")
    say("a dead host", sessions=len(there), **counts)
    assert counts["handshakes"] == {"101": len(ids)}
    assert counts["ends"].keys() == {EXIT, LOST}
    lost = {one for one, reason in ids.items() if reason == LOST}
    assert len(lost & there) >= 100 - 2
    assert lost <= front.placed("three")
    others = front.placed("one", "two")
    assert others == set(ids) - front.placed("three")
    hosts.journal.await_ends(others)
    listed = hosts.journal.lost("three")
    assert lost & there <= listed <= front.placed("three")
    unended = hosts.journal.started() - hosts.journal.ended().keys()
    assert listed == unended & front.placed("three")
