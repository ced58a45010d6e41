"""A network cable that a test can pull: a namespace joined to ours by a veth pair.

Law: after `pull` no packet passes any more and neither end is told (no FIN, no RST),
which is how clients vanish in the world; the namespace goes when this is left.
Ignorance: no WebSocket; see ip-netns(8), veth(4), setns(2).
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading

import pytest

CLONE_NEWNET = 0x40000000
NETWORK = "198.18.{0}.{1}"  # RFC 2544: for tests, routed nowhere


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True, capture_output=True)


def enter(namespace: str) -> None:
    """Moves the calling thread, and only it, into a named network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{namespace}", "rb") as handle:
        if libc.setns(handle.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


class Cable:
    """The far end is where clients are; `near` is the address to serve on."""

    def __init__(self) -> None:
        if os.getuid():
            pytest.skip("network namespaces need root")
        number = os.getpid() % 250 + 1
        self.near = NETWORK.format(number, 1)
        self.far = NETWORK.format(number, 2)
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
        """From the far end: a socket stays in the namespace of its birth."""
        made: list[socket.socket] = []

        def work() -> None:
            enter(self.name)
            made.append(socket.create_connection((self.near, port), timeout=10))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return made[0]

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Two ends of one TCP connection: the far one, and the near one."""
        with socket.create_server((self.near, 0)) as listener:
            far = self.connect(listener.getsockname()[1])
            near, _ = listener.accept()
        return far, near

    def pull(self) -> None:
        ip(f"-n {self.name} link set far down")
