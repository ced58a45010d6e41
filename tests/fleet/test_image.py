"""The image of examples/fleet/image.sh, run by podman: files, signals and zombies.

An upgrade follows chimirror-fleet(7): the new container beside the former one, and
HAProxy with the lines of that page before both.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_upgrade import Balancer, Clients, publish
from debian_packages import build
from kubernetes_pod import Podman
from processes import until
from websocket_peer import Closed, Peer

pytestmark = [pytest.mark.timeout(1200), pytest.mark.xdist_group("debian")]

SCRIPT = Path(__file__).parents[2] / "examples/fleet/image.sh"
NAME = "localhost/chimirror"
USER = "64747"
MEGABYTE = 1_000_000
STARTS = 9
# Leaves a process behind, which is the child of process 1 when it ends.
ORPHAN = ("sh", "-c", "(sh -c 'exit 3' &) ; exec cat")


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    directory = tmp_path_factory.mktemp("image")
    package = build(directory / "tree")
    with Podman(directory) as found:
        done = subprocess.run(
            [SCRIPT, package, NAME],
            env=os.environ | found.variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout
        yield found


class Container:
    """A container without a network, which listens on a Unix socket."""

    def __init__(self, podman: Podman, *words: str) -> None:
        self.podman = podman
        options = ("--detach", "--read-only", "--network=none", "--cap-drop=all")
        listen = ("--listen", "unix:/tmp/socket")
        self.name = podman.call("run", *options, NAME, *listen, *words).strip()
        form = "--format={{.State.Pid}}"
        self.init = int(podman.call("inspect", form, self.name))
        until(lambda: self.path("/tmp/socket").is_socket(), "it listens")

    def path(self, name: str) -> Path:
        return Path(f"/proc/{self.init}/root{name}")

    def open(self) -> Peer:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self.path("/tmp/socket")))
        peer = Peer(connection)
        assert peer.open().status == 101
        return peer

    def terminate(self) -> None:
        self.podman.call("kill", "--signal=TERM", self.name)

    def status(self) -> str:
        """Wait for the end. Returns the exit status."""
        return self.podman.call("wait", self.name).strip()

    def log(self) -> str:
        done = subprocess.run(
            self.podman.command("logs", self.name),
            env=os.environ | self.podman.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.stdout

    def states(self) -> set[str]:
        """Return the states of all processes, as ps(1) shows them."""
        files = self.path("/proc").glob("[0-9]*/stat")
        return {file.read_text().rpartition(")")[2].split()[0] for file in files}


def echo(peer: Peer) -> None:
    peer.send({"a": 1})
    assert peer.output(8) == b'{"a":1}\n'


@pytest.fixture
def containers(podman: Podman) -> Iterator[Podman]:
    yield podman
    podman.call("rm", "--force", "--all", "--time=0")


def test_size(podman: Podman) -> None:
    size = int(podman.call("image", "inspect", "--format={{.Size}}", NAME))
    print(f"image: {size / MEGABYTE:.1f} MB")
    assert size < 100 * MEGABYTE


def test_start(containers: Podman) -> None:
    """Print the time until the first session echoes, and that of an empty container."""
    options = ("--rm", "--read-only", "--network=none", "--entrypoint=/bin/true")
    served, empty = [], []
    for _ in range(STARTS):
        began = time.perf_counter()
        containers.call("run", *options, NAME)
        empty.append(time.perf_counter() - began)
        began = time.perf_counter()
        with Container(containers, "--", "cat").open() as peer:
            echo(peer)
            served.append(time.perf_counter() - began)
    middle, base = (statistics.median(times) * 1000 for times in (served, empty))
    print(f"podman run to the first echo: {middle:.0f} ms, of {STARTS}")
    print(f"podman run of true in the same image, to its end: {base:.0f} ms")


def test_user_and_files(containers: Podman) -> None:
    container = Container(containers, "--", "sh", "-c", "id -u; touch /new || cat")
    with container.open() as peer:
        assert peer.output(6) == f"{USER}\n".encode()
        echo(peer)
    assert containers.call("exec", container.name, "cat", "/proc/1/comm").strip() == (
        "chimirror-serve"
    )


def test_processes_left_behind_are_reaped(containers: Podman) -> None:
    container = Container(containers, "--", *ORPHAN)
    with container.open() as peer:
        echo(peer)
        until(lambda: "Z" not in container.states(), "no zombie is left")
        peer.send_close()
        peer.transcript()
    until(lambda: "Z" not in container.states(), "no zombie is left")


def test_a_signal_drains(containers: Podman) -> None:
    """A session ends by itself, and then the container ends."""
    container = Container(containers, "--drain-timeout", "1h", "--", "cat")
    with container.open() as peer:
        echo(peer)
        container.terminate()
        echo(peer)
        peer.send_close()
        assert peer.transcript().closed == Closed(1000, "")
    assert container.status() == "0"


def test_a_second_signal_ends_all_sessions(containers: Podman) -> None:
    container = Container(containers, "--drain-timeout", "1h", "--", "cat")
    with container.open() as peer:
        echo(peer)
        container.terminate()
        until(lambda: "again to end them now" in container.log(), "it drains")
        container.terminate()
        assert peer.transcript().closed == Closed(1001, "drain")
    assert container.status() == "0"


def test_a_new_image_takes_over(containers: Podman, tmp_path: Path) -> None:
    """No handshake fails, and no session is lost."""
    created = containers.call("create", NAME).strip()
    following = 'CMD ["--", "sh", "-c", "echo two; exec cat"]'
    containers.call(
        "commit", "--quiet", f"--change={following}", created, f"{NAME}:two"
    )
    former = ("--drain-timeout=1h", "--", "sh", "-c", "echo one; exec cat")
    publish(containers, "one", NAME, *former)
    with Balancer(containers, tmp_path) as balancer:
        balancer.await_server("one")
        with balancer.open() as long, Clients(balancer) as clients:
            assert long.output(4) == b"one\n"
            clients.await_sessions("one", 10)
            publish(containers, "two", f"{NAME}:two")
            balancer.await_server("two")
            containers.call("kill", "--signal=TERM", "one")
            clients.await_sessions("two", 100)
            clients.stop()
            assert clients.failures == []
            assert clients.named[-1] == "two"
            echo(long)
            long.send_close()
            assert long.transcript(wait=False).closed == Closed(1000, "")
            print(f"an upgrade: sessions {Counter(clients.named)}, 0 failures")
    assert containers.call("wait", "one").strip() == "0"
