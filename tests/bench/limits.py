"""The limits of the machine: the sessions that they allow, and temporary changes.

Only limits that are too low are raised, to the needed value. They are restored on the
way out in all cases, unless another process has changed them meanwhile. Limits that
cannot be raised are reported, and bound the proposed size.

Follows proc_sys_kernel(5), proc_sys_fs(5) and cgroups(7).
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

PER_CORE = 25_000  # sessions: their pings cost about 4 % of a core
SESSION_MEMORY = 130_000  # bytes of memory of a session, clients included
FILES = 9  # open files of a session over all processes: two sockets, three pipes, spare
OTHERS = 2048  # tasks of the rest of the machine, which has ten files for each
AMPLE = 8  # pids that are reused at once make others kill the wrong process
SYSCTL = Path("/proc/sys")


class Limit(NamedTuple):
    """One limit in a file, with its use by the machine and by a session."""

    name: str
    path: Path
    used: int
    each: int
    ample: int = 1  # the factor by which a raised limit exceeds the need

    @property
    def value(self) -> int | None:
        """The current limit, or None if there is none."""
        try:
            return int(self.path.read_text().split()[0])
        except (OSError, ValueError):  # "max"
            return None

    @property
    def writable(self) -> bool:
        return os.access(self.path, os.W_OK)

    def capacity(self) -> int | None:
        """Return the number of sessions that the limit allows now."""
        value = self.value
        return None if value is None else max(0, value - self.used) // self.each

    def needed(self, sessions: int) -> int:
        return self.used + sessions * self.each


def session_limits() -> list[Limit]:
    """Return the limits of sessions with one process and one connection each."""
    tasks = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
    files = int((SYSCTL / "fs/file-nr").read_text().split()[0])
    tasks, files = tasks + OTHERS, files + 10 * OTHERS
    kernel, tracked = SYSCTL / "kernel", SYSCTL / "net/netfilter/nf_conntrack_max"
    found = [
        Limit("kernel.pid_max", kernel / "pid_max", tasks, 1, AMPLE),
        Limit("kernel.threads-max", kernel / "threads-max", tasks, 1),
        Limit("fs.file-max", SYSCTL / "fs/file-max", files, FILES),
        Limit("nf_conntrack_max", tracked, OTHERS, 1),
    ]
    found += [Limit(str(path), path, tasks, 1) for path in _pids_max()]
    return found


def _pids_max() -> list[Path]:
    """Return the task limits of this cgroup and its parents, in either version."""
    found = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "pids" not in controllers.split(","):
            continue
        root = Path("/sys/fs/cgroup") / ("pids" if controllers else "")
        group = root / path.strip("/")
        found += [
            directory / "pids.max"
            for directory in (group, *group.parents)
            if directory >= root
        ]
    return [path for path in found if path.exists()]


def size() -> tuple[int, str]:
    """Return the sessions that this machine should hold, and the limiting resource."""
    cores = len(os.sched_getaffinity(0))
    capacities = [(PER_CORE * cores, f"{cores} cores"), (_memory(), "memory")]
    for limit in session_limits():
        capacity = limit.capacity()
        if capacity is not None and not limit.writable:
            capacities.append((capacity, limit.name))
    if os.getuid() != 0:
        most = resource.getrlimit(resource.RLIMIT_NPROC)[1]
        if most != resource.RLIM_INFINITY:
            capacities.append((most - OTHERS, "RLIMIT_NPROC"))
    return min(capacities)


def _memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024 * 3 // 4 // SESSION_MEMORY
    raise LookupError("MemAvailable")


@contextmanager
def raised(sessions: int) -> Iterator[list[str]]:
    """Raise limits that are too low for so many sessions.

    Yields:
        A message for each raised or refused limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard))
    changed: list[tuple[Limit, int, int]] = []
    messages: list[str] = []
    try:
        for limit in session_limits():
            _raise(limit, sessions, changed, messages)
        yield messages
    finally:
        resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))
        for limit, before, after in reversed(changed):
            _restore(limit, before, after)


def _restore(limit: Limit, before: int, after: int) -> None:
    if limit.value != after:
        return
    try:
        limit.path.write_text(str(before))
    except OSError as error:
        print(f"{limit.name} was {before}: {error.strerror}", file=sys.stderr)


def _raise(
    limit: Limit,
    sessions: int,
    changed: list[tuple[Limit, int, int]],
    messages: list[str],
) -> None:
    before, after = limit.value, limit.needed(sessions)
    if before is None or before >= after:
        return
    after *= limit.ample
    # first, so that an interrupted run restores it
    changed.append((limit, before, after))
    try:
        limit.path.write_text(str(after))
    except OSError as error:
        changed.pop()
        messages.append(
            f"{limit.name} stays {before}, {after} is needed: {error.strerror}"
        )
    else:
        messages.append(f"{limit.name} raised from {before} to {after}, until the end")
