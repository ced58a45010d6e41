"""Child processes: how they are listed, how they end, and that none is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE

import pytest

from chimirror.process import children
from chimirror.process.children import become_subreaper
from loops import subreaper
from processes import until


@pytest.fixture(autouse=True)
def no_survivors() -> Iterator[None]:
    """No process outlives its test. Orphans are adopted while the test runs."""
    with subreaper():
        assert become_subreaper()
        yield
        children.end_all()


def sleeper(group: int | None = None, environment: dict[str, str] | None = None) -> int:
    """A sleeping child in a process group (0: its own), or in the test's group."""
    return os.posix_spawnp(
        "sleep",
        ["sleep", "1000"],
        {"PATH": os.environ["PATH"], **(environment or {})},
        setpgroup=os.getpgrp() if group is None else group,
    )


def zombie(status: int = 0) -> int:
    """A child that has ended and is not reaped."""
    pid = os.posix_spawnp("sh", ["sh", "-c", f"exit {status}"], os.environ)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0, "exit 0"),
        (3, "exit 3"),
        (-9, "signal KILL"),
        (-6, "signal ABRT"),
        (-17, "signal CHLD"),
        (-32, "signal 32"),
        (-34, "signal 34"),
        (-40, "signal 40"),
        (-64, "signal 64"),
    ],
)
def test_how_a_process_ended(status: int, text: str) -> None:
    assert children.describe(status) == text


def test_every_signal_of_the_protocol_has_its_number() -> None:
    for name in "HUP INT QUIT TERM KILL USR1 USR2 CONT WINCH".split():
        assert children.SIGNALS[name] == getattr(signal, f"SIG{name}")
        assert children.signal_name(children.SIGNALS[name]) == name


def test_all_children_are_listed_zombies_too() -> None:
    pids = [sleeper(), zombie()]
    assert sorted(children.list_children()) == sorted(pids)
    assert sorted(children._list_by_parent(os.getpid())) == sorted(pids)


def test_a_kernel_that_lists_no_children(monkeypatch: pytest.MonkeyPatch) -> None:
    pids = [sleeper(), zombie()]
    read = children._read

    def without(path: str) -> bytes:
        if path.endswith("/children"):
            raise FileNotFoundError(path)
        return read(path)

    monkeypatch.setattr(children, "_read", without)
    assert sorted(children.list_children()) == sorted(pids)


def test_a_process_that_ends_during_the_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gone(path: str) -> bytes:
        raise ProcessLookupError(path)

    monkeypatch.setattr(children, "_read", gone)
    assert children._list_by_parent(os.getpid()) == []
    assert children.variable(os.getpid(), b"PATH") == b""


def test_a_system_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    class Posix:
        getpid = staticmethod(os.getpid)

        @staticmethod
        def listdir(path: str) -> list[str]:
            raise FileNotFoundError(path)

    def without(path: str) -> bytes:
        raise FileNotFoundError(path)

    with monkeypatch.context() as patch:
        patch.setattr(children, "os", Posix)
        patch.setattr(children, "_read", without)
        assert children.list_children() == []


def test_one_after_the_other_is_reaped() -> None:
    assert children.next_ended() is None
    sleeping = sleeper()
    assert children.next_ended() is None
    ended = {zombie(3): 3, zombie(0): 0}
    found = [children.next_ended(), children.next_ended()]
    assert sorted(filter(None, found)) == sorted(ended.items())
    os.kill(sleeping, signal.SIGKILL)
    os.waitid(os.P_PID, sleeping, os.WEXITED | os.WNOWAIT)
    assert children.next_ended() == (sleeping, -signal.SIGKILL)


@pytest.fixture
def large_child() -> Iterator[int]:
    """Yield a child that ends slowly when it is killed, because of its memory."""
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        memory = b"x" * (256 << 20)
        os.write(write_fd, memory[:1])
        signal.pause()
        os._exit(0)
    os.close(write_fd)
    assert os.read(read_fd, 1) == b"x"
    yield pid
    os.close(read_fd)


def test_a_killed_child_that_is_ending_is_reaped(large_child: int) -> None:
    assert not children.reap_killed(large_child)
    os.kill(large_child, signal.SIGKILL)
    flags = 0
    while not flags & children.PF_EXITING:
        stat = Path(f"/proc/{large_child}/stat").read_text()
        flags = int(stat.rpartition(")")[2].split()[6])
    assert children.reap_killed(large_child)
    assert not children.is_child(large_child)


def test_a_child_that_has_exited_is_left_to_others() -> None:
    pid = os.spawnv(os.P_NOWAIT, "/bin/true", ["true"])
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert not children.reap_killed(pid)
    assert children.next_ended(pid) == (pid, 0)


