"""Strays of ended sessions are found and killed, and no other process is.

A stray has left the process tree of its session: it is in another group, another
session or another generation.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from chimirror.process import children, reaper
from chimirror.process.reaper import SWEEP_DURATION, SWEEP_INTERVAL
from loops import turn_until
from processes import PATIENCE, processes, until
from spawner_fixture import SpawnerHarness, program, spawner_harness


@pytest.fixture
def harness() -> Iterator[SpawnerHarness]:
    with spawner_harness() as one:
        yield one


@pytest.fixture
def thorough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Search for strays as long as a busy machine may need to show them."""
    monkeypatch.setattr(reaper, "SWEEP_DURATION", PATIENCE)


STRAYS = {
    "in its group": "sleep 1000 & exit 3",
    "of its group, without the variable": "env -i sleep 1000 & exit 3",
    "in another group": "exec bash -c 'set -m; sleep 1000 & exit 3'",
    "in another session": "setsid sleep 1000 & exit 3",
    "forked twice": "setsid -f sh -c 'sleep 1000 & sleep 1000 & exit' & exit 3",
    "of several generations": "setsid sh -c '(sleep 1000 & (sleep 1000 & "
    "setsid sleep 1000 & sleep 1000)) & sleep 1000' & exit 3",
    "that ignore all": "trap '' TERM HUP INT; setsid sleep 1000 & exit 3",
    "that are stopped": "setsid sh -c 'kill -STOP $$' & exit 3",
    "killed with it": "setsid sleep 1000 & kill -KILL $$",
}


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("name", STRAYS)
def test_strays_are_ended(name: str, harness: SpawnerHarness) -> None:
    """Also right after the start, before they have left the group."""
    for _ in range(5):
        client = harness.sh(f"exec >&-; {STRAYS[name]}")
        turn_until(harness.loop, lambda client=client: client.status is not None)  # type: ignore[misc]
        assert client.status == (-9 if name == "killed with it" else 3)
    harness.wait_for_all()
    assert not [each for each in processes() if each.parent == os.getpid()]


@pytest.mark.usefixtures("thorough")
def test_a_stray_that_forks_again_and_again(harness: SpawnerHarness) -> None:
    """Each starts the next and ends, so that most searches see a zombie."""
    for number in range(3):
        flee = 'sleep 0.02; setsid sh -c "$SCRIPT" &'
        harness.sh(flee, f"session-{number}")
    turn_until(harness.loop, lambda: all(c.status is not None for c in harness.clients))
    harness.wait_for_all()


@pytest.mark.usefixtures("thorough")
def test_processes_of_running_sessions_are_kept(harness: SpawnerHarness) -> None:
    living = harness.sh("setsid -f sleep 1000; echo up; exec cat", "living")
    turn_until(harness.loop, lambda: living.output == b"up\n")
    harness.output_of(harness.sh("exit", "ended"))
    harness.pass_time(3 * SWEEP_INTERVAL)
    left = [pid for pid in children.list_children() if pid != living.pid]
    assert len(left) == 1
    living.close()
    harness.wait_for_all()


def test_the_search_for_a_hidden_stray_is_bounded(harness: SpawnerHarness) -> None:
    """Without the variable, in its own session: only the cgroup can end it."""
    hide = "(env -i setsid sh -c 'exec sleep 1000 >&- 2>&-' &)"
    harness.output_of(harness.sh(f"exec >&-; : $( {hide} ); exit"))
    turn_until(harness.loop, lambda: not harness.sweeper()._ended)
    assert len(children.list_children()) == 1
    children.end_all()
    harness.pass_time(0.1)


def test_no_search_without_survivors(harness: SpawnerHarness) -> None:
    client = harness.sh("exit")
    harness.output_of(client)
    turn_until(harness.loop, lambda: not harness.sweeper()._ended)
    assert harness.loop.now - harness.sweeper().deadline < SWEEP_DURATION


