"""When a start that hangs is ended. Time is injected, and processes are real."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from chimirror.io.loop import EventLoop
from chimirror.process.process_table import ProcessTable
from chimirror.server.start_guard import CHECK_INTERVAL, START_TIMEOUT, StartGuard
from chimirror.server.worker_process import WorkerProcess
from loops import FakeTime

SESSION = f"{7:032x}"


@contextmanager
def sleeping() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


def test_the_application_is_killed_before_the_worker() -> None:
    time, said = FakeTime(), list[str]()
    loop = EventLoop(time, time)
    table = ProcessTable(workers=1, capacity=4)
    with sleeping() as worker, sleeping() as application:
        process = WorkerProcess(0, worker.pid, 0.0, lambda *_: None)
        guard = StartGuard(loop, table, {process}, said.append)
        guard.enable()

        def wait(seconds: float) -> None:
            end = time.now + seconds
            while time.now < end:
                loop.run_once()

        part = table.part(0)
        for _ in range(10):  # a worker that is busy with other starts
            part.begin(SESSION, time.now)
            wait(CHECK_INTERVAL)
            part.end()
            part.release([SESSION])
        wait(3 * START_TIMEOUT)
        assert said == []
        offset = part.begin(SESSION, time.now)
        part.memory[offset : offset + 4] = application.pid.to_bytes(4, "little")
        wait(START_TIMEOUT + 2 * CHECK_INTERVAL)
        label = f"worker 0 (pid {worker.pid})"
        assert said == [f"killed an application of {label}: its start has hung"]
        assert application.wait(30) == -signal.SIGKILL
        assert os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOHANG) is None
        wait(START_TIMEOUT)
        assert said[1:2] == [f"killed {label}: it has hung in a start"]
        assert worker.wait(30) == -signal.SIGKILL
        guard.disable()
    table.close()
    loop.close_all()
