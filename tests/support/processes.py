"""Reads processes, descriptors and memory from /proc, and waits for processes.

Every wait has a time limit, and waits for an event (a pidfd, an end of file) if the
kernel offers one. Everything else is polled in one place, `until`. Knows nothing of
chimirror except the mark that tests put into environments.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

PATIENCE = 200.0  # seconds; is reached only by a wait that fails its test
MARK = "CHIMIRROR_TEST_MARK"
# processes of tools, such as a browser, that start and end processes at any time
TOOL_PROCESSES: set[int] = set()


class Process(NamedTuple):
    pid: int
    parent: int
    state: str  # one letter, as in proc(5): Z is a zombie


def until(ask: Callable[[], object], what: str, timeout: float | None = None) -> None:
    """Poll until `ask` returns a true value.

    The interval grows with the time that `ask` takes. A slow call, for example of a
    command, must not take the processor from the processes it waits for.

    Args:
        what: description of the awaited event, for the error.
        timeout: seconds.

    Raises:
        AssertionError: `ask` has not returned a true value within the timeout.
    """
    timeout = PATIENCE if timeout is None else timeout
    began = now = time.monotonic()
    while not ask():
        asked, now = now, time.monotonic()
        if now > began + timeout:
            raise AssertionError(f"not within {timeout} s: {what}")
        select.select([], [], [], min(max(0.005, now - asked), 0.1))
        now = time.monotonic()


def ended(pid: int, timeout: float) -> bool:
    """Return True if the process ends within `timeout` seconds. Need not be a child."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], timeout)[0])
    finally:
        os.close(handle)


def silent(descriptor: int, timeout: float) -> bool:
    """Return True if no byte and no end of file arrives for `timeout` seconds."""
    return not select.select([descriptor], [], [], timeout)[0]


def processes() -> list[Process]:
    """Return all processes of this machine."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (stat := read(f"/proc/{entry}/stat")):
            state, parent = stat.rpartition(b")")[2].split()[:2]
            found.append(Process(int(entry), int(parent), state.decode()))
    return found


def read(path: str) -> bytes:
    """Read a file of a process in /proc. Returns no bytes once the process has gone."""
    found = b""
    try:
        descriptor = os.open(path, os.O_RDONLY)  # most tests read hundreds of files
        try:
            while part := os.read(descriptor, 1 << 16):
                found += part
        finally:
            os.close(descriptor)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""
    return found


def descendants(pid: int) -> list[Process]:
    """Return all descendants (also zombies) except those of TOOL_PROCESSES."""
    every = processes()
    found: list[Process] = []
    parents = {pid}
    while parents:
        born = [process for process in every if process.parent in parents]
        found += born
        parents = {process.pid for process in born} - TOOL_PROCESSES
    return found


def stopped() -> set[int]:
    """Return all processes that a signal has stopped."""
    return {process.pid for process in processes() if process.state == "T"}


def marked(mark: str) -> list[int]:
    """Return all processes on this machine that were started with this mark."""
    wanted = f"{MARK}={mark}".encode()
    return [
        int(entry)
        for entry in os.listdir("/proc")
        if entry.isdigit() and wanted in read(f"/proc/{entry}/environ").split(b"\0")
    ]


def name_of(pid: int) -> str:
    """Return the command line. Returns an empty string if the process has gone."""
    return read(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode().strip()


def comm(pid: int) -> str:
    """Return the comm name of a process (proc(5))."""
    return read(f"/proc/{pid}/comm").decode().strip()


def is_pending(pid: int, number: int) -> bool:
    """Return True if a signal was sent to a process that has not received it."""
    for line in read(f"/proc/{pid}/status").splitlines():
        if line.startswith(b"ShdPnd:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def kill_processes(pids: Iterable[int]) -> None:
    """Kill these processes, which a failing test would leave behind."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def require_access(pid: int) -> None:
    """Skip a test that needs the private files of a program that serves.

    These programs are not dumpable, so that only root may read their files in /proc.
    """
    if not os.access(f"/proc/{pid}/environ", os.R_OK) and os.path.exists(
        f"/proc/{pid}"
    ):
        pytest.skip("only root can look into a program that serves")


