"""Tests that no process outlives its session, where sessions have cgroups.

The processes clear their environment and leave their process group and session. Root
is needed. Tests wait for events of the kernel or the log.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from chimirror.host import cgroup_tree
from chimirror.server import capacity
from processes import comm, descriptors, ended, until
from serve import Service, preloading, pure_server, server
from shell_sessions import SHELL, SOON, join, kill_zygote, told
from websocket_peer import Peer

GRACES = ("--stop-grace=50ms", "--kill-grace=100ms", "--linger-timeout=100ms")
ON = ("--session-cgroup=on", *GRACES)
# Clears all that names the session: environment, process group, session, parent.
ESCAPE = "(env -i setsid -f sh -c 'exec sleep 1000' >&- 2>&- <&-); echo ok"
STORM = 200
PRELOADED = """\
import os, subprocess
def main():
    command = ["env", "-i", "setsid", "-f", "sleep", "1000"]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    print("up", flush=True)
    input()
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def tree_of(service: Service) -> Path:
    """Return the group of a server."""
    found = Path(cgroup_tree.find_base(), f"chimirror-{service.pid}")
    until(found.exists, "its group")
    return found


def members(tree: Path) -> list[int]:
    """Return the processes of all sessions."""
    # os.walk() passes over groups that are being removed
    groups = [Path(path) for path, _, _ in os.walk(tree)]
    texts = [read(group / "cgroup.procs") for group in groups if group.name.isdigit()]
    return sorted(int(pid) for text in texts for pid in text.split())


def read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # it is being removed
        return ""


def sleepers(tree: Path) -> list[int]:
    return [pid for pid in members(tree) if comm(pid) == "sleep"]


def escaped(tree: Path, peer: Peer) -> int:
    """Start a process that nothing but its cgroup ties to its session."""
    before = set(sleepers(tree))
    assert told(peer, ESCAPE, 3) == b"ok\n"
    until(lambda: len({*sleepers(tree)} - before) == 1, "it sleeps")
    (pid,) = {*sleepers(tree)} - before
    return pid


def test_a_storm_leaves_no_process(tmp_path: Path) -> None:
    with server(tmp_path, SHELL, "--workers=2", *ON) as service:
        tree = tree_of(service)
        with ExitStack() as stack:
            peers = [stack.enter_context(join(service)) for _ in range(STORM)]
            for peer in peers:
                assert told(peer, ESCAPE, 3) == b"ok\n"
            until(lambda: len(sleepers(tree)) == STORM, "all sleep")
            pids = members(tree)
        service.await_ends(STORM)
        for pid in pids:
            assert ended(pid, SOON)
        with join(service) as peer:  # also in a group that is used again
            escaped(tree, peer)
    assert not tree.exists()


def test_an_application_that_ends_by_itself_leaves_no_process(tmp_path: Path) -> None:
    with server(tmp_path, SHELL, "--workers=1", *ON) as service:
        tree = tree_of(service)
        for _ in range(3):
            with join(service) as peer:
                pid = escaped(tree, peer)
                told(peer, "exit 3", 0)
                assert ended(pid, SOON)


def groups(tree: Path) -> list[int]:
    """Return the numbers of the groups of sessions."""
    return sorted(int(path.name) for path in tree.glob("worker-*/[0-9]*"))


def test_groups_are_used_again_unless_a_process_was_killed(tmp_path: Path) -> None:
    with server(tmp_path, SHELL, "--workers=1", *ON) as service:
        tree = tree_of(service)
        service.await_workers(1)
        before = groups(tree)
        (worker,) = service.workers()
        opened = descriptors(worker)
        assert opened <= capacity.RESERVED - 60, "the others are for starts and spares"
        for number in range(3):
            join(service).close()
            service.await_ends(number + 1)
        assert groups(tree) == before
        with join(service) as peer:
            escaped(tree, peer)
        service.await_ends(4)
        until(lambda: len(groups(tree)) == len(before) - 1, "it is removed")
        with ExitStack() as stack:
            for _ in before:
                peer = stack.enter_context(join(service))
                assert told(peer, "echo ok", 3) == b"ok\n"
            assert len(groups(tree)) == len(before)
            assert groups(tree)[-1] == len(before)  # a new one
            for _ in before:
                stack.enter_context(join(service))
            assert len(groups(tree)) == 2 * len(before)
        service.await_ends(4 + 2 * len(before))
        assert len(groups(tree)) == 2 * len(before)
        until(lambda: descriptors(worker) == opened, "none is left")


def test_a_program_that_cannot_be_started_leaves_its_group(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"#!/bin/sh\n")
    program.chmod(0o755)
    with server(tmp_path, [str(program)], "--workers=1", *ON) as service:
        tree = tree_of(service)
        program.unlink()
        service.await_workers(1)
        before = groups(tree)
        for _ in range(2 * len(before)):
            with Peer(service.connect()) as peer:
                assert peer.open(framing="stdio").status == 500
        assert groups(tree) == before


