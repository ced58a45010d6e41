"""A network connection that a test can cut: a network namespace and a veth pair.

After `pull` no packet passes and neither end is notified: no FIN, no RST. Clients that
lose their network vanish like this. The namespace is removed at the end of the context.
Knows nothing of WebSocket. Manual pages: ip-netns(8), veth(4), setns(2).
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading
from ipaddress import IPv4Address

import pytest

CLONE_NEWNET = 0x40000000
# 198.18.0.0/15 (RFC 2544) is reserved for tests and routed nowhere
NETWORK = 0xC6120000


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True, capture_output=True)


def enter(namespace: str) -> None:
    """Move the calling thread, and only this thread, into a named network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{namespace}", "rb") as handle:
        if libc.setns(handle.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


class Cable:
    """A veth pair between this namespace and a new one.

    Clients are at the far end. `near` is the address to serve on.
    """

    def __init__(self) -> None:
        if os.getuid():
            pytest.skip("network namespaces need root")
        # another network in each test process
        network = NETWORK + os.getpid() % (1 << 15) * 4
        self.near = str(IPv4Address(network + 1))
        self.far = str(IPv4Address(network + 2))
        self.name = f"cable{os.getpid()}"

    def __enter__(self) -> Cable:
        name = self.name
        ip(f"netns add {name}")
        ip(f"link add {name} type veth peer name far netns {name}")
        ip(f"addr add {self.near}/30 dev {name}")
        ip(f"link set {name} up")
        ip(f"-n {name} addr add {self.far}/30 dev far")
        ip(f"-n {name} link set far up")
        return self

    def __exit__(self, *error: object) -> None:
        ip(f"link del {self.name}")
        ip(f"netns del {self.name}")

    def connect(self, port: int) -> socket.socket:
        """Connect from the far end. A socket stays in the namespace that created it."""
        made: list[socket.socket] = []

        def work() -> None:
            enter(self.name)
            made.append(socket.create_connection((self.near, port), timeout=10))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return made[0]

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Return the far end and the near end of one TCP connection."""
        with socket.create_server((self.near, 0)) as listener:
            far = self.connect(listener.getsockname()[1])
            near, _ = listener.accept()
        return far, near

    def pull(self) -> None:
        ip(f"-n {self.name} link set far down")
