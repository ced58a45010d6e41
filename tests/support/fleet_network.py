"""A network of its own for several machines: a bridge in a network namespace.

The namespace holds the balancer and the clients. Each machine has one cable to the
bridge. All of it ends with the context. Knows nothing of chimirror. Manual pages:
ip-netns(8), ip-link(8), veth(4).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import TypeVar

from network_cable import enter, ip
from systemd_machine import Machine

PREFIX = "10.0.0"
BALANCER, SECOND_BALANCER = f"{PREFIX}.2", f"{PREFIX}.4"
BRIDGE = "hosts"
T = TypeVar("T")


class Network:
    """The namespace and its bridge.

    Args:
        name: of the namespace.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def attach(self, machine: Machine, number: int) -> str:
        """Connect a machine by a cable. Returns its address."""
        cable, address = f"cable{number}", f"{PREFIX}.{number}"
        kind = f"type veth peer name eth0 netns {machine.init}"
        ip(f"-n {self.name} link add {cable} {kind}")
        ip(f"-n {self.name} link set {cable} master {BRIDGE} up")
        for command in (f"addr add {address}/24 dev eth0", "link set eth0 up"):
            machine.do("ip", *command.split())
        return address

    def pull(self, number: int) -> None:
        """Cut the cable of a machine. No packet passes, and neither end is told."""
        ip(f"-n {self.name} link set cable{number} down")

    def argv(self, *argv: str) -> list[str]:
        """Return the command line that runs a program in the namespace."""
        return ["nsenter", f"--net=/run/netns/{self.name}", "--", *argv]

    def call(self, work: Callable[[], T]) -> T:
        """Call a function in a thread in the namespace. Sockets of it stay there."""
        done: list[T] = []
        failed: list[BaseException] = []

        def inside() -> None:
            enter(self.name)
            try:
                done.append(work())
            except BaseException as error:  # noqa: BLE001 raised again below
                failed.append(error)

        thread = Thread(target=inside)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return done[0]


@contextmanager
def network(*more: str) -> Iterator[Network]:
    """Make a namespace with a bridge.

    Args:
        more: addresses for clients, with their prefix length.
    """
    name = f"fleet{os.getpid()}"
    ip(f"netns add {name}")
    try:
        ip(f"-n {name} link set lo up")
        ip(f"-n {name} link add {BRIDGE} type bridge")
        for address in (f"{BALANCER}/24", f"{SECOND_BALANCER}/24", *more):
            ip(f"-n {name} addr add {address} dev {BRIDGE}")
        ip(f"-n {name} link set {BRIDGE} up")
        yield Network(name)
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)
