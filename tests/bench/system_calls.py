"""Counts system calls with strace(1): those of a service and of all that it starts.

A traced process is about ten times as slow. So nothing is timed meanwhile.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from processes import descendants
from serve import Service


def is_possible() -> bool:
    """Return True if strace is installed."""
    return shutil.which("strace") is not None


@contextmanager
def counted(service: Service) -> Iterator[list[int]]:
    """Count the calls until the end of the block. Then the list holds their number."""
    family = [service.pid, *(child.pid for child in descendants(service.pid))]
    found: list[int] = []
    with tempfile.NamedTemporaryFile("r") as summary:
        argv = ["strace", "-f", "-c", "-o", summary.name]
        argv += [f"--attach={pid}" for pid in family]
        with subprocess.Popen(argv, stderr=subprocess.PIPE) as tracer:
            assert tracer.stderr is not None
            for _ in family:
                tracer.stderr.readline()  # one line for each process that is attached
            try:
                yield found
            finally:
                tracer.send_signal(signal.SIGINT)
        found.append(total(Path(summary.name).read_text()))


def total(summary: str) -> int:
    """Return the number of calls of the last line of a summary."""
    words = summary.splitlines()[-1].split()
    return int(words[3])
