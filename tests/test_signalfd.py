"""The kernel's word on which child has ended: a hint, and no more than that."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

import pytest

from chimirror.system import children
from chimirror.system.signalfd import Hints
from house import House, housing
from looping import turn_until


@pytest.fixture
def house() -> Iterator[House]:
    with housing() as one:
        hints = Hints(one.loop, one.player)
        try:
            yield one
        finally:
            if hints.fd >= 0:
                one.loop.close(hints.fd)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGCHLD,))


def test_one_end(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number is asked for, before any other is looked for."""
    asked: list[int] = []
    next_ended = children.next_ended

    def note(pid: int = -1) -> tuple[int, int] | None:
        asked.append(pid)
        return next_ended(pid)

    monkeypatch.setattr(children, "next_ended", note)
    client = house.sh("exit 3")
    house.told(client)
    assert client.status == 3
    assert asked == [client.pid, -1]


def test_ends_that_share_a_signal(house: House) -> None:
    clients = [house.sh("read go; exit 4") for _ in range(20)]
    for client in clients:
        os.write(client.pipes[0], b"\n")
    for client in clients:
        os.waitid(os.P_PID, client.pid, os.WEXITED | os.WNOWAIT)
    for client in clients:
        house.told(client)
    assert [client.status for client in clients] == [4] * 20


def test_a_signal_of_somebody_elses(house: House) -> None:
    """It names no child of ours."""
    client = house.sh("cat")
    os.kill(os.getpid(), signal.SIGCHLD)
    house.loop.turn()
    assert client.status is None


def test_an_application_has_the_signal_unblocked(house: House) -> None:
    client = house.sh("exec grep SigBlk /proc/self/status")
    assert house.told(client) == b"SigBlk:\t0000000000000000\n"


@pytest.mark.parametrize("without", ["system", "ctypes"])
def test_without_it_the_signal_goes_on(
    without: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if without == "system":
        monkeypatch.setattr(sys, "platform", "other")
    else:
        monkeypatch.setitem(sys.modules, "_ctypes", None)
    with housing() as house:
        assert Hints(house.loop, house.player).fd == -1
        client = house.sh("exit 3")
        turn_until(house.loop, lambda: client.status is not None)
        assert client.status == 3


def test_a_bug_is_its_keepers(house: House) -> None:
    hints = Hints(house.loop, house.player)
    with pytest.raises(LookupError):
        hints.on_fault(LookupError())
    house.loop.close(hints.fd)
