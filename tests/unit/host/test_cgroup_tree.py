"""Tests the cgroups of a server against real ones, and a search for none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chimirror.host import cgroup_tree
from chimirror.host.cgroup_tree import CgroupError, CgroupTree

# Says its pid once it is in a group, and waits for its end.
MEMBER = "import os, sys; open(sys.argv[1], 'w').write('0'); print(flush=True); input()"


@pytest.fixture
def base() -> Iterator[str]:
    """A group for one test."""
    found = cgroup_tree.find_base()
    if cgroup_tree.find_obstacle(found):
        pytest.skip("no writable cgroup v2")
    path = f"{found}/test-{os.getpid()}"
    os.mkdir(path)
    yield path
    assert cgroup_tree.remove(path)


def member(path: str) -> subprocess.Popen[bytes]:
    """Start a process in a group."""
    process = subprocess.Popen(
        [sys.executable, "-c", MEMBER, f"{path}/cgroup.procs"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"\n"
    return process


def end(process: subprocess.Popen[bytes]) -> int:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.stdout.close()
    return process.wait()


def test_a_group_is_removed_with_its_processes(base: str) -> None:
    below = f"{base}/1/2"
    os.makedirs(below)
    assert not cgroup_tree.is_populated(base)
    process = member(below)
    assert cgroup_tree.is_populated(base)
    cgroup_tree.remove(base + "/1")
    assert end(process) == -9
    assert cgroup_tree.remove(base + "/1")
    assert not os.path.exists(base + "/1")
    assert cgroup_tree.remove(base + "/1")  # it is gone already


def test_leftovers_are_groups_of_servers_that_have_ended(base: str) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    live, dead = f"{base}/chimirror-{os.getppid()}", f"{base}/chimirror-{ended.pid}"
    for path in (live, dead, f"{base}/chimirror-x", f"{base}/other-{ended.pid}"):
        os.mkdir(path)
    tree = CgroupTree(base, os.getpid())
    assert tree.leftovers() == [dead]
    os.mkdir(f"{dead}/server")
    assert tree.leftovers() == [dead]
    process = member(f"{dead}/server")  # a worker that drains
    assert tree.leftovers() == []
    end(process)
    assert tree.leftovers() == [dead]


def test_a_zombie_is_a_server_that_has_ended(base: str) -> None:
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    os.mkdir(f"{base}/chimirror-{zombie.pid}")
    tree = CgroupTree(base, os.getpid())
    assert tree.leftovers() == [f"{base}/chimirror-{zombie.pid}"]
    zombie.wait()


def test_the_groups_of_workers(base: str) -> None:
    tree = CgroupTree(base, 7)
    os.mkdir(tree.path)
    os.mkdir(f"{tree.path}/server")
    assert tree.worker_paths() == []
    os.mkdir(tree.worker_path(8))
    assert tree.worker_paths() == [f"{base}/chimirror-7/worker-8"]


def test_a_base_that_does_not_exist(tmp_path: Path) -> None:
    tree = CgroupTree(f"{tmp_path}/missing", 7)
    assert tree.leftovers() == tree.worker_paths() == []
    with pytest.raises(CgroupError, match="No such file or directory"):
        tree.create()
    tree.close()


def test_a_kernel_without_kill(tmp_path: Path) -> None:
    with pytest.raises(CgroupError, match=r"cgroup\.kill is missing"):
        CgroupTree(str(tmp_path), 7).create()


@pytest.mark.parametrize("mount", ["", "/unified"])
def test_the_group_of_this_process_is_found(mount: str, tmp_path: Path) -> None:
    listing = tmp_path / "listing"
    listing.write_text("1:name=systemd:/other\n0::/a/b\n")
    own = Path(f"{tmp_path}{mount}/a/b")
    own.mkdir(parents=True)
    with pytest.raises(CgroupError, match="is not mounted"):
        cgroup_tree.find_base(str(listing), str(tmp_path))
    (own / "cgroup.controllers").touch()
    assert cgroup_tree.find_base(str(listing), str(tmp_path)) == str(own)
    listing.write_text("1:name=systemd:/other\n")
    with pytest.raises(CgroupError, match="is not mounted"):
        cgroup_tree.find_base(str(listing), str(tmp_path))


def test_an_obstacle_names_the_cure(tmp_path: Path) -> None:
    text = cgroup_tree.find_obstacle(f"{tmp_path}/missing")
    assert text.startswith(f"{tmp_path}/missing is not writable; run it as root or")
