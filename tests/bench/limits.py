"""The machine's limits: how many sessions they allow, raising them, giving them back.

Law: what is raised is what is too low, and no higher than asked; it is restored on the
way out whatever happens, unless somebody else has changed it meanwhile. What may not
be raised is said, and bounds the size that is proposed.
Ignorance: what the sessions are for. proc_sys_kernel(5), proc_sys_fs(5), cgroups(7).
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
EACH = 130_000  # bytes of memory that a session may cost, clients included
FILES = 9  # open files of a session over all processes: two sockets, three pipes, spare
OTHERS = 2048  # tasks, and files by the tenfold, for the rest of the machine
AMPLE = 8  # numbers that are used again at once make others kill the wrong process
SYSCTL = Path("/proc/sys")


class Limit(NamedTuple):
    """One file with a number, what is taken of it, and what a session takes."""

    name: str
    path: Path
    used: int
    each: int
    ample: int = 1  # how many times what is needed, where it is raised at all

    @property
    def value(self) -> int | None:
        """None: there is no such limit here."""
        try:
            return int(self.path.read_text().split()[0])
        except (OSError, ValueError):  # "max"
            return None

    @property
    def writable(self) -> bool:
        return os.access(self.path, os.W_OK)

    def room(self) -> int | None:
        """Sessions that it allows as it is."""
        value = self.value
        return None if value is None else max(0, value - self.used) // self.each

    def needed(self, sessions: int) -> int:
        return self.used + sessions * self.each


def every() -> list[Limit]:
    """Those that sessions meet, one process and one connection each."""
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
    """What bounds the tasks of our cgroup and of those above it, in either version."""
    found = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "pids" not in controllers.split(","):
            continue
        root = Path("/sys/fs/cgroup") / ("pids" if controllers else "")
        group = root / path.strip("/")
        found += [one / "pids.max" for one in (group, *group.parents) if one >= root]
    return [path for path in found if path.exists()]


def size() -> tuple[int, str]:
    """Sessions that this machine should hold, and what they are bounded by."""
    cores = len(os.sched_getaffinity(0))
    rooms = [(PER_CORE * cores, f"{cores} cores"), (_memory(), "memory")]
    for limit in every():
        room = limit.room()
        if room is not None and not limit.writable:
            rooms.append((room, limit.name))
    if os.getuid() != 0:
        most = resource.getrlimit(resource.RLIMIT_NPROC)[1]
        if most != resource.RLIM_INFINITY:
            rooms.append((most - OTHERS, "RLIMIT_NPROC"))
    return min(rooms)


def _memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024 * 3 // 4 // EACH
    raise LookupError("MemAvailable")


@contextmanager
def raised(sessions: int) -> Iterator[list[str]]:
    """Raises what is too low for so many sessions; yields what there is to say."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard))
    changed: list[tuple[Limit, int, int]] = []
    said: list[str] = []
    try:
        for limit in every():
            _raise(limit, sessions, changed, said)
        yield said
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
    limit: Limit, sessions: int, changed: list[tuple[Limit, int, int]], said: list[str]
) -> None:
    before, after = limit.value, limit.needed(sessions)
    if before is None or before >= after:
        return
    after *= limit.ample
    changed.append((limit, before, after))  # first, for whoever interrupts us now
    try:
        limit.path.write_text(str(after))
    except OSError as error:
        changed.pop()
        said.append(f"{limit.name} stays {before}, {after} is needed: {error.strerror}")
    else:
        said.append(f"{limit.name} raised from {before} to {after}, until the end")
