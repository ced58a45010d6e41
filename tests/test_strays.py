"""What ended sessions leave behind is found and killed, and nothing else is.

A stray is a process that fled from its session: into another group, another session,
another generation.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from chimirror.system import children
from chimirror.system.strays import MEMORY, SWEEPS
from house import House, housing
from looping import turn_until
from settling import processes


@pytest.fixture
def house() -> Iterator[House]:
    with housing() as one:
        yield one


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


@pytest.mark.parametrize("name", STRAYS)
def test_strays_are_ended(name: str, house: House) -> None:
    """Right after the start too, when they have not come far yet."""
    for _ in range(5):
        client = house.sh(f"exec >&-; {STRAYS[name]}")
        turn_until(house.loop, lambda client=client: client.status is not None)  # type: ignore[misc]
        assert client.status == (-9 if name == "killed with it" else 3)
    house.alone()
    assert not [each for each in processes() if each.parent == os.getpid()]


def test_a_stray_that_flees_from_generation_to_generation(house: House) -> None:
    """Each starts the next and ends, so that most looks see a zombie."""
    for number in range(3):
        flee = 'sleep 0.02; setsid sh -c "$PLAY" &'
        house.sh(flee, f"session-{number}")
    turn_until(house.loop, lambda: all(c.status is not None for c in house.clients))
    house.alone()


def test_strays_of_living_sessions_are_left_alone(house: House) -> None:
    living = house.sh("setsid -f sleep 1000; echo up; exec cat", "living")
    turn_until(house.loop, lambda: living.said == b"up\n")
    house.told(house.sh("exit", "ended"))
    house.passes(3 * SWEEPS)
    strays = [pid for pid in children.listing() if pid != living.pid]
    assert len(strays) == 1
    living.close()
    house.alone()


def test_who_hides_is_looked_for_no_longer_than_needed(house: House) -> None:
    """Without its variable, in its own session, it is the cgroup's to end."""
    house.told(house.sh("exec >&-; env -i setsid sleep 1000 & exit"))
    turn_until(house.loop, lambda: not house.sweeper()._ended)
    assert len(children.listing()) == 1
    children.end_all()
    house.passes(0.1)


def test_nothing_is_looked_for_where_nothing_is_left(house: House) -> None:
    client = house.sh("exit")
    house.told(client)
    turn_until(house.loop, lambda: not house.sweeper()._ended)
    assert house.loop.now - house.sweeper().deadline < MEMORY


def test_a_stray_in_the_midst_of_execve_is_found_later(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no environment for some microseconds."""
    client = house.sh("setsid sh -c 'echo up; exec sleep 1000' & read go")
    turn_until(house.loop, lambda: client.said == b"up\n")
    variable, looks = children.variable, []

    def blank_at_first(pid: int, name: bytes) -> bytes:
        looks.append(pid)
        return b"" if len(looks) < 3 else variable(pid, name)

    monkeypatch.setattr(children, "variable", blank_at_first)
    client.close()
    turn_until(house.loop, lambda: client.status is not None)
    house.alone()
    assert len(looks) >= 3


def test_a_shortage_of_descriptors_only_delays(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing, looks = children.listing, []

    def starve_at_first() -> list[int]:
        looks.append(1)
        if len(looks) < 3:
            raise OSError(24, "Too many open files")
        return listing()

    house.sh("exec >&-; sleep 1000 & exit")
    with monkeypatch.context() as patch:
        patch.setattr(children, "listing", starve_at_first)
        turn_until(house.loop, lambda: len(looks) >= 3)
    house.alone()


def test_a_number_that_is_somebody_elses_group_is_spared(house: House) -> None:
    """No child of ours is in it: then it may have been given away again."""
    killed: list[int] = []
    client = house.sh("exit", "one")
    house.told(client)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(children, "kill_group", killed.append)
        client.starter.finish(os.getppid(), "two", survivors=True)
        turn_until(house.loop, lambda: not house.sweeper()._ended)
    assert killed == []


def test_a_number_that_was_given_away_again_is_spared(house: House) -> None:
    """To an application that lives, or to one of which only strays do."""
    living = house.sh("(sleep 1000 &); echo up; exec cat", "living")
    turn_until(house.loop, lambda: living.said == b"up\n")
    lingering = house.sh("echo up; exec >&-; (sleep 1000 &)", "lingering")
    lingering.finish = lambda: None  # type: ignore[method-assign]
    turn_until(house.loop, lambda: lingering.status is not None)
    before = children.listing()
    assert len(before) == 3
    for client in (living, lingering):
        client.starter.finish(client.pid, "another", survivors=True)
        turn_until(house.loop, lambda: not house.sweeper()._ended)
    assert children.listing() == before
    house.player.finish(lingering.pid, "lingering", survivors=True)
    turn_until(house.loop, lambda: len(children.listing()) == 2)
    living.close()
    house.alone()
