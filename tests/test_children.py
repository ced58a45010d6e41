"""Children: who they are, how they end, and that none is left."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from chimirror.system import children
from chimirror.system.prctl import become_subreaper
from looping import subreaping
from settling import until


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """Nothing of a test survives it, and orphans are ours while it runs."""
    with subreaping():
        assert become_subreaper()
        yield
        children.end_all()


def sleeper(group: int | None = None, environment: dict[str, str] | None = None) -> int:
    """A child that waits for its end, in a process group (0: its own), or in ours."""
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
        (-40, "signal 40"),
    ],
)
def test_how_a_process_ended(status: int, text: str) -> None:
    assert children.describe(status) == text


def test_every_signal_of_the_wire_has_its_number() -> None:
    for name in "HUP INT QUIT TERM KILL USR1 USR2 CONT WINCH".split():
        assert children.SIGNALS[name] == getattr(signal, f"SIG{name}")
        assert children.signal_name(children.SIGNALS[name]) == name


def test_all_children_are_listed_zombies_too() -> None:
    pids = [sleeper(), zombie()]
    assert sorted(children.listing()) == sorted(pids)
    assert sorted(children._listing_by_parent(os.getpid())) == sorted(pids)


def test_a_kernel_that_lists_no_children(monkeypatch: pytest.MonkeyPatch) -> None:
    pids = [sleeper(), zombie()]
    read = children._read

    def without(path: str) -> bytes:
        if path.endswith("/children"):
            raise FileNotFoundError(path)
        return read(path)

    monkeypatch.setattr(children, "_read", without)
    assert sorted(children.listing()) == sorted(pids)


def test_a_process_that_goes_while_it_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gone(path: str) -> bytes:
        raise ProcessLookupError(path)

    monkeypatch.setattr(children, "_read", gone)
    assert children._listing_by_parent(os.getpid()) == []
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
        assert children.listing() == []


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


def test_all_are_ended_but_those_to_keep() -> None:
    kept = sleeper()
    sleeper()
    zombie()
    sleeper(group=sleeper(group=0))
    children.end_all(keep={kept})
    assert children.listing() == [kept]
    children.end_all()
    assert children.listing() == []


def test_families_are_ended_generation_by_generation() -> None:
    """Whoever has a parent is adopted when that one is killed."""
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
    assert children.listing() == []
    assert os.read(told, 1) == b"", "somebody still holds the pipe"
    os.close(told)


def test_what_cannot_be_ended_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pid = sleeper()
    with monkeypatch.context() as patch:
        patch.setattr(children, "kill", lambda pid: False)
        children.end_all()
    assert children.listing() == [pid]


def test_without_a_descriptor_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def starve(path: str) -> bytes:
        raise OSError(24, "Too many open files")

    pid = sleeper()
    with monkeypatch.context() as patch:
        patch.setattr(children, "_read", starve)
        with pytest.raises(OSError, match="Too many"):
            children.listing()
        children.end_all()
        assert children.variable(pid, b"PATH") == b""
    assert children.listing() == [pid]


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
    assert children.is_outlived(leader)
    children.kill(member)
    os.waitpid(member, 0)
    assert not children.is_outlived(leader)


def test_a_number_that_is_in_use_again_is_somebody_elses() -> None:
    assert not children.is_outlived(os.getppid())
    stranger = sleeper(group=0)
    assert not children.is_outlived(stranger)
    children.kill(stranger)


def test_what_belongs_to_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    class Posix:
        @staticmethod
        def killpg(group: int, number: int) -> None:
            raise PermissionError

        kill = killpg

    with monkeypatch.context() as patch:
        patch.setattr(children, "os", Posix)
        assert children.group_exists(1)
        assert not children.is_outlived(1)
        assert not children.kill_group(1)
        assert not children.kill(1)


def test_sacrifice() -> None:
    pid = sleeper()
    assert children.sacrifice(pid)
    with open(f"/proc/{pid}/oom_score_adj") as file:
        assert file.read() == "1000\n"
    children.kill(pid)
    os.waitpid(pid, 0)
    assert children.sacrifice(pid)  # nobody to be found
