"""A pod of examples/kubernetes, played by podman in a network namespace of its own.

podman keeps all its files in a directory of the test. It plays the Deployment, and has
no endpoints, no probes and no hooks: the test acts them out.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from network_cable import enter, ip
from podman_storage import podman_storage
from processes import until
from websocket_peer import Peer, Reply

IMAGE = "localhost/chimirror:latest"  # as in deployment.yaml
CONTAINER = "chimirror-pod-0-chimirror"
CLIENTS, METRICS = 30747, 30757


class Podman:
    """Podman with its own storage, network namespace and image."""

    def __init__(self, directory: Path) -> None:
        self.namespace = f"pod{os.getpid()}"
        self._stack = ExitStack()
        self._storage = podman_storage(directory)

    def __enter__(self) -> Podman:
        self.variables = self._stack.enter_context(self._storage)
        ip(f"netns add {self.namespace}")
        ip(f"-n {self.namespace} link set lo up")
        return self

    def __exit__(self, *error: object) -> None:
        self.remove_pods()
        self.call("volume", "rm", "--force", "--all")
        self.call("image", "rm", "--all", "--force")
        self._stack.close()
        ip(f"netns del {self.namespace}")

    def remove_pods(self) -> None:
        self.call("pod", "rm", "--force", "--all", "--time=0")

    def command(self, *argv: str) -> list[str]:
        """Return a command line that runs podman in the namespace."""
        return ["nsenter", f"--net=/run/netns/{self.namespace}", "podman", *argv]

    def call(self, *argv: str) -> str:
        """Run podman. Returns what it prints.

        Raises:
            AssertionError: It failed.
        """
        done = subprocess.run(
            self.command(*argv),
            env=os.environ | self.variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (argv, done.stdout, done.stderr)
        return done.stdout


class Pod:
    """One pod that runs, and its container."""

    def __init__(self, podman: Podman, manifest: Path) -> None:
        self.podman = podman
        podman.call("kube", "play", str(manifest))
        found = json.loads(podman.call("pod", "inspect", "chimirror-pod-0"))
        (infra,) = json.loads(podman.call("inspect", found["InfraContainerID"]))
        (network,) = infra["NetworkSettings"]["Networks"].values()
        self.address = network["IPAddress"]
        until(lambda: self.status("/live") == 200, "a pod that lives")

    def connect(self, port: int = CLIENTS) -> socket.socket:
        """Connect from the node of the pod."""
        made: list[socket.socket | OSError] = []

        def work() -> None:
            enter(self.podman.namespace)
            try:
                made.append(socket.create_connection((self.address, port), 200))
            except OSError as error:
                made.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if isinstance(made[0], OSError):
            raise made[0]
        return made[0]

    def get(self, path: str) -> Reply:
        """Send a GET to the port of the metrics, as a kubelet or Prometheus does."""
        with Peer(self.connect(METRICS)) as peer:
            head = f"GET {path} HTTP/1.1\r\nHost: {self.address}:{METRICS}\r\n\r\n"
            peer.send_raw(head.encode())
            return peer.refusal()

    def status(self, path: str) -> int:
        """Return the status of a probe, or 0 if nothing listens."""
        try:
            return self.get(path).status
        except OSError:
            return 0

    def start(self, *argv: str) -> subprocess.Popen[str]:
        """Start a program in the container, as a kubelet starts a hook."""
        return subprocess.Popen(
            self.podman.command("exec", CONTAINER, *argv),
            env=os.environ | self.podman.variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def inspect(self) -> dict[str, Any]:
        (found,) = json.loads(self.podman.call("inspect", CONTAINER))
        assert isinstance(found, dict)
        return found