def test_a_dead_worker_leaves_no_process(tmp_path: Path) -> None:
    with server(tmp_path, SHELL, "--workers=1", *ON) as service:
        tree = tree_of(service)
        with join(service) as peer:
            pid = escaped(tree, peer)
            (worker,) = service.workers()
            os.kill(worker, signal.SIGKILL)
            assert ended(pid, SOON)
        until(lambda: not Path(tree, f"worker-{worker}").exists(), "it is removed")
        join(service).close()


def test_a_dead_supervisor_leaves_no_process(tmp_path: Path) -> None:
    with server(tmp_path, SHELL, "--workers=1", *ON) as service:
        tree = tree_of(service)
        with join(service) as peer:
            pid = escaped(tree, peer)
            service.kill_supervisor()
        assert ended(pid, SOON)
        until(lambda: not members(tree), "nothing is left")
        service.process.wait()
    remove_leftovers(tree)


def test_the_next_server_removes_what_a_killed_server_has_left(tmp_path: Path) -> None:
    with server(tmp_path, SHELL, "--workers=1", *ON) as service:
        tree = tree_of(service)
        with join(service) as peer:
            pid = escaped(tree, peer)
            service.kill_all()
        assert not ended(pid, 0)
        with server(tmp_path, SHELL, "--workers=1", *ON) as successor:
            assert ended(pid, SOON)
            until(lambda: not tree.exists(), "its groups are removed")
            join(successor).close()


def remove_leftovers(tree: Path) -> None:
    until(lambda: cgroup_tree.remove(str(tree)), "the groups are removed")


def test_the_zygote_starts_programs_of_users_in_a_group(tmp_path: Path) -> None:
    options = ("--workers=1", "--user=nobody", "--directory=/", *ON)
    with server(tmp_path, SHELL, *options) as service:
        tree = tree_of(service)
        with join(service) as peer:
            pid = escaped(tree, peer)
            assert os.stat(f"/proc/{pid}").st_uid != 0
            kill_zygote(service)
            told(peer, "exit", 0)
            assert ended(pid, SOON)


def test_the_zygote_starts_copies_in_a_group(tmp_path: Path) -> None:
    tmp_path.joinpath("warm.py").write_text(PRELOADED)
    with preloading(tmp_path, "warm:main", "--workers=1", *ON) as service:
        tree = tree_of(service)
        with join(service):
            until(lambda: len(sleepers(tree)) == 1, "it sleeps")
            (pid,) = sleepers(tree)
        assert ended(pid, SOON)


def test_a_server_that_is_no_unit_has_no_groups_by_default(tmp_path: Path) -> None:
    with server(tmp_path, SHELL, *GRACES) as service:
        join(service).close()
        assert not Path(cgroup_tree.find_base(), f"chimirror-{service.pid}").exists()


def test_a_zygote_without_the_extension_has_groups_on_request(tmp_path: Path) -> None:
    with pure_server(tmp_path, SHELL, *ON) as service:
        tree = tree_of(service)
        with join(service) as peer:
            pid = escaped(tree, peer)
        assert ended(pid, SOON)


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("--session-cgroup=on", "--session-cgroup on"),
        ("--session-memory-max=64M", "--session-memory-max"),
        ("--session-tasks-max=9", "--session-tasks-max"),
        ("--session-cpu-weight=50", "--session-cpu-weight"),
    ],
)
def test_a_user_without_a_tree_is_told_why(option: str, name: str) -> None:
    program = [sys.executable, "-P", "-m", "chimirror.server", option]
    command = ["setpriv", "--reuid=65534", "--clear-groups", *program]
    done = subprocess.run(
        [*command, "--log-format=text", "--listen=127.0.0.1:0", "cat"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == os.EX_UNAVAILABLE, done.stderr
    assert f"chimirror-server: {name}: " in done.stderr
    assert "not writable; run it as root or in a unit with Delegate=yes" in done.stderr


def test_a_file_whose_limits_cannot_be_enforced(tmp_path: Path) -> None:
    """The other applications are served."""
    directory = tmp_path / "apps"
    directory.mkdir()
    directory.joinpath("plain.toml").write_text('command = ["cat"]\n')
    text = 'command = ["cat"]\nsession-tasks-max = 9\n'
    directory.joinpath("limited.toml").write_text(text)
    options = (f"--apps={directory}", "--workers=1", *GRACES)
    with server(tmp_path, [], *options) as service:
        with Peer(service.connect()) as peer:
            assert peer.open("/limited").status == 500
        with Peer(service.connect()) as peer:
            assert peer.open("/plain").status == 101
        service.find(
            "limited.toml:2: (--session-tasks-max: sessions of this server have no "
            "cgroup)"
        )
