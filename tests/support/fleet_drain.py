"""Drains hosts of a fleet, as chimirror-fleet(7) says, under a load on the balancer."""

from __future__ import annotations

from fleet_balancer import HOSTS, PORT, Balancer
from fleet_client import Settings
from fleet_hosts import Fleet, Host
from fleet_load import load, say
from fleet_network import BALANCER
from processes import until

EXIT = "1000 exit 0"
CLIENT = "10.0.0.100"


def settings(front: Balancer, stay: int, rate: float = 0.0) -> Settings:
    return Settings(BALANCER, PORT, str(front.ca), stay, rate)


def await_new_sessions(front: Balancer, *names: str, count: int = 1) -> set[str]:
    """Wait until these hosts have got further sessions. Returns their ids.

    Args:
        front: the balancer.
        names: of the hosts.
        count: of the sessions at least.
    """
    before = front.placed(*names)
    until(
        lambda: len(front.placed(*names) - before) >= count,
        f"{count} new sessions of {names}",
    )
    return front.placed(*names) - before


def restart(host: Host, front: Balancer) -> set[str]:
    """Restart one host as the manual says: drain, restart, undrain.

    Returns:
        Sessions that it got afterwards.
    """
    host.machine.do("chimirror-ctl", "drain")
    front.await_state("DRAIN", host.name)
    host.restart()
    host.machine.do("chimirror-ctl", "undrain")
    front.await_agents(host.name)
    return await_new_sessions(front, host.name)


def drain_and_undrain(hosts: Fleet, front: Balancer, name: str) -> None:
    """Drain a host, let its sessions end by themselves, and bring it back."""
    host, others = hosts.hosts[name], {*HOSTS} - {name}
    staying = settings(front, 60)._replace(sources=(CLIENT,))
    with load(hosts.network, settings(front, 0, 10)) as arriving:
        with load(hosts.network, staying) as clients:
            clients.read("all")
            host.machine.do("chimirror-ctl", "drain")
            front.await_drained(name)
            # The host may still answer handshakes from before.
            await_new_sessions(front, *others, count=20)
            before = front.placed(name)
            await_new_sessions(front, *others, count=20)
            assert front.placed(name) == before
            peers = [row["peer"].rpartition(":")[0] for row in host.sessions()]
            assert peers.count(CLIENT) >= 10
            assert clients.stop()["ends"] == {EXIT: 60}
        until(lambda: not host.sessions(), "the end of its sessions")
        host.machine.do("chimirror-ctl", "undrain")
        front.await_agents(name)
        await_new_sessions(front, name)
        counts = arriving.stop()
    ids = counts.pop("ids")
    say(f"drained {name}", **counts)
    assert counts["handshakes"] == {"101": len(ids)}
    assert counts["ends"] == {EXIT: len(ids)}