@pytest.mark.usefixtures("thorough")
def test_a_stray_during_execve_is_found_later(
    harness: SpawnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no environment for some microseconds."""
    client = harness.sh("setsid sh -c 'echo up; exec sleep 1000' & read go")
    turn_until(harness.loop, lambda: client.output == b"up\n")
    variable, looks = children.variable, []

    def blank_at_first(pid: int, name: bytes) -> bytes:
        looks.append(pid)
        return b"" if len(looks) < 3 else variable(pid, name)

    monkeypatch.setattr(children, "variable", blank_at_first)
    client.close()
    turn_until(harness.loop, lambda: client.status is not None)
    harness.wait_for_all()
    assert len(looks) >= 3


@pytest.mark.usefixtures("thorough")
def test_a_shortage_of_descriptors_only_delays(
    harness: SpawnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing, looks = children.list_children, []

    def starve_at_first() -> list[int]:
        looks.append(1)
        if len(looks) < 3:
            raise OSError(24, "Too many open files")
        return listing()

    harness.sh("exec >&-; sleep 1000 & exit")
    with monkeypatch.context() as patch:
        patch.setattr(children, "list_children", starve_at_first)
        turn_until(harness.loop, lambda: len(looks) >= 3)
    harness.wait_for_all()


def test_a_reused_group_number_is_not_killed(harness: SpawnerHarness) -> None:
    """No child of this process is in the group, so its number may be reused."""
    killed: list[int] = []
    client = harness.sh("exit", "one")
    harness.output_of(client)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(children, "kill_group", killed.append)
        client.spawner.end_session(os.getppid(), "two", survivors=True)
        turn_until(harness.loop, lambda: not harness.sweeper()._ended)
    assert killed == []


def test_a_group_of_another_application_is_not_killed(harness: SpawnerHarness) -> None:
    """The number may belong to a running application, or to strays of another one."""
    living = harness.sh("(sleep 1000 &); echo up; exec cat", "living")
    turn_until(harness.loop, lambda: living.output == b"up\n")
    lingering = harness.sh("echo up; exec >&-; (sleep 1000 &)", "lingering")
    lingering.finish = lambda: None  # type: ignore[method-assign]
    turn_until(harness.loop, lambda: lingering.status is not None)
    before = children.list_children()
    assert len(before) == 3
    for client in (living, lingering):
        client.spawner.end_session(client.pid, "another", survivors=True)
        turn_until(harness.loop, lambda: not harness.sweeper()._ended)
    assert children.list_children() == before
    harness.spawner.end_session(lingering.pid, "lingering", survivors=True)
    turn_until(harness.loop, lambda: len(children.list_children()) == 2)
    living.close()
    harness.wait_for_all()


def test_strays_that_another_process_has_adopted(harness: SpawnerHarness) -> None:
    """The sleepers are children of a living shell. One belongs to another session."""
    script = "CHIMIRROR_SESSION={} sleep 1000 & {}"
    sleepers = script.format("session-9", script.format("session-8", "wait; wait"))
    shell = harness.start(program("sh", "-c", sleepers), session="session-7")
    found: list[int] = []

    def ask() -> bool:
        text = Path(f"/proc/{shell.pid}/task/{shell.pid}/children").read_text()
        found[:] = [int(pid) for pid in text.split()]
        return [children.name(pid) for pid in found] == [b"sleep"] * 2

    until(ask, "both sleep")
    harness.spawner.sweep_here()
    harness.spawner.finish_sweep()  # no session has ended
    harness.pass_time(0.0)  # the loop has the present time
    harness.spawner.end_session(0, "session-9", survivors=False)
    harness.spawner.finish_sweep()
    until(lambda: children.variable(found[0], b"PATH") == b"", "it is killed")
    assert children.variable(found[1], b"CHIMIRROR_SESSION") == b"session-8"
    harness.spawner.signal(shell.pid, signal.SIGKILL)
    harness.spawner.end_session(0, "session-8", survivors=False)
    harness.spawner.end_session(0, "session-7", survivors=False)
    harness.wait_for_all()
