"""Ended children by signalfd(2): the pid is a hint, and no more than that."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

import pytest

from chimirror.process import children
from chimirror.process.sigchld import SigchldReader
from loops import turn_until
from spawner_fixture import SpawnerHarness, spawner_harness


@pytest.fixture
def harness() -> Iterator[SpawnerHarness]:
    with spawner_harness() as one:
        hints = SigchldReader(one.loop, one.spawner)
        try:
            yield one
        finally:
            if hints.fd >= 0:
                one.loop.close(hints.fd)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGCHLD,))


def test_one_end(harness: SpawnerHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reported pid is reaped first, then any other child."""
    asked: list[int] = []
    next_ended = children.next_ended

    def note(pid: int = -1) -> tuple[int, int] | None:
        asked.append(pid)
        return next_ended(pid)

    monkeypatch.setattr(children, "next_ended", note)
    client = harness.sh("read go; exit 3")
    # the tick of the OOM setting looks for ended children, too
    turn_until(harness.loop, lambda: not harness.spawner.armed)
    asked.clear()
    os.write(client.pipes[0], b"\n")
    harness.output_of(client)
    assert client.status == 3
    assert asked == [client.pid, -1]


def test_ends_that_share_a_signal(harness: SpawnerHarness) -> None:
    clients = [harness.sh("read go; exit 4") for _ in range(20)]
    for client in clients:
        os.write(client.pipes[0], b"\n")
    for client in clients:
        os.waitid(os.P_PID, client.pid, os.WEXITED | os.WNOWAIT)
    for client in clients:
        harness.output_of(client)
    assert [client.status for client in clients] == [4] * 20


def test_a_signal_from_another_process(harness: SpawnerHarness) -> None:
    """The signal names no child of this process."""
    client = harness.sh("cat")
    os.kill(os.getpid(), signal.SIGCHLD)
    harness.loop.run_once()
    assert client.status is None


def test_an_application_has_the_signal_unblocked(harness: SpawnerHarness) -> None:
    client = harness.sh("exec grep SigBlk /proc/self/status")
    assert harness.output_of(client) == b"SigBlk:\t0000000000000000\n"


@pytest.mark.parametrize("without", ["system", "ctypes"])
def test_without_signalfd_the_signal_is_handled(
    without: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if without == "system":
        monkeypatch.setattr(sys, "platform", "other")
    else:
        monkeypatch.setitem(sys.modules, "_ctypes", None)
    with spawner_harness() as harness:
        assert SigchldReader(harness.loop, harness.spawner).fd == -1
        client = harness.sh("exit 3")
        turn_until(harness.loop, lambda: client.status is not None)
        assert client.status == 3


def test_an_internal_error_is_passed_on(harness: SpawnerHarness) -> None:
    hints = SigchldReader(harness.loop, harness.spawner)
    with pytest.raises(LookupError):
        hints.on_error(LookupError())
    harness.loop.close(hints.fd)