def test_a_main_thread_that_has_ended_is_not_waited_for() -> None:
    script = (
        "import ctypes, threading, time\n"
        "threading.Thread(target=input).start()\n"
        "print('up', flush=True)\n"
        "ctypes.CDLL(None).pthread_exit(None)"
    )
    argv = [sys.executable, "-c", script]
    with subprocess.Popen(argv, stdin=PIPE, stdout=PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        stat = Path(f"/proc/{process.pid}/stat")
        until(lambda: stat.read_text().split()[2] == "Z", "the thread has ended")
        assert not children.reap_killed(process.pid)
        process.kill()


def test_all_but_the_excluded_are_ended() -> None:
    kept = sleeper()
    sleeper()
    zombie()
    sleeper(group=sleeper(group=0))
    children.end_all(exclude={kept})
    assert children.list_children() == [kept]
    children.end_all()
    assert children.list_children() == []


def test_descendants_are_ended_generation_by_generation() -> None:
    """A grandchild is adopted when its parent is killed."""
    told, tell = os.pipe()
    script = "setsid sh -c 'sleep 1000 & echo; wait' & wait"
    os.posix_spawnp(
        "sh",
        ["sh", "-c", script],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, tell, 1)],
        setpgroup=0,
    )
    os.close(tell)
    assert os.read(told, 1)
    children.end_all()
    assert children.list_children() == []
    assert os.read(told, 1) == b"", "a process still has the pipe open"
    os.close(told)


def test_unkillable_processes_are_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pid = sleeper()
    with monkeypatch.context() as patch:
        patch.setattr(children, "kill", lambda pid: False)
        children.end_all()
    assert children.list_children() == [pid]


def test_a_process_that_does_not_die_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pid = sleeper()
    with monkeypatch.context() as patch:
        patch.setattr(children, "END_TIMEOUT", 0.0)
        patch.setattr(children, "kill", lambda pid: True)
        assert children.end_all() == [pid]
    assert children.end_all() == []


def test_without_a_descriptor_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def starve(path: str) -> bytes:
        raise OSError(24, "Too many open files")

    pid = sleeper()
    with monkeypatch.context() as patch:
        patch.setattr(children, "_read", starve)
        with pytest.raises(OSError, match="Too many"):
            children.list_children()
        children.end_all()
        assert children.variable(pid, b"PATH") == b""
    assert children.list_children() == [pid]


def test_variables() -> None:
    pid = sleeper(environment={"A": "1", "BA": "2", "LONG": "x" * 99_999, "E": "="})
    until(lambda: children.variable(pid, b"PATH"), "execve(2) is over")
    assert children.variable(pid, b"A") == b"1"
    assert children.variable(pid, b"BA") == b"2"
    assert children.variable(pid, b"LONG") == b"x" * 99_999
    assert children.variable(pid, b"E") == b"="
    assert children.variable(pid, b"B") == b""
    assert children.variable(zombie(), b"PATH") == b""


def test_groups() -> None:
    leader, member = sleeper(group=0), sleeper()
    assert children.group_of(leader) == leader
    assert children.group_of(member) == os.getpgrp()
    assert children.group_exists(leader)
    assert children.kill_group(leader)
    os.waitpid(leader, 0)
    assert not children.group_exists(leader)
    assert not children.kill_group(leader)
    assert children.group_of(leader) == -1
    assert not children.kill(leader)
    assert children.kill(member)


def test_a_group_that_outlived_its_leader() -> None:
    leader = sleeper(group=0)
    member = sleeper(group=leader)
    children.kill(leader)
    os.waitpid(leader, 0)
    assert children.has_group_survivors(leader)
    children.kill(member)
    os.waitpid(member, 0)
    assert not children.has_group_survivors(leader)


def test_a_reused_pid_belongs_to_another_process() -> None:
    assert not children.has_group_survivors(os.getppid())
    other = sleeper(group=0)
    assert not children.has_group_survivors(other)
    children.kill(other)


def test_processes_of_other_users(monkeypatch: pytest.MonkeyPatch) -> None:
    class Posix:
        @staticmethod
        def killpg(group: int, number: int) -> None:
            raise PermissionError

        kill = killpg

    with monkeypatch.context() as patch:
        patch.setattr(children, "os", Posix)
        assert children.group_exists(1)
        assert not children.has_group_survivors(1)
        assert not children.kill_group(1)
        assert not children.kill(1)


def test_sacrifice() -> None:
    pid = sleeper()
    assert children.prefer_for_oom_kill(pid)
    with open(f"/proc/{pid}/oom_score_adj") as file:
        assert file.read() == "1000\n"
    children.kill(pid)
    os.waitpid(pid, 0)
    assert not children.prefer_for_oom_kill(pid)  # a hidden process looks the same
