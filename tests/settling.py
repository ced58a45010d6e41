"""What /proc and the clock say: processes, descriptors, memory, and waits for them.

Law: every wait has a bound and an event (a pidfd, an end of file) wherever the kernel
offers one; what it does not announce is polled for, in one place, `until`.
Ignorance: nothing of chimirror but the mark that tests put into environments.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

PATIENCE = 30.0
MARK = "CHIMIRROR_TEST_MARK"
RESTLESS: set[int] = set()  # processes of tools, such as a browser, which start others


class Process(NamedTuple):
    pid: int
    parent: int
    state: str  # one letter, as in proc(5); Z is a zombie


def until(ask: Callable[[], object], what: str, timeout: float = PATIENCE) -> None:
    """Polls until `ask` says something true; `what` tells what was awaited."""
    limit = time.monotonic() + timeout
    while not ask():
        if time.monotonic() > limit:
            raise AssertionError(f"not within {timeout} s: {what}")
        select.select([], [], [], 0.005)


def ended(pid: int, timeout: float) -> bool:
    """Whether the process ends within `timeout`; it may be anybody's child."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], timeout)[0])
    finally:
        os.close(handle)


def silent(descriptor: int, timeout: float) -> bool:
    """Whether nothing (no byte, no end) arrives for `timeout`."""
    return not select.select([descriptor], [], [], timeout)[0]


def processes() -> list[Process]:
    """Every process of the machine at this moment."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (stat := read(f"/proc/{entry}/stat")):
            state, parent = stat.rpartition(b")")[2].split()[:2]
            found.append(Process(int(entry), int(parent), state.decode()))
    return found


def read(path: str) -> bytes:
    """A file of a process that may be going: empty once it has gone."""
    try:
        return Path(path).read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""


def descendants(pid: int) -> list[Process]:
    """Children and theirs, zombies too; not itself, nor those of the restless."""
    every = processes()
    found: list[Process] = []
    parents = {pid}
    while parents:
        born = [process for process in every if process.parent in parents]
        found += born
        parents = {process.pid for process in born} - RESTLESS
    return found


def stopped() -> set[int]:
    """Every process that a signal has stopped."""
    return {process.pid for process in processes() if process.state == "T"}


def marked(mark: str) -> list[int]:
    """Processes, wherever they are, that were started with this mark."""
    wanted = f"{MARK}={mark}".encode()
    return [
        int(entry)
        for entry in os.listdir("/proc")
        if entry.isdigit() and wanted in read(f"/proc/{entry}/environ").split(b"\0")
    ]


def name_of(pid: int) -> str:
    """The command line; empty for a process that has gone."""
    return read(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode().strip()


def comm(pid: int) -> str:
    """What the process calls itself."""
    return read(f"/proc/{pid}/comm").decode().strip()


def slay(pids: Iterable[int]) -> None:
    """Ends what a failing test would leave behind."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def parent_of(pid: int) -> int:
    return int(read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[1])


def field(pid: int, name: str, file: str = "status") -> int:
    """A size out of /proc/PID/status (or smaps_rollup), in bytes."""
    for line in read(f"/proc/{pid}/{file}").splitlines():
        key, _, value = line.partition(b":")
        if key == name.encode():
            return int(value.split()[0]) * 1024
    raise LookupError(f"no {name} of process {pid}")


class Memory:
    """The growth of resident memory, process by process, since it was made."""

    def __init__(self, pids: Iterable[int]) -> None:
        self.idle: dict[int, int] = {}
        for pid in pids:
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # VmHWM := VmRSS
            self.idle[pid] = field(pid, "VmRSS")

    def growth(self) -> int:
        """The largest growth of any of them, at its peak, in bytes."""
        return max(field(pid, "VmHWM") - idle for pid, idle in self.idle.items())


def written(pid: int) -> int:
    """Bytes that a process has written so far (proc(5), io: wchar)."""
    for line in read(f"/proc/{pid}/io").splitlines():
        if line.startswith(b"wchar:"):
            return int(line.split()[1])
    raise LookupError(f"no io of process {pid}")


def steady(count: Callable[[], int]) -> Callable[[], bool]:
    """A question for `until`: past 64 KiB, and the same for thirty looks in a row?"""
    seen = [0, 0]

    def ask() -> bool:
        now = count()
        seen[1] = seen[1] + 1 if now == seen[0] and now > 1 << 16 else 0
        seen[0] = now
        return seen[1] >= 30

    return ask


def listening(port: int) -> bool:
    """Whether anything of this network namespace listens on the TCP port."""
    wanted = f":{port:04X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in read(table).decode().splitlines()[1:]:
            _, local, _, state = line.split()[:4]
            if state == "0A" and local.endswith(wanted):
                return True
    return False