def descriptors(pid: int) -> int:
    """Return the number of open descriptors: 0 once the process has gone."""
    require_access(pid)
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except (FileNotFoundError, ProcessLookupError):
        return 0


def parent_of(pid: int) -> int:
    """Return the pid of the parent: 0 once the process has gone."""
    fields = read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return int(fields[1]) if fields else 0


def only_child(pid: int) -> int:
    """Return the only child of a process. Waits until there is one."""
    found: list[int] = []

    def ask() -> bool:
        found[:] = [one.pid for one in processes() if one.parent == pid]
        return len(found) == 1

    until(ask, f"one child of {pid}")
    return found[0]


def field(pid: int, name: str, file: str = "status") -> int:
    """Return a size from /proc/PID/status or smaps_rollup, in bytes."""
    for line in read(f"/proc/{pid}/{file}").splitlines():
        key, _, value = line.partition(b":")
        if key == name.encode():
            return int(value.split()[0]) * 1024
    raise LookupError(f"no {name} of process {pid}")


class Memory:
    """The growth of resident memory of each process since this object was created.

    More pages of files do not count: a forked process maps those of its program when it
    uses them.

    Args:
        pids: the processes.
        may_end: whether the growth of a process that ends meanwhile does not count.
    """

    def __init__(self, pids: Iterable[int], *, may_end: bool = False) -> None:
        self.errors = (LookupError, OSError) if may_end else ()
        self.idle: dict[int, tuple[int, int]] = {}  # all pages, and those of files
        for pid in pids:
            with suppress(*self.errors):
                require_access(pid)
                Path(f"/proc/{pid}/clear_refs").write_text("5")  # VmHWM := VmRSS
                self.idle[pid] = field(pid, "VmRSS"), field(pid, "RssFile")

    def growth(self) -> int:
        """Return the largest peak growth of all processes, in bytes."""
        found: list[int] = []
        for pid, (idle, of_files) in self.idle.items():
            with suppress(*self.errors):
                more_of_files = max(0, field(pid, "RssFile") - of_files)
                found.append(field(pid, "VmHWM") - idle - more_of_files)
        return max(found)


@contextmanager
def descriptor_limit(soft: int) -> Iterator[None]:
    """Lower the limit of descriptors of this process, for those that it starts."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def written(pid: int) -> int:
    """Return the bytes that a process has written so far (proc(5), io: wchar)."""
    require_access(pid)
    for line in read(f"/proc/{pid}/io").splitlines():
        if line.startswith(b"wchar:"):
            return int(line.split()[1])
    raise LookupError(f"no io of process {pid}")


def steady(count: Callable[[], int], *, above: int = 1 << 16) -> Callable[[], bool]:
    """Return a question for `until`: has a count of bytes stopped growing?

    True once thirty calls in a row have found the same count.

    Args:
        above: a count up to this is taken for a slow start, by default 64 KiB.
    """
    seen = [0, 0]

    def ask() -> bool:
        now = count()
        seen[1] = seen[1] + 1 if now == seen[0] and now > above else 0
        seen[0] = now
        return seen[1] >= 30

    return ask


def listening(address: int | Path) -> bool:
    """Return True if a process in this network namespace listens there.

    A Unix socket has a path some time before it listens (proc_pid_net(5): flags).

    Args:
        address: a TCP port, or the path of a Unix socket.
    """
    if isinstance(address, Path):
        rows = [line.split() for line in read("/proc/net/unix").decode().splitlines()]
        return any(row[7:] == [str(address)] and row[3] == "00010000" for row in rows)
    port = address
    wanted = f":{port:04X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in read(table).decode().splitlines()[1:]:
            _, local, _, state = line.split()[:4]
            if state == "0A" and local.endswith(wanted):
                return True
    return False


def let_others_in(directory: Path) -> None:
    """Let every user enter a directory of a test, and those above it."""
    top = Path(tempfile.gettempdir())
    for each in (directory, *directory.parents):
        if each == top:
            break
        each.chmod(0o755)
