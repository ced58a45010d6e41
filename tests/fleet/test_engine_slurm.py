"""Tests examples/engines/srun.toml: each session is a job on one of four nodes."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from engine_sessions import (
    CHECKS,
    GAME,
    Engine,
    Serving,
    application_file,
    await_nothing,
    enter,
    join,
    join_many,
    serve_here,
)
from processes import until
from slurm_cluster import NODES, SLOTS, SlurmCluster, slurm_cluster
from websocket_peer import Closed, Peer, stdin

# Each check runs on a busy machine too.
pytestmark = pytest.mark.timeout(900)

NODE = 'echo "$SLURMD_NODENAME"; exec cat'  # two characters, and a line break
HUNGRY = f"exec {sys.executable} -c 'held = b\"x\" * 300_000_000; input()'"


class Slurm:
    """The cluster, as the engine of the sessions."""

    name = "srun"

    def __init__(self, directory: Path, cluster: SlurmCluster) -> None:
        self.directory = directory
        self.cluster = cluster
        game = directory / "game"
        game.write_text(GAME)
        game.chmod(0o755)
        words = {"game": f'"{game}"', "--immediate=10": '"--immediate=30"'}
        self.apps = application_file(directory / "apps", self.name, words)

    def serve(self, *options: str) -> AbstractContextManager[Serving]:
        variable = f"--env=SLURM_CONF={self.cluster.config}"
        return serve_here(self.directory, self.apps, variable, *options)

    def remaining(self) -> list[str]:
        """Return the jobs, also those that are known by their processes alone."""
        jobs = [*self.cluster.jobs()]
        return jobs or [f"process {pid}" for pid in self.cluster.tasks()]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    directory = tmp_path_factory.mktemp("slurm")
    with slurm_cluster(directory) as cluster:
        yield Slurm(directory, cluster)


@pytest.mark.parametrize("check", CHECKS)
def test_session(check: Callable[[Engine], None], slurm: Slurm) -> None:
    check(slurm)


def node_of(peer: Peer) -> str:
    """Return the node that a session with NODE runs on."""
    return peer.output(3).decode().strip()


def still_works(peer: Peer) -> None:
    peer.send(stdin(b"still"))
    assert peer.output(5) == b"still"


def test_sessions_spread_over_the_nodes(slurm: Slurm) -> None:
    """The cluster is full of sessions, and one more is refused by Slurm."""
    count = SLOTS * len(NODES)
    with slurm.serve() as serving, ExitStack() as stack:
        peers = join_many(stack, serving, slurm.name, NODE, count)
        spread = Counter(node_of(peer) for peer in peers)
        assert spread == dict.fromkeys(NODES, SLOTS)
        with enter(serving, slurm.name) as further:
            story = further.transcript()
            assert story.closed == Closed(1011, "exit 1")
            assert b"Unable to allocate resources" in story.stderr
        for peer in peers:
            still_works(peer)
        stack.close()
        await_nothing(slurm, serving)


def test_memory_of_a_job_is_limited(slurm: Slurm) -> None:
    with slurm.serve() as serving, join(serving, slurm.name, HUNGRY) as peer:
        story = peer.transcript()
        assert b"memory limit" in story.stderr
        assert story.closed.code == 1011
        await_nothing(slurm, serving)


def test_a_drained_node_gets_no_new_session(slurm: Slurm) -> None:
    with slurm.serve() as serving, ExitStack() as stack:
        old = join_many(stack, serving, slurm.name, NODE, 8)
        assert {node_of(peer) for peer in old} == {*NODES}
        drain = ("scontrol", "update", "NodeName=n2")
        slurm.cluster.do(*drain, "State=DRAIN", "Reason=test")
        new = join_many(stack, serving, slurm.name, NODE, 8)
        assert {node_of(peer) for peer in new} == {*NODES} - {"n2"}
        for peer in (*old, *new):
            still_works(peer)
        slurm.cluster.do(*drain, "State=RESUME")
        until(lambda: slurm.cluster.states()["n2"] == "mixed", "n2 is back")
        stack.close()
        await_nothing(slurm, serving)


def test_a_dead_node_ends_its_sessions(tmp_path: Path) -> None:
    """They end with a failure, others go on, and new ones go elsewhere."""
    with slurm_cluster(tmp_path, 10) as cluster, ExitStack() as stack:
        slurm = Slurm(tmp_path, cluster)
        serving = stack.enter_context(slurm.serve())
        peers = join_many(stack, serving, slurm.name, NODE, 8)
        nodes = [node_of(peer) for peer in peers]
        assert {*nodes} == {*NODES}
        cluster.kill_node("n3")
        for node, peer in zip(nodes, peers, strict=True):
            if node == "n3":
                story = peer.transcript()
                assert b"Node failure on n3" in story.stderr
                assert story.closed == Closed(1011, "exit 1")
            else:
                still_works(peer)
        until(lambda: "down" in cluster.states()["n3"], "n3 is known to be down")
        with join(serving, slurm.name, NODE) as peer:
            assert node_of(peer) != "n3"
        for peer in peers:
            peer.close()
        await_nothing(slurm, serving)
