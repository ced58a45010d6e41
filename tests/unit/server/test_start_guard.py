"""When starts that hang are ended. Time is injected, and processes are real."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from chimirror.io.loop import EventLoop
from chimirror.process.process_table import ProcessTable
from chimirror.server.start_guard import WorkerGuard, ZygoteGuard
from chimirror.server.worker_process import WorkerProcess
from chimirror.spawn.start_marks import StartMarks
from loops import FakeTime

SESSION = f"{7:032x}"


@contextmanager
def sleeping() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


def wait(loop: EventLoop, time: FakeTime, seconds: float) -> None:
    end = time.now + seconds
    while time.now < end:
        loop.run_once()


def test_the_application_is_killed_before_the_worker() -> None:
    time, said = FakeTime(), list[str]()
    loop = EventLoop(time, time)
    table = ProcessTable(workers=1, capacity=4)
    with sleeping() as worker, sleeping() as application:
        process = WorkerProcess(0, worker.pid, 0.0, lambda *_: None)
        guard = WorkerGuard(loop, table, {process}, said.append)
        guard.enable()

        part = table.part(0)
        for _ in range(10):  # a worker that is busy with other starts
            part.begin(SESSION, time.now)
            wait(loop, time, guard.interval)
            part.end()
            part.release([SESSION])
        wait(loop, time, 3 * guard.timeout)
        assert said == []
        offset = part.begin(SESSION, time.now)
        part.memory[offset : offset + 4] = application.pid.to_bytes(4, "little")
        wait(loop, time, guard.timeout + 2 * guard.interval)
        label = f"worker 0 (pid {worker.pid})"
        assert said == [f"killed an application of {label}: its start has hung"]
        assert application.wait(30) == -signal.SIGKILL
        assert os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOHANG) is None
        wait(loop, time, guard.timeout)
        assert said[1:2] == [f"killed {label}: it has hung in a start"]
        assert worker.wait(30) == -signal.SIGKILL
        guard.disable()
    table.close()
    loop.close_all()


def test_a_zygote_is_killed_once_for_a_start_that_hangs() -> None:
    time = FakeTime()
    loop = EventLoop(time, time)
    marks, reasons = StartMarks(2), list[str]()
    guard = ZygoteGuard(loop, marks, reasons.append)
    guard.enable()

    for _ in range(10):  # a zygote that is busy with other starts
        marks.begin(1, 7, time.now)
        wait(loop, time, guard.interval)
        marks.end(1)
    wait(loop, time, 2 * guard.timeout)
    assert reasons == []
    marks.begin(0, 8, time.now)
    wait(loop, time, 3 * guard.timeout)
    assert reasons == ["it has hung in a start for 10 s"]
    assert (marks.take(0), marks.take(0), marks.take(1)) == (8, 0, 0)
    marks.reset()
    wait(loop, time, 2 * guard.timeout)
    marks.begin(0, 9, time.now)
    wait(loop, time, 3 * guard.timeout)
    assert len(reasons) == 2
    loop.close_all()
