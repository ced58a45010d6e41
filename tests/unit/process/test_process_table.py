"""The table of the applications that workers have started, in shared memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from errno import EAGAIN

import pytest

from chimirror.process.process_table import ProcessTable, WorkerProcesses

IDS = [f"{number:032x}" for number in range(1, 6)]


@pytest.fixture
def table() -> Iterator[ProcessTable]:
    made = ProcessTable(workers=2, capacity=3)
    yield made
    made.close()


def start(part: WorkerProcesses, session: str, pid: int, now: float = 5.0) -> None:
    """Enter a pid as the kernel does."""
    offset = part.begin(session, now)
    part.memory[offset : offset + 4] = pid.to_bytes(4, "little")
    part.end()


def test_entries_of_each_worker(table: ProcessTable) -> None:
    one, two = table.part(0), table.part(1)
    start(one, IDS[0], 11)
    start(two, IDS[1], 12)
    start(one, IDS[2], 13)
    assert table.entries(0) == [(IDS[0], 11), (IDS[2], 13)]
    assert table.entries(1) == [(IDS[1], 12)]
    assert table.sessions() == {IDS[n].encode() for n in range(3)}
    table.clear(0)
    assert table.entries(0) == []
    assert table.sessions() == {IDS[1].encode()}


def test_entries_are_used_again(table: ProcessTable) -> None:
    part = table.part(0)
    for number in range(3):
        start(part, IDS[number], 10 + number)
    with pytest.raises(OSError, match="too many sessions") as raised:
        part.begin(IDS[3], 6.0)
    assert raised.value.errno == EAGAIN
    part.release([IDS[1], IDS[4]])  # the last one is unknown
    assert (IDS[0] in part, IDS[1] in part) == (True, False)
    assert table.entries(0) == [(IDS[0], 10), (IDS[2], 12)]
    start(part, IDS[3], 14)
    assert table.entries(0) == [(IDS[0], 10), (IDS[3], 14), (IDS[2], 12)]


def test_a_start_in_progress(table: ProcessTable) -> None:
    part = table.part(1)
    start(part, IDS[0], 11)
    assert table.start_in_progress(1)[0] == 0.0
    offset = part.begin(IDS[1], 7.5)
    assert table.start_in_progress(1) == (7.5, 0)
    part.memory[offset : offset + 4] = (99).to_bytes(4, "little")
    assert table.start_in_progress(1) == (7.5, 99)
    part.end()
    assert table.start_in_progress(1)[0] == 0.0


def test_another_process_reads_it(table: ProcessTable) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            start(table.part(0), IDS[0], os.getpid())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert table.entries(0) == [(IDS[0], pid)]
    table.part(0)  # the next worker of this number
    assert table.entries(0) == []
